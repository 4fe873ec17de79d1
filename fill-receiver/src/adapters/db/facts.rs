//! Facts: one row an identity, and what contradicts them.

use super::batch::{Bound, Suspect};
use super::error::sorted;
use crate::application::ports::StoreError;
use crate::domain::identity::Identity;
use crate::domain::reading::BrokerProfile;
use contracts::ids::{EventId, OrderId};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// What became of a batch's facts.
pub(super) struct Recorded {
    /// The new ones, each with the hash of the frame that brought it.
    pub(super) inserted: BTreeMap<EventId, [u8; 32]>,
    /// How many were known already.
    pub(super) repeated: u64,
    /// Those that came with other terms than are known.
    pub(super) suspects: Vec<Suspect>,
}

/// Inserts facts in key order and answers which are new. Known ones are compared by their terms.
pub(super) async fn record(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    events: &[Bound],
    now: OffsetDateTime,
) -> Result<Recorded, StoreError> {
    let mut first: BTreeMap<EventId, &Bound> = BTreeMap::new();
    for event in events {
        first.entry(event.fresh.event.event_id).or_insert(event);
    }
    let inserted = insert(conn, profile, &first, now).await?;
    let known_ids: Vec<Uuid> = first.keys().filter(|id| !inserted.contains_key(id)).map(|id| id.as_uuid()).collect();
    let mut terms: BTreeMap<EventId, String> =
        if known_ids.is_empty() { BTreeMap::new() } else { known_terms(conn, &known_ids).await? };
    for (id, event) in &first {
        terms.entry(*id).or_insert_with(|| event.fresh.event.terms.clone());
    }
    let repeated = events.len().saturating_sub(inserted.len()) as u64;
    let suspects = events.iter().filter_map(|event| suspect(event, &terms)).collect();
    Ok(Recorded { inserted, repeated, suspects })
}

fn suspect(event: &Bound, terms: &BTreeMap<EventId, String>) -> Option<Suspect> {
    let read = &event.fresh.event;
    let known = terms.get(&read.event_id).filter(|known| **known != read.terms)?;
    Some(Suspect {
        reason: "terms_differ",
        broker_order_id: read.event.broker_order_id.as_str().to_owned(),
        event_id: read.event_id,
        known: known.clone(),
        seen: read.terms.clone(),
        sha256: event.fresh.sha256,
    })
}

async fn insert(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    events: &BTreeMap<EventId, &Bound>,
    now: OffsetDateTime,
) -> Result<BTreeMap<EventId, [u8; 32]>, StoreError> {
    let c = Columns::of(events);
    let rows = sqlx::query!(
        "insert into broker_events (event_id, broker, broker_order_id, kind, event, execution_id, terms, position,
                                    order_id, happened_at, raw_sha256, stored_at)
         select u.event_id, $1, u.broker_order_id, u.kind, u.event, u.execution_id, u.terms, u.position,
                u.order_id, u.happened_at, u.raw_sha256, $12
         from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[],
                     $10::timestamptz[], $11::bytea[])
             as u (event_id, broker_order_id, kind, event, execution_id, terms, position, order_id, happened_at, raw_sha256)
         order by u.event_id
         on conflict (event_id) do nothing
         returning event_id",
        profile.broker.as_str(),
        &c.ids,
        &c.broker_orders,
        &c.kinds,
        &c.events,
        &c.executions as &[Option<String>],
        &c.terms,
        &c.positions,
        &c.orders as &[Option<Uuid>],
        &c.times,
        &c.hashes,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    let of_row = |id: EventId| events.get(&id).map(|event| (id, event.fresh.sha256));
    Ok(rows.into_iter().filter_map(|row| of_row(EventId::new(row.event_id))).collect())
}

/// The columns of a batch, one array a column.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    broker_orders: Vec<String>,
    kinds: Vec<String>,
    events: Vec<String>,
    executions: Vec<Option<String>>,
    terms: Vec<String>,
    positions: Vec<String>,
    orders: Vec<Option<Uuid>>,
    times: Vec<OffsetDateTime>,
    hashes: Vec<Vec<u8>>,
}

