//! Broker orders: which order of ours each one is.

use super::batch::{Fresh, Suspect};
use super::error::sorted;
use crate::application::ports::StoreError;
use crate::domain::binding::{Absorbed, Binding};
use crate::domain::reading::BrokerProfile;
use contracts::Partition;
use contracts::ids::{BrokerOrderId, OrderId};
use sqlx::PgConnection;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use uuid::Uuid;

/// Where every broker order of a batch stands.
pub(super) struct Settlement {
    /// The binding of each, locked where it could still change.
    pub(super) bindings: BTreeMap<BrokerOrderId, Binding>,
    /// Those that were orphans, and are ours by an event of this batch.
    pub(super) completed: Vec<(String, Binding)>,
    /// Those that are a second one of the same order of ours.
    pub(super) second_orders: Vec<Suspect>,
}

/// Reads, makes and locks the rows of all broker orders of a batch. Whoever stores an orphan and
/// whoever learns what it is both hold its row, so neither misses the other.
pub(super) async fn settle(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    events: &[Fresh<'_>],
    now: OffsetDateTime,
) -> Result<Settlement, StoreError> {
    let shown = shown_by(profile, events);
    let ids: Vec<String> = shown.keys().map(|id| id.as_str().to_owned()).collect();
    let mut bindings = read(conn, profile, &ids).await?;
    let missing: Vec<(&BrokerOrderId, &Binding)> = shown.iter().filter(|(id, _)| !bindings.contains_key(*id)).collect();
    let mut second = Vec::new();
    let mut made = BTreeSet::new();
    if !missing.is_empty() {
        for (id, other) in insert(conn, profile, &missing, now).await? {
            second.extend(other.map(|other| (id.clone(), other)));
            made.insert(id);
        }
        second.extend(twice_in_batch(&missing));
    }
    bindings
        .extend(shown.iter().filter(|(id, _)| made.contains(*id)).map(|(id, binding)| (id.clone(), binding.clone())));
    // Not made by us and not settled: an orphan, or made by another copy just now.
    let open: Vec<String> = shown
        .keys()
        .filter(|id| !made.contains(*id) && bindings.get(*id).is_none_or(|binding| !binding.is_settled()))
        .map(|id| id.as_str().to_owned())
        .collect();
    let mut completed = Vec::new();
    if !open.is_empty() {
        let mut changed = Vec::new();
        for (id, mut binding) in lock(conn, profile, &open).await? {
            let Some(shown) = shown.get(&id) else { continue };
            match binding.absorb(shown) {
                Ok(Absorbed::Nothing) | Err(_) => {}
                Ok(Absorbed::Foreign) => changed.push((id.as_str().to_owned(), binding.clone())),
                Ok(Absorbed::Ours) => {
                    changed.push((id.as_str().to_owned(), binding.clone()));
                    completed.push((id.as_str().to_owned(), binding.clone()));
                }
            }
            bindings.insert(id, binding);
        }
        if !changed.is_empty() {
            second.extend(bind(conn, profile, &changed).await?);
        }
    }
    Ok(Settlement { bindings, completed, second_orders: second_orders(events, second) })
}

/// What the events of a batch show about each broker order: the first name wins, a second name is
/// dealt with when the events are taken one by one.
fn shown_by(profile: &BrokerProfile, events: &[Fresh<'_>]) -> BTreeMap<BrokerOrderId, Binding> {
    let mut shown: BTreeMap<BrokerOrderId, Binding> = BTreeMap::new();
    for fresh in events {
        let event = &fresh.read.event;
        let binding = Binding::of(&profile.broker, &event.broker_order_id, event.broker_client_order_id.as_deref());
        match shown.get_mut(&event.broker_order_id) {
            None => {
                shown.insert(event.broker_order_id.clone(), binding);
            }
            Some(known) => {
                let _conflict_is_parked_later = known.absorb(&binding);
            }
        }
    }
    shown
}

fn binding_of(
    id: String,
    client_order_id: Option<String>,
    order_id: Option<Uuid>,
    partition: i16,
) -> Result<(BrokerOrderId, Binding), StoreError> {
    let partition = Partition::new(partition).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let id = BrokerOrderId::new(id).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok((id, Binding { client_order_id, order_id: order_id.map(OrderId::new), partition }))
}

/// One by one by the whole key: a plan that is made while the table is empty looks for the broker alone, if
/// it may, and leaves the ids to a filter over all of its orders. `offset 0` takes that choice away.
async fn read(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    ids: &[String],
) -> Result<BTreeMap<BrokerOrderId, Binding>, StoreError> {
    let rows = sqlx::query!(
        "select b.broker_order_id, b.client_order_id, b.order_id, b.partition
         from unnest($2::text[]) as u (id)
         cross join lateral (
             select o.broker_order_id, o.client_order_id, o.order_id, o.partition
             from broker_orders o where o.broker = $1 and o.broker_order_id = u.id
             offset 0
         ) b",
        profile.broker.as_str(),
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    rows.into_iter()
        .map(|row| binding_of(row.broker_order_id, row.client_order_id, row.order_id, row.partition))
        .collect()
}

async fn lock(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    ids: &[String],
) -> Result<Vec<(BrokerOrderId, Binding)>, StoreError> {
    let rows = sqlx::query!(
        "select b.broker_order_id, b.client_order_id, b.order_id, b.partition
         from unnest($2::text[]) as u (id)
         cross join lateral (
             select o.broker_order_id, o.client_order_id, o.order_id, o.partition
             from broker_orders o where o.broker = $1 and o.broker_order_id = u.id
             for no key update
         ) b
         order by b.broker_order_id",
        profile.broker.as_str(),
        ids,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    rows.into_iter()
        .map(|row| binding_of(row.broker_order_id, row.client_order_id, row.order_id, row.partition))
        .collect()
}

/// Makes rows; answers those that are really new, each with another broker order of the same order
/// of ours, if there is one.
async fn insert(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    missing: &[(&BrokerOrderId, &Binding)],
    now: OffsetDateTime,
) -> Result<Vec<(BrokerOrderId, Option<String>)>, StoreError> {
    let ids: Vec<String> = missing.iter().map(|(id, _)| id.as_str().to_owned()).collect();
    let names: Vec<Option<String>> = missing.iter().map(|(_, binding)| binding.client_order_id.clone()).collect();
    let orders: Vec<Option<Uuid>> = missing.iter().map(|(_, binding)| binding.order_id.map(OrderId::as_uuid)).collect();
    let partitions: Vec<i16> = missing.iter().map(|(_, binding)| binding.partition.number()).collect();
    let rows = sqlx::query!(
        "insert into broker_orders (broker, broker_order_id, client_order_id, order_id, partition, first_seen_at)
         select $1, u.id, u.client_order_id, u.order_id, u.partition, $6
         from unnest($2::text[], $3::text[], $4::uuid[], $5::smallint[])
             as u (id, client_order_id, order_id, partition)
         order by u.id
         on conflict (broker, broker_order_id) do nothing
         returning broker_order_id,
             (select o.broker_order_id from broker_orders o
              where o.order_id = broker_orders.order_id and o.broker_order_id <> broker_orders.broker_order_id
              limit 1) as other",
        profile.broker.as_str(),
        &ids,
        &names as &[Option<String>],
        &orders as &[Option<Uuid>],
        &partitions,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    rows.into_iter()
        .map(|row| {
            let id = BrokerOrderId::new(row.broker_order_id).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            Ok((id, row.other))
        })
        .collect()
}

/// Writes what was learned about orphans; the rows are locked.
async fn bind(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    changed: &[(String, Binding)],
) -> Result<Vec<(BrokerOrderId, String)>, StoreError> {
    let ids: Vec<String> = changed.iter().map(|(id, _)| id.clone()).collect();
    let names: Vec<Option<String>> = changed.iter().map(|(_, binding)| binding.client_order_id.clone()).collect();
    let orders: Vec<Option<Uuid>> = changed.iter().map(|(_, binding)| binding.order_id.map(OrderId::as_uuid)).collect();
    let partitions: Vec<i16> = changed.iter().map(|(_, binding)| binding.partition.number()).collect();
    let rows = sqlx::query!(
        r#"update broker_orders b
           set client_order_id = u.client_order_id, order_id = u.order_id, partition = u.partition
           from unnest($2::text[], $3::text[], $4::uuid[], $5::smallint[])
               as u (id, client_order_id, order_id, partition)
           where b.broker = $1 and b.broker_order_id = u.id and b.client_order_id is null
           returning b.broker_order_id,
               (select o.broker_order_id from broker_orders o
                where o.order_id = u.order_id and o.broker_order_id <> b.broker_order_id limit 1) as other"#,
        profile.broker.as_str(),
        &ids,
        &names as &[Option<String>],
        &orders as &[Option<Uuid>],
        &partitions,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    if rows.len() != changed.len() {
        return Err(StoreError::Corrupt("an unbound broker order was bound under its lock".to_owned()));
    }
    let mut second = Vec::new();
    for row in rows {
        let id = BrokerOrderId::new(row.broker_order_id).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        second.extend(row.other.map(|other| (id, other)));
    }
    Ok(second)
}

fn twice_in_batch(missing: &[(&BrokerOrderId, &Binding)]) -> Vec<(BrokerOrderId, String)> {
    let mut first: BTreeMap<OrderId, &BrokerOrderId> = BTreeMap::new();
    let mut second = Vec::new();
    for (id, binding) in missing {
        let Some(order_id) = binding.order_id else { continue };
        match first.get(&order_id) {
            Some(other) => second.push(((*id).clone(), other.as_str().to_owned())),
            None => {
                first.insert(order_id, id);
            }
        }
    }
    second
}

/// One order of ours has two at the broker. That must never be, and a person must know.
fn second_orders(events: &[Fresh<'_>], second: Vec<(BrokerOrderId, String)>) -> Vec<Suspect> {
    let suspect = |(id, other): (BrokerOrderId, String)| {
        let fresh = events.iter().find(|fresh| fresh.read.event.broker_order_id == id)?;
        Some(Suspect {
            reason: "second_broker_order",
            broker_order_id: id.as_str().to_owned(),
            event_id: fresh.read.event_id,
            known: other,
            seen: id.as_str().to_owned(),
            sha256: fresh.raw.sha256(),
        })
    };
    second.into_iter().filter_map(suspect).collect()
}
