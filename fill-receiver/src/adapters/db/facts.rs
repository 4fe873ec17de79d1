//! Facts: one row an identity, and what else came under that identity.

use super::batch::{Bound, Suspect};
use super::error::sorted;
use crate::application::ports::StoreError;
use crate::domain::reading::{BrokerProfile, RawFrame, read_frame};
use contracts::ids::{EventId, OrderId};
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// What became of a batch's facts.
pub(super) struct Recorded {
    /// The new ones, each with the hash of the frame that brought it.
    pub(super) inserted: BTreeMap<EventId, [u8; 32]>,
    /// How many frames told what was known, in bytes that were not.
    pub(super) repeated: u64,
    /// Those of them that told it in other terms.
    pub(super) suspects: Vec<Suspect>,
}

/// What is stored under an identity.
struct Known {
    sha256: [u8; 32],
    terms: String,
}

/// Inserts facts in key order and finds out which are new. Others are compared by their terms.
pub(super) async fn record(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    events: &[Bound<'_>],
    now: OffsetDateTime,
) -> Result<Recorded, StoreError> {
    let mut first: BTreeMap<EventId, &Bound<'_>> = BTreeMap::new();
    for event in events {
        first.entry(event.fresh.read.event_id).or_insert(event);
    }
    let inserted = insert(conn, profile, &first, now).await?;
    if inserted.len() == events.len() {
        return Ok(Recorded { inserted, repeated: 0, suspects: Vec::new() });
    }
    let old: Vec<Uuid> = first.keys().filter(|id| !inserted.contains_key(id)).map(|id| id.as_uuid()).collect();
    let mut known = if old.is_empty() { BTreeMap::new() } else { read_known(conn, profile, &old).await? };
    for (id, sha256) in &inserted {
        if let Some(event) = first.get(id) {
            known.insert(*id, Known { sha256: *sha256, terms: event.fresh.read.terms.clone() });
        }
    }
    let repeats: Vec<&Bound<'_>> = events
        .iter()
        .filter(|event| known.get(&event.fresh.read.event_id).is_some_and(|k| k.sha256 != event.fresh.raw.sha256()))
        .collect();
    let repeated = insert_repeats(conn, profile, &repeats, now).await?;
    let suspects = repeats.into_iter().filter_map(|event| suspect(event, &known)).collect();
    Ok(Recorded { inserted, repeated, suspects })
}

fn suspect(event: &Bound<'_>, known: &BTreeMap<EventId, Known>) -> Option<Suspect> {
    let read = event.fresh.read;
    let known = known.get(&read.event_id).filter(|known| known.terms != read.terms)?;
    Some(Suspect {
        reason: "terms_differ",
        broker_order_id: read.event.broker_order_id.as_str().to_owned(),
        event_id: read.event_id,
        known: known.terms.clone(),
        seen: read.terms.clone(),
        sha256: event.fresh.raw.sha256(),
    })
}

async fn insert(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    events: &BTreeMap<EventId, &Bound<'_>>,
    now: OffsetDateTime,
) -> Result<BTreeMap<EventId, [u8; 32]>, StoreError> {
    let c = Columns::of(events);
    let rows = sqlx::query!(
        "insert into broker_events (event_id, broker, broker_order_id, kind, position, order_id, raw_sha256, body,
                                    stored_at)
         select u.event_id, $1, u.broker_order_id, u.kind, u.position, u.order_id, u.raw_sha256, u.body, $9
         from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::bytea[], $8::bytea[])
             as u (event_id, broker_order_id, kind, position, order_id, raw_sha256, body)
         order by u.event_id
         on conflict (event_id) do nothing
         returning event_id",
        profile.broker.as_str(),
        &c.ids,
        &c.broker_orders as &[&str],
        &c.kinds as &[&str],
        &c.positions as &[&str],
        &c.orders as &[Option<Uuid>],
        &c.hashes,
        &c.bodies as &[&[u8]],
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    let of_row = |id: EventId| events.get(&id).map(|event| (id, event.fresh.raw.sha256()));
    Ok(rows.into_iter().filter_map(|row| of_row(EventId::new(row.event_id))).collect())
}

