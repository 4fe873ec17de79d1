//! The event log: what this process tells the others, written in the transaction that makes it true.

use contracts::event::{Envelope, PAYLOAD_LEN_MAX, Payload, Producer};
use contracts::{AccountId, EventId, OrderId, Partition};
use serde_json::value::RawValue;
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

/// Why the log could not be written or read.
#[derive(Debug, Error)]
pub enum EventLogError {
    /// A payload does not serialise.
    #[error("event payload could not be written")]
    Encode(#[source] serde_json::Error),
    /// A payload is larger than the log takes.
    #[error("event payload of {len} bytes is larger than {max}", max = PAYLOAD_LEN_MAX)]
    TooLarge {
        /// Its size in bytes.
        len: usize,
    },
    /// The append failed.
    #[error("could not append to the event log")]
    Append(#[source] sqlx::Error),
    /// The database answered another number of rows than were written.
    #[error("event log took {actual} of {expected} events")]
    Incomplete {
        /// Rows that should be there.
        expected: usize,
        /// Rows that are.
        actual: usize,
    },
    /// The read failed.
    #[error("could not read the event log")]
    Read(#[source] sqlx::Error),
    /// A stored row is not an event.
    #[error("event log holds a row that is not an event: {0}")]
    Corrupt(String),
}

/// A place in one partition of a log: how far, and which event stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Sequence number; 0 before the first event.
    pub seq: i64,
    /// The event at `seq`; none at 0.
    pub event_id: Option<EventId>,
}

/// An event about to be appended.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its id.
    pub id: EventId,
    /// Which partition.
    pub partition: Partition,
    /// Type word.
    pub kind: &'static str,
    /// Version of the payload's shape.
    pub version: i16,
    /// The customer's account, where known.
    pub account_id: Option<AccountId>,
    /// Our order, where known.
    pub order_id: Option<OrderId>,
    /// When, by this process's clock.
    pub at: OffsetDateTime,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// JSON text of the payload.
    pub payload: String,
}

impl NewEvent {
    /// Builds an event around a payload.
    ///
    /// # Errors
    /// [`EventLogError::Encode`] or [`EventLogError::TooLarge`].
    pub fn of<P: Payload>(
        id: EventId,
        partition: Partition,
        account_id: Option<AccountId>,
        order_id: Option<OrderId>,
        at: OffsetDateTime,
        payload: &P,
    ) -> Result<Self, EventLogError> {
        let kind = payload.kind();
        let text = serde_json::to_string(payload).map_err(EventLogError::Encode)?;
        if text.len() > PAYLOAD_LEN_MAX {
            return Err(EventLogError::TooLarge { len: text.len() });
        }
        Ok(Self {
            id,
            partition,
            kind,
            version: P::VERSION,
            account_id,
            order_id,
            at,
            traceparent: order_id.map(crate::trace::traceparent_of),
            payload: text,
        })
    }
}

/// The columns of a batch of events, one array a column, as `unnest` takes them: for [`append`], and for a
/// statement that appends beside what else it writes.
#[derive(Default)]
pub struct Columns {
    /// Partitions.
    pub partitions: Vec<i16>,
    /// Places among the batch's events of the partition, from 1.
    pub ordinals: Vec<i64>,
    /// Ids.
    pub ids: Vec<Uuid>,
    /// The event before in the batch and partition; none for the first, whose predecessor is the head.
    pub previous: Vec<Option<Uuid>>,
    /// Type words.
    pub kinds: Vec<String>,
    /// Versions of the payloads' shapes.
    pub versions: Vec<i16>,
    /// The customers' accounts.
    pub accounts: Vec<Option<Uuid>>,
    /// Our orders.
    pub orders: Vec<Option<Uuid>>,
    /// When.
    pub times: Vec<OffsetDateTime>,
    /// W3C trace contexts.
    pub traces: Vec<Option<String>>,
    /// JSON texts.
    pub payloads: Vec<String>,
}

impl Columns {
    /// The columns of these events, in their order.
    #[must_use]
    pub fn of(events: &[NewEvent]) -> Self {
        let mut columns = Self::default();
        let mut tail: BTreeMap<Partition, (i64, Uuid)> = BTreeMap::new();
        for event in events {
            let (ordinal, previous) = match tail.get(&event.partition) {
                Some((ordinal, id)) => (ordinal + 1, Some(*id)),
                None => (1, None),
            };
            tail.insert(event.partition, (ordinal, event.id.as_uuid()));
            columns.partitions.push(event.partition.number());
            columns.ordinals.push(ordinal);
            columns.ids.push(event.id.as_uuid());
            columns.previous.push(previous);
            columns.kinds.push(event.kind.to_owned());
            columns.versions.push(event.version);
            columns.accounts.push(event.account_id.map(AccountId::as_uuid));
            columns.orders.push(event.order_id.map(OrderId::as_uuid));
            columns.times.push(event.at);
            columns.traces.push(event.traceparent.clone());
            columns.payloads.push(event.payload.clone());
        }
        columns
    }
}

/// Appends events and gives them their places. Must be the last statement before the commit: the
/// head rows that it locks, in ascending partition, are what every other writer waits for.
///
/// # Errors
/// [`EventLogError::Append`] from the database, [`EventLogError::Incomplete`] when a row is missing;
/// either way the transaction must be rolled back.
pub async fn append(
    conn: &mut PgConnection,
    producer: Producer,
    events: Vec<NewEvent>,
) -> Result<Vec<Envelope>, EventLogError> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let c = Columns::of(&events);
    let rows = sqlx::query!(
        r#"
        with new_event as (
            select *
            from unnest($1::smallint[], $2::bigint[], $3::uuid[], $4::uuid[], $5::text[], $6::smallint[],
                        $7::uuid[], $8::uuid[], $9::timestamptz[], $10::text[], $11::text[])
                as e (partition, ordinal, event_id, prev_id, type, version, account_id, order_id, at, traceparent, payload)
        ),
        last_event as (
            select distinct on (partition) partition, ordinal, event_id
            from new_event
            order by partition, ordinal desc
        ),
        head as (
            select h.partition, h.seq, h.event_id
            from event_heads h
            where h.partition in (select partition from last_event)
            order by h.partition
            for no key update of h
        ),
        moved as (
            update event_heads h
            set seq = head.seq + l.ordinal, event_id = l.event_id
            from head join last_event l on l.partition = head.partition
            where h.partition = head.partition
            returning h.partition
        )
        insert into event_log (partition, seq, event_id, prev_id, type, version, account_id, order_id, at, traceparent, payload)
        select e.partition, head.seq + e.ordinal, e.event_id, coalesce(e.prev_id, head.event_id), e.type, e.version,
               e.account_id, e.order_id, e.at, e.traceparent, e.payload
        from new_event e
        join head on head.partition = e.partition
        join moved on moved.partition = e.partition
        returning event_id, seq, prev_id
        "#,
        &c.partitions,
        &c.ordinals,
        &c.ids,
        &c.previous as &[Option<Uuid>],
        &c.kinds,
        &c.versions,
        &c.accounts as &[Option<Uuid>],
        &c.orders as &[Option<Uuid>],
        &c.times,
        &c.traces as &[Option<String>],
        &c.payloads,
    )
    .fetch_all(conn)
    .await
    .map_err(EventLogError::Append)?;
    placed(producer, events, rows.into_iter().map(|row| (row.event_id, row.seq, row.prev_id)))
}

