//! Fills of a broker that shows only what is filled of an order in all: derived under the lock of the order's row, in
//! the transaction that stores them.

use super::batch::{Fresh, Suspect};
use super::error::sorted;
use crate::application::ports::StoreError;
use crate::domain::cumulative::{Change, Cumulative, execution_id};
use crate::domain::identity::{ExecutionKind, Identity};
use crate::domain::reading::{BrokerProfile, Figures, Poison, Reading, derive_fill};
use contracts::ids::BrokerOrderId;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;

/// What came of the figures of a batch.
#[derive(Default)]
pub(super) struct Derived {
    /// Fills, each with the place of the event that showed it.
    pub(super) fills: Vec<(usize, Reading)>,
    /// Figures that contradict known ones.
    pub(super) suspects: Vec<Suspect>,
    /// Increases that are no fills, with the place of the event.
    pub(super) poison: Vec<(usize, Poison)>,
}

/// What is known of an order, and what it becomes.
struct Known {
    stored: Cumulative,
    stored_open: bool,
    now: Cumulative,
    open: bool,
}

impl Known {
    fn is_changed(&self) -> bool {
        self.stored != self.now || self.stored_open != self.open
    }
}

/// Locks the orders' rows, in key order, compares the figures in the order of arrival, and writes what is new.
pub(super) async fn derive(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    shown: &[&Fresh<'_>],
    now: OffsetDateTime,
) -> Result<Derived, StoreError> {
    let mut derived = Derived::default();
    let with_figures: Vec<(usize, &Fresh<'_>, Figures)> =
        shown.iter().enumerate().filter_map(|(place, fresh)| Some((place, *fresh, fresh.read.figures?))).collect();
    if with_figures.is_empty() {
        return Ok(derived);
    }
    let mut known = lock(conn, profile, &with_figures, now).await?;
    for (place, fresh, figures) in with_figures {
        let id = &fresh.read.event.broker_order_id;
        let order = known.get_mut(id.as_str()).ok_or_else(|| StoreError::Corrupt(format!("no figures of {id}")))?;
        match take(profile, fresh, figures.filled, order.now) {
            Ok(Taken::Nothing) => {}
            Ok(Taken::Suspect(suspect)) => derived.suspects.push(*suspect),
            Ok(Taken::Fills(fills)) => {
                derived.fills.extend(fills.into_iter().map(|fill| (place, fill)));
                order.now = figures.filled;
            }
            // It is asked for again as long as its figures cannot be read.
            Err(poison) => {
                derived.poison.push((place, poison));
                continue;
            }
        }
        order.open &= !figures.is_ended;
    }
    write(conn, profile, &known, now).await?;
    Ok(derived)
}

enum Taken {
    Nothing,
    Suspect(Box<Suspect>),
    Fills(Vec<Reading>),
}

fn take(profile: &BrokerProfile, fresh: &Fresh<'_>, now: Cumulative, known: Cumulative) -> Result<Taken, Poison> {
    match known.change(now) {
        Change::Nothing => Ok(Taken::Nothing),
        Change::OtherAmount => suspect(profile, fresh, now, known).map(|suspect| Taken::Suspect(Box::new(suspect))),
        Change::Increase(parts) => {
            let fills = parts.into_iter().map(|part| derive_fill(profile, fresh.raw, part));
            fills.collect::<Result<_, _>>().map(Taken::Fills)
        }
    }
}

/// The same quantity for other money: a person looks, under the id of the fill that led there.
fn suspect(profile: &BrokerProfile, fresh: &Fresh<'_>, now: Cumulative, known: Cumulative) -> Result<Suspect, Poison> {
    let order: &BrokerOrderId = &fresh.read.event.broker_order_id;
    let execution_id = execution_id(order, known.quantity)?;
    let identity = Identity::Execution { scope: String::new(), kind: ExecutionKind::Fill, execution_id };
    let told = |figures: Cumulative| format!("order={order} filled={} for={}", figures.quantity, figures.amount);
    Ok(Suspect {
        reason: "terms_differ",
        broker_order_id: order.as_str().to_owned(),
        event_id: identity.event_id(&profile.broker),
        known: told(known),
        seen: told(now),
        sha256: fresh.raw.sha256(),
    })
}

/// Makes the rows that are missing and locks all of them.
async fn lock(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    shown: &[(usize, &Fresh<'_>, Figures)],
    now: OffsetDateTime,
) -> Result<BTreeMap<String, Known>, StoreError> {
    let mut ids: Vec<String> =
        shown.iter().map(|(_, fresh, _)| fresh.read.event.broker_order_id.as_str().to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    sqlx::query!(
        "insert into cumulative_fills (broker, broker_order_id, quantity, amount, open, seen_at)
         select $1, u.id, 0, 0, true, $3 from unnest($2::text[]) as u (id)
         order by u.id
         on conflict (broker, broker_order_id) do nothing",
        profile.broker.as_str(),
        &ids,
        now,
    )
    .execute(&mut *conn)
    .await
    .map_err(sorted)?;
    let mut known = BTreeMap::new();
    let rows = sqlx::query!(
        "select c.broker_order_id, c.quantity, c.amount, c.open
         from unnest($2::text[]) as u (id)
         cross join lateral (
             select f.broker_order_id, f.quantity, f.amount, f.open
             from cumulative_fills f where f.broker = $1 and f.broker_order_id = u.id
             for no key update
         ) c",
        profile.broker.as_str(),
        &ids,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    for row in rows {
        let stored = Cumulative { quantity: row.quantity, amount: row.amount };
        known.insert(row.broker_order_id, Known { stored, stored_open: row.open, now: stored, open: row.open });
    }
    Ok(known)
}

/// Replaces the figures that were read by what they are now.
async fn write(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    known: &BTreeMap<String, Known>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let changed: Vec<(&String, &Known)> = known.iter().filter(|(_, order)| order.is_changed()).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = changed.iter().map(|(id, _)| (*id).clone()).collect();
    let before: Vec<Decimal> = changed.iter().map(|(_, order)| order.stored.quantity).collect();
    let quantities: Vec<Decimal> = changed.iter().map(|(_, order)| order.now.quantity).collect();
    let amounts: Vec<Decimal> = changed.iter().map(|(_, order)| order.now.amount).collect();
    let open: Vec<bool> = changed.iter().map(|(_, order)| order.open).collect();
    let done = sqlx::query!(
        "update cumulative_fills f
         set quantity = u.quantity, amount = u.amount, open = u.open, seen_at = $7
         from unnest($2::text[], $3::numeric[], $4::numeric[], $5::numeric[], $6::boolean[])
             as u (id, before, quantity, amount, open)
         where f.broker = $1 and f.broker_order_id = u.id and f.quantity = u.before",
        profile.broker.as_str(),
        &ids,
        &before,
        &quantities,
        &amounts,
        &open,
        now,
    )
    .execute(conn)
    .await
    .map_err(sorted)?;
    if done.rows_affected() != changed.len() as u64 {
        return Err(StoreError::Corrupt("figures of an order changed under their lock".to_owned()));
    }
    Ok(())
}

/// Orders of which more may be filled, after an id.
pub(super) async fn open(
    conn: &mut PgConnection,
    broker: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    let rows = sqlx::query!(
        "select broker_order_id from cumulative_fills
         where broker = $1 and open and broker_order_id > $2
         order by broker_order_id
         limit $3",
        broker,
        after,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    Ok(rows.into_iter().map(|row| row.broker_order_id).collect())
}
