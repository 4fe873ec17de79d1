//! Fills of a broker that shows only what is filled of an order in all: derived under the lock of the order's row, in
//! the transaction that stores them.

use super::batch::{Fresh, Suspect};
use super::error::sorted;
use crate::application::ports::StoreError;
use crate::domain::cumulative::{Change, Cumulative, KnownOrder, execution_id};
use crate::domain::identity::{ExecutionKind, Identity};
use crate::domain::reading::{BrokerProfile, Figures, Poison, RawFrame, Reading, derive_fill};
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
    stored_doubts: i32,
    /// As they become with this batch.
    order: KnownOrder,
}

impl Known {
    fn is_changed(&self) -> bool {
        self.stored != self.now || self.stored_open != self.open || self.stored_doubts != self.order.doubts
    }

    fn rise_to(&mut self, now: Cumulative) {
        self.now = now;
        self.order.quantity = now.quantity;
        self.order.fallen_to = None;
    }

    /// The broker is asked for the order: an event that shows less may be late.
    fn doubt(&mut self, shown: Decimal) {
        if self.order.falls_to(shown) {
            self.order.doubts = self.order.doubts.saturating_add(1);
        }
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
            Ok(Taken::Less) => order.doubt(figures.filled.quantity),
            Ok(Taken::Suspect(suspect)) => derived.suspects.push(*suspect),
            Ok(Taken::Fills(fills)) => {
                derived.fills.extend(fills.into_iter().map(|fill| (place, fill)));
                order.rise_to(figures.filled);
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
    Less,
    Suspect(Box<Suspect>),
    Fills(Vec<Reading>),
}

fn take(profile: &BrokerProfile, fresh: &Fresh<'_>, now: Cumulative, known: Cumulative) -> Result<Taken, Poison> {
    match known.change(now) {
        Change::Nothing => Ok(Taken::Nothing),
        Change::Less => Ok(Taken::Less),
        Change::OtherAmount => {
            let order = &fresh.read.event.broker_order_id;
            suspect(profile, order, "terms_differ", (known, now), fresh.raw)
                .map(|suspect| Taken::Suspect(Box::new(suspect)))
        }
        Change::Increase(parts) => {
            let fills = parts.into_iter().map(|part| derive_fill(profile, fresh.raw, part));
            fills.collect::<Result<_, _>>().map(Taken::Fills)
        }
    }
}

/// Figures that contradict the known ones: a person looks, under the id of the fill that led to those.
pub(super) fn suspect(
    profile: &BrokerProfile,
    order: &BrokerOrderId,
    reason: &'static str,
    (known, now): (Cumulative, Cumulative),
    raw: &RawFrame,
) -> Result<Suspect, Poison> {
    let execution_id = execution_id(order, known.quantity)?;
    let identity = Identity::Execution { scope: String::new(), kind: ExecutionKind::Fill, execution_id };
    let told = |figures: Cumulative| format!("order={order} filled={} for={}", figures.quantity, figures.amount);
    Ok(Suspect {
        reason,
        broker_order_id: order.as_str().to_owned(),
        event_id: identity.event_id(&profile.broker),
        known: told(known),
        seen: told(now),
        sha256: raw.sha256(),
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
        "select c.broker_order_id, c.quantity, c.amount, c.open, c.fallen_to, c.doubts
         from unnest($2::text[]) as u (id)
         cross join lateral (
             select f.broker_order_id, f.quantity, f.amount, f.open, f.fallen_to, f.doubts
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
        let (id, stored_open, stored_doubts) = (row.broker_order_id, row.open, row.doubts);
        let order =
            KnownOrder { id: id.clone(), quantity: stored.quantity, fallen_to: row.fallen_to, doubts: stored_doubts };
        known.insert(id, Known { stored, stored_open, now: stored, open: stored_open, stored_doubts, order });
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
    let fallen: Vec<Option<Decimal>> = changed.iter().map(|(_, order)| order.order.fallen_to).collect();
    let doubts: Vec<i32> = changed.iter().map(|(_, order)| order.order.doubts).collect();
    let done = sqlx::query!(
        "update cumulative_fills f
         set quantity = u.quantity, amount = u.amount, open = u.open, fallen_to = u.fallen_to, doubts = u.doubts,
             seen_at = $7
         from unnest($2::text[], $3::numeric[], $4::numeric[], $5::numeric[], $6::boolean[], $8::numeric[],
                     $9::integer[])
             as u (id, before, quantity, amount, open, fallen_to, doubts)
         where f.broker = $1 and f.broker_order_id = u.id and f.quantity = u.before",
        profile.broker.as_str(),
        &ids,
        &before,
        &quantities,
        &amounts,
        &open,
        now,
        &fallen as &[Option<Decimal>],
        &doubts,
    )
    .execute(conn)
    .await
    .map_err(sorted)?;
    if done.rows_affected() != changed.len() as u64 {
        return Err(StoreError::Corrupt("figures of an order changed under their lock".to_owned()));
    }
    Ok(())
}