/// Events with the places that the log gave them: id, sequence number and predecessor of each.
///
/// # Errors
/// [`EventLogError::Incomplete`] when one has no place.
pub fn placed(
    producer: Producer,
    events: Vec<NewEvent>,
    places: impl Iterator<Item = (Uuid, i64, Option<Uuid>)>,
) -> Result<Vec<Envelope>, EventLogError> {
    let places: BTreeMap<Uuid, (i64, Option<Uuid>)> = places.map(|(id, seq, previous)| (id, (seq, previous))).collect();
    let expected = events.len();
    if places.len() != expected {
        return Err(EventLogError::Incomplete { expected, actual: places.len() });
    }
    let mut envelopes = Vec::with_capacity(events.len());
    for event in events {
        let id = event.id.as_uuid();
        let (seq, prev_id) = places.get(&id).copied().ok_or_else(|| EventLogError::Corrupt(id.to_string()))?;
        envelopes.push(Envelope {
            id: event.id,
            producer,
            partition: event.partition,
            seq,
            prev_id: prev_id.map(EventId::new),
            kind: event.kind.to_owned(),
            version: event.version,
            account_id: event.account_id,
            order_id: event.order_id,
            at: event.at,
            traceparent: event.traceparent,
            payload: RawValue::from_string(event.payload).map_err(EventLogError::Encode)?,
        });
    }
    envelopes.sort_by_key(|e| (e.partition, e.seq));
    Ok(envelopes)
}

/// The events of a partition after a sequence number, oldest first, at most `limit`. Committed rows
/// only, so the answer is contiguous.
///
/// # Errors
/// [`EventLogError::Read`], or [`EventLogError::Corrupt`] for a row that is no event.
pub async fn read_after(
    pool: &PgPool,
    producer: Producer,
    partition: Partition,
    after_seq: i64,
    limit: i64,
) -> Result<Vec<Envelope>, EventLogError> {
    let rows = sqlx::query!(
        "select seq, event_id, prev_id, type as kind, version, account_id, order_id, at, traceparent, payload
         from event_log where partition = $1 and seq > $2 order by seq limit $3",
        partition.number(),
        after_seq,
        limit,
    )
    .fetch_all(pool)
    .await
    .map_err(EventLogError::Read)?;
    rows.into_iter()
        .map(|row| {
            let payload = RawValue::from_string(row.payload)
                .map_err(|_| EventLogError::Corrupt(format!("{producer}/{partition}/{}", row.seq)))?;
            Ok(Envelope {
                id: EventId::new(row.event_id),
                producer,
                partition,
                seq: row.seq,
                prev_id: row.prev_id.map(EventId::new),
                kind: row.kind,
                version: row.version,
                account_id: row.account_id.map(AccountId::new),
                order_id: row.order_id.map(OrderId::new),
                at: row.at,
                traceparent: row.traceparent,
                payload,
            })
        })
        .collect()
}

/// How far each partition of this process's log goes.
///
/// # Errors
/// [`EventLogError::Read`], or [`EventLogError::Corrupt`] for a partition out of range.
pub async fn heads(pool: &PgPool) -> Result<BTreeMap<Partition, Position>, EventLogError> {
    let rows = sqlx::query!("select partition, seq, event_id from event_heads order by partition")
        .fetch_all(pool)
        .await
        .map_err(EventLogError::Read)?;
    rows.into_iter()
        .map(|row| {
            let partition = Partition::new(row.partition).map_err(|e| EventLogError::Corrupt(e.to_string()))?;
            Ok((partition, Position { seq: row.seq, event_id: row.event_id.map(EventId::new) }))
        })
        .collect()
}

/// Whether a place of this process's log holds an event.
///
/// # Errors
/// [`EventLogError::Read`].
pub async fn contains(pool: &PgPool, partition: Partition, seq: i64) -> Result<bool, EventLogError> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from event_log where partition = $1 and seq = $2) as "exists!""#,
        partition.number(),
        seq,
    )
    .fetch_one(pool)
    .await
    .map_err(EventLogError::Read)
}
