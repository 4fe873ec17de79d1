//! What operators look at.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{Closed, Closing, OpenCounts, RecordStore, Settled, StoreError};
use crate::application::records::{
    BrokerOrderRecord, FactRecord, LogRecord, ParkedFrame, ParkedRecord, Story, SuspectRecord, UnprovenRecord,
};
use crate::domain::identity::{ExecutionKind, ExecutionScope, Identity};
use crate::domain::reading::{RawFrame, ReadEvent};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contracts::ExecutionId;
use serde_json::value::RawValue;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

/// Most broker orders of one story.
const STORY_ORDERS_MAX: i64 = 20;
/// Most rows of each other part of a story.
const STORY_ROWS_MAX: i64 = 1_000;
/// How much of a fact's bytes a story shows.
const STORY_BODY_BYTES: i32 = 4_096;

impl RecordStore for PgStore {
    async fn story(&self, key: &str) -> Result<Option<Story>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.read_story(call.connection()?, key)).await
    }

    async fn parked(&self, after: i64, limit: i64, settled: bool) -> Result<Vec<ParkedRecord>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.list_parked(call.connection()?, after, limit, settled)).await
    }

    async fn parked_frame(&self, id: i64) -> Result<Option<ParkedFrame>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.find_parked(call.connection()?, id)).await
    }

    async fn settle_parked(
        &self,
        id: i64,
        raw: &RawFrame,
        event: &ReadEvent,
        now: OffsetDateTime,
    ) -> Result<Settled, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.settle(call.connection()?, id, raw, event, now)).await
    }

    async fn parked_again(&self, id: i64, detail: &str) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.parked_in_vain(call.connection()?, id, detail)).await
    }

    async fn suspects(&self, after: i64, limit: i64, closed: bool) -> Result<Vec<SuspectRecord>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.list_suspects(call.connection()?, after, limit, closed)).await
    }

    async fn close_suspect(&self, id: i64, closing: &Closing, now: OffsetDateTime) -> Result<Closed, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.close(call.connection()?, id, closing, now)).await
    }

    async fn unproven(&self, after: i64, limit: i64, closed: bool) -> Result<Vec<UnprovenRecord>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.list_unproven(call.connection()?, after, limit, closed)).await
    }

    async fn close_unproven(
        &self,
        id: i64,
        seen: (&str, &str),
        closing: &Closing,
        now: OffsetDateTime,
    ) -> Result<Closed, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.close_range(call.connection()?, id, seen, closing, now)).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        let limit = call.limit();
        let connection = call.connection()?;
        limit.of(async { connection.ping().await.map_err(sorted) }).await
    }

    async fn open_counts(&self) -> Result<OpenCounts, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.count_open(call.connection()?)).await
    }
}

impl PgStore {
    async fn count_open(&self, conn: &mut PgConnection) -> Result<OpenCounts, StoreError> {
        let row = sqlx::query!(
            r#"select (select count(*) from parked where broker = $1 and settled_at is null) as "parked!",
                      (select count(*) from suspects where broker = $1 and closed_at is null) as "suspects!",
                      (select count(*) from unproven_ranges where broker = $1 and closed_at is null) as "unproven!""#,
            self.broker(),
        )
        .fetch_one(conn)
        .await
        .map_err(sorted)?;
        Ok(OpenCounts { parked: row.parked, suspects: row.suspects, unproven: row.unproven })
    }

    async fn read_story(&self, conn: &mut PgConnection, key: &str) -> Result<Option<Story>, StoreError> {
        let broker_orders = self.story_orders(conn, key).await?;
        if broker_orders.is_empty() {
            return Ok(None);
        }
        let ids: Vec<String> = broker_orders.iter().map(|order| order.broker_order_id.clone()).collect();
        let orders: Vec<Uuid> = broker_orders.iter().filter_map(|order| order.order_id).collect();
        let facts = self.story_facts(conn, &ids, &orders).await?;
        let events: Vec<Uuid> = facts.iter().map(|fact| fact.event_id).collect();
        let log = story_log(conn, &events, &orders).await?;
        let suspects = self.suspects_of(conn, &ids, STORY_ROWS_MAX).await?;
        let full = |len: usize, max: i64| i64::try_from(len).is_ok_and(|len| len >= max);
        let truncated = full(broker_orders.len(), STORY_ORDERS_MAX)
            || [facts.len(), log.len(), suspects.len()].into_iter().any(|len| full(len, STORY_ROWS_MAX));
        Ok(Some(Story { broker_orders, facts, log, suspects, truncated }))
    }