impl Columns {
    fn of(events: &BTreeMap<EventId, &Bound>) -> Self {
        let mut columns = Self::default();
        for bound in events.values() {
            let read = &bound.fresh.event;
            columns.ids.push(read.event_id.as_uuid());
            columns.broker_orders.push(read.event.broker_order_id.as_str().to_owned());
            columns.kinds.push(read.identity.kind().to_owned());
            columns.events.push(read.event.event.clone());
            columns.executions.push(match &read.identity {
                Identity::Execution { execution_id, .. } => Some(execution_id.as_str().to_owned()),
                Identity::State { .. } => None,
            });
            columns.terms.push(read.terms.clone());
            columns.positions.push(bound.fresh.position.clone().unwrap_or_default());
            columns.orders.push(bound.binding.order_id.map(OrderId::as_uuid));
            columns.times.push(read.event.at);
            columns.hashes.push(bound.fresh.sha256.to_vec());
        }
        columns
    }
}

async fn known_terms(conn: &mut PgConnection, ids: &[Uuid]) -> Result<BTreeMap<EventId, String>, StoreError> {
    let rows = sqlx::query!("select event_id, terms from broker_events where event_id = any($1)", ids)
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
    Ok(rows.into_iter().map(|row| (EventId::new(row.event_id), row.terms)).collect())
}

/// An event that was stored before its order was known.
pub(super) struct Orphan {
    pub(super) event_id: EventId,
    pub(super) body: Vec<u8>,
}

/// Gives the stored facts of an orphan their order, and answers them in the order of the log. The
/// broker order's row is locked, so that no further orphan of it can be stored meanwhile.
pub(super) async fn adopt_orphans(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    broker_order_id: &str,
    order_id: OrderId,
) -> Result<Vec<Orphan>, StoreError> {
    let rows = sqlx::query!(
        r#"with adopted as (
               update broker_events set order_id = $3
               where broker = $1 and broker_order_id = $2 and order_id is null
               returning event_id, raw_sha256
           )
           select a.event_id, r.body
           from adopted a
           join raw_events r on r.broker = $1 and r.sha256 = a.raw_sha256
           join event_log l on l.event_id = a.event_id
           order by l.partition, l.seq"#,
        profile.broker.as_str(),
        broker_order_id,
        order_id.as_uuid(),
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    Ok(rows.into_iter().map(|row| Orphan { event_id: EventId::new(row.event_id), body: row.body }).collect())
}

/// Records contradictions; answers how many facts came with other terms than before.
pub(super) async fn insert_suspects(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    suspects: &[Suspect],
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    if suspects.is_empty() {
        return Ok(0);
    }
    let mut sorted_suspects: Vec<&Suspect> = suspects.iter().collect();
    sorted_suspects.sort_by_key(|suspect| (suspect.sha256, suspect.reason));
    let reasons: Vec<String> = sorted_suspects.iter().map(|s| s.reason.to_owned()).collect();
    let orders: Vec<String> = sorted_suspects.iter().map(|s| s.broker_order_id.clone()).collect();
    let events: Vec<Uuid> = sorted_suspects.iter().map(|s| s.event_id.as_uuid()).collect();
    let known: Vec<String> = sorted_suspects.iter().map(|s| s.known.clone()).collect();
    let seen: Vec<String> = sorted_suspects.iter().map(|s| s.seen.clone()).collect();
    let hashes: Vec<Vec<u8>> = sorted_suspects.iter().map(|s| s.sha256.to_vec()).collect();
    let rows = sqlx::query!(
        "insert into suspects (broker, reason, broker_order_id, event_id, known, seen, raw_sha256, seen_at)
         select $1, u.reason, u.broker_order_id, u.event_id, u.known, u.seen, u.raw_sha256, $8
         from unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bytea[])
             as u (reason, broker_order_id, event_id, known, seen, raw_sha256)
         on conflict on constraint suspects_once do nothing
         returning reason",
        profile.broker.as_str(),
        &reasons,
        &orders,
        &events,
        &known,
        &seen,
        &hashes,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    Ok(rows.iter().filter(|row| row.reason == "terms_differ").count() as u64)
}