/// The columns of a batch, one array a column.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<Uuid>,
    broker_orders: Vec<&'a str>,
    kinds: Vec<&'a str>,
    positions: Vec<&'a str>,
    orders: Vec<Option<Uuid>>,
    hashes: Vec<Vec<u8>>,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Columns<'a> {
    fn of(events: &BTreeMap<EventId, &'a Bound<'_>>) -> Self {
        let mut columns = Self::default();
        for bound in events.values() {
            let fresh = &bound.fresh;
            columns.ids.push(fresh.read.event_id.as_uuid());
            columns.broker_orders.push(fresh.read.event.broker_order_id.as_str());
            columns.kinds.push(fresh.read.identity.kind());
            columns.positions.push(fresh.position.as_deref().unwrap_or_default());
            columns.orders.push(bound.binding.order_id.map(OrderId::as_uuid));
            columns.hashes.push(fresh.raw.sha256().to_vec());
            columns.bodies.push(fresh.raw.bytes());
        }
        columns
    }
}

/// What is stored under identities, with the terms as this program reads the stored bytes.
async fn read_known(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    ids: &[Uuid],
) -> Result<BTreeMap<EventId, Known>, StoreError> {
    let rows = sqlx::query!("select event_id, body from broker_events where event_id = any($1)", ids)
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
    let known = |event_id: Uuid, body: Vec<u8>| {
        let reading = read_frame(profile, RawFrame::new(body));
        let terms = reading.outcome.map_or_else(|poison| poison.detail, |read| read.terms);
        (EventId::new(event_id), Known { sha256: reading.raw.sha256(), terms })
    };
    Ok(rows.into_iter().map(|row| known(row.event_id, row.body)).collect())
}

/// Keeps the bytes of repeats; answers how many were not kept before.
async fn insert_repeats(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    repeats: &[&Bound<'_>],
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    if repeats.is_empty() {
        return Ok(0);
    }
    let hashes: Vec<Vec<u8>> = repeats.iter().map(|event| event.fresh.raw.sha256().to_vec()).collect();
    let ids: Vec<Uuid> = repeats.iter().map(|event| event.fresh.read.event_id.as_uuid()).collect();
    let bodies: Vec<&[u8]> = repeats.iter().map(|event| event.fresh.raw.bytes()).collect();
    let done = sqlx::query!(
        "insert into repeats (broker, raw_sha256, event_id, body, seen_at)
         select $1, u.raw_sha256, u.event_id, u.body, $5
         from unnest($2::bytea[], $3::uuid[], $4::bytea[]) as u (raw_sha256, event_id, body)
         order by u.raw_sha256
         on conflict (broker, raw_sha256) do nothing",
        profile.broker.as_str(),
        &hashes,
        &ids,
        &bodies as &[&[u8]],
        now,
    )
    .execute(conn)
    .await
    .map_err(sorted)?;
    Ok(done.rows_affected())
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
               returning event_id, body
           )
           select a.event_id, a.body
           from adopted a
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

/// Records contradictions; answers the reasons of those that are new.
pub(super) async fn insert_suspects(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    suspects: &[Suspect],
    now: OffsetDateTime,
) -> Result<Vec<String>, StoreError> {
    if suspects.is_empty() {
        return Ok(Vec::new());
    }
    let mut in_key_order: Vec<&Suspect> = suspects.iter().collect();
    in_key_order.sort_by_key(|suspect| (suspect.sha256, suspect.reason));
    let reasons: Vec<&str> = in_key_order.iter().map(|s| s.reason).collect();
    let orders: Vec<&str> = in_key_order.iter().map(|s| s.broker_order_id.as_str()).collect();
    let events: Vec<Uuid> = in_key_order.iter().map(|s| s.event_id.as_uuid()).collect();
    let known: Vec<&str> = in_key_order.iter().map(|s| s.known.as_str()).collect();
    let seen: Vec<&str> = in_key_order.iter().map(|s| s.seen.as_str()).collect();
    let hashes: Vec<Vec<u8>> = in_key_order.iter().map(|s| s.sha256.to_vec()).collect();
    let rows = sqlx::query!(
        "insert into suspects (broker, reason, broker_order_id, event_id, known, seen, raw_sha256, seen_at)
         select $1, u.reason, u.broker_order_id, u.event_id, u.known, u.seen, u.raw_sha256, $8
         from unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::bytea[])
             as u (reason, broker_order_id, event_id, known, seen, raw_sha256)
         on conflict on constraint suspects_once do nothing
         returning reason",
        profile.broker.as_str(),
        &reasons as &[&str],
        &orders as &[&str],
        &events,
        &known as &[&str],
        &seen as &[&str],
        &hashes,
        now,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    Ok(rows.into_iter().map(|row| row.reason).collect())
}