    async fn story_orders(&self, conn: &mut PgConnection, key: &str) -> Result<Vec<BrokerOrderRecord>, StoreError> {
        sqlx::query_as!(
            BrokerOrderRecord,
            "select broker, broker_order_id, client_order_id, order_id, partition, first_seen_at
             from broker_orders
             where broker = $1
               and (broker_order_id = $2
                    or order_id = $3
                    or broker_order_id in (select e.broker_order_id from broker_events e where e.event_id = any($4)))
             order by broker_order_id limit $5",
            self.broker(),
            key,
            Uuid::try_parse(key).ok(),
            &self.event_ids_of(key),
            STORY_ORDERS_MAX,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)
    }

    /// The event of that id, and those that an execution id could name: their ids follow from it.
    fn event_ids_of(&self, key: &str) -> Vec<Uuid> {
        let (scope, execution) = match self.profile.execution_scope {
            ExecutionScope::Broker => ("", key),
            ExecutionScope::Account => key.split_once('/').unwrap_or(("", key)),
        };
        let Ok(execution_id) = ExecutionId::new(execution) else { return Vec::new() };
        let named = [ExecutionKind::Fill, ExecutionKind::Bust, ExecutionKind::Correct]
            .into_iter()
            .map(|kind| Identity::Execution { scope: scope.to_owned(), kind, execution_id: execution_id.clone() })
            .map(|identity| identity.event_id(&self.profile.broker).as_uuid());
        named.chain(Uuid::try_parse(key)).collect()
    }

    async fn story_facts(
        &self,
        conn: &mut PgConnection,
        broker_orders: &[String],
        orders: &[Uuid],
    ) -> Result<Vec<FactRecord>, StoreError> {
        let rows = sqlx::query!(
            r#"select event_id, broker_order_id, kind, position, stored_at, encode(raw_sha256, 'hex') as "raw_sha256!",
                      octet_length(body) as "body_bytes!", substring(body for $5::integer) as "body!"
               from broker_events
               where (broker = $1 and broker_order_id = any($2) and order_id is null) or order_id = any($3)
               order by position, stored_at limit $4"#,
            self.broker(),
            broker_orders,
            orders,
            STORY_ROWS_MAX,
            STORY_BODY_BYTES,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
        Ok(rows
            .into_iter()
            .map(|row| FactRecord {
                event_id: row.event_id,
                broker_order_id: row.broker_order_id,
                kind: row.kind,
                position: row.position,
                stored_at: row.stored_at,
                raw_sha256: row.raw_sha256,
                body_bytes: row.body_bytes,
                body: String::from_utf8_lossy(&row.body).into_owned(),
                body_base64: std::str::from_utf8(&row.body).is_err().then(|| STANDARD.encode(&row.body)),
            })
            .collect())
    }
}

async fn story_log(conn: &mut PgConnection, events: &[Uuid], orders: &[Uuid]) -> Result<Vec<LogRecord>, StoreError> {
    let rows = sqlx::query!(
        "select partition, seq, event_id, type as kind, order_id, at, payload
         from event_log where event_id = any($1) or order_id = any($2)
         order by partition, seq limit $3",
        events,
        orders,
        STORY_ROWS_MAX,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)?;
    rows.into_iter()
        .map(|row| {
            let payload = RawValue::from_string(row.payload)
                .map_err(|_| StoreError::Corrupt(format!("payload of event {}", row.event_id)))?;
            Ok(LogRecord {
                partition: row.partition,
                seq: row.seq,
                event_id: row.event_id,
                kind: row.kind,
                order_id: row.order_id,
                at: row.at,
                payload,
            })
        })
        .collect()
}
