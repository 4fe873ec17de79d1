//! The transaction that stores what arrived together.

use super::PgStore;
use super::asked;
use super::batch::{Fresh, Writing};
use super::error::sorted;
use crate::application::ports::{AuditMove, EventStore, FigureStore, PollMove, StoreError, Stored, StoredStream};
use crate::domain::cumulative::{Cumulative, KnownOrder};
use crate::domain::cursor::{Cursor, CursorMove};
use crate::domain::reading::{RawFrame, Reading};
use rust_decimal::Decimal;
use sqlx::{Acquire, PgConnection};
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

impl EventStore for PgStore {
    async fn open_stream(&self, first: Cursor, now: OffsetDateTime) -> Result<StoredStream, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.open(call.connection()?, first, now)).await
    }

    async fn store(
        &self,
        readings: &[Reading],
        moved: Option<CursorMove>,
        now: OffsetDateTime,
    ) -> Result<Stored, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.store_batch(call.connection()?, readings, moved, now)).await
    }

    async fn mark_alive(&self, cursor: Cursor, now: OffsetDateTime) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.alive(call.connection()?, cursor, now)).await
    }

    async fn record_unproven(
        &self,
        moved: CursorMove,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.unproven_range(call.connection()?, moved, range, reason, now)).await
    }

    async fn record_audited(
        &self,
        moved: AuditMove,
        refused: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.move_audited(call.connection()?, moved, refused, now)).await
    }

    async fn claim_lease(&self) -> Result<bool, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.lease(call.connection()?)).await
    }

    async fn release_lease(&self) -> Result<(), StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.release(call.connection()?)).await
    }
}

impl FigureStore for PgStore {
    async fn open_orders(&self, after: &str, limit: i64) -> Result<Vec<KnownOrder>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(asked::open(call.connection()?, self.broker(), after, limit)).await
    }

    async fn shown_less(&self, shown: &[(String, Decimal)], limit: i64) -> Result<Vec<KnownOrder>, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(asked::less(call.connection()?, self.broker(), shown, limit)).await
    }

    async fn compare_asked(
        &self,
        known: &KnownOrder,
        shown: Cumulative,
        raw: &RawFrame,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(asked::compare(call.connection()?, &self.profile, known, shown, raw, now)).await
    }

    async fn record_polled(&self, moved: PollMove) -> Result<OffsetDateTime, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.move_polled(call.connection()?, moved)).await
    }
}

impl PgStore {
    async fn store_batch(
        &self,
        conn: &mut PgConnection,
        readings: &[Reading],
        moved: Option<CursorMove>,
        now: OffsetDateTime,
    ) -> Result<Stored, StoreError> {
        let mut tx = conn.begin().await.map_err(sorted)?;
        if let Some(moved) = moved {
            self.move_cursor(&mut tx, moved, now).await?;
        }
        let stored = self.write(&mut tx, readings, moved, now).await?;
        platform::kill_point!("fill-receiver.before-commit", if stored.inserted > 0);
        tx.commit().await.map_err(sorted)?;
        platform::kill_point!("fill-receiver.after-commit", if stored.inserted > 0);
        Ok(stored)
    }

    /// Bytes, facts and log of what came, whichever way it came.
    pub(super) async fn write(
        &self,
        conn: &mut PgConnection,
        readings: &[Reading],
        moved: Option<CursorMove>,
        now: OffsetDateTime,
    ) -> Result<Stored, StoreError> {
        let mut known = self.known_bytes(conn, readings, moved).await?;
        let mut stored = Stored::default();
        let mut writing = Writing::new(&self.profile, now);
        for reading in readings {
            if !known.insert(reading.raw.sha256()) {
                stored.known_bytes += 1;
                continue;
            }
            let position = reading.position.map(|position| position.to_string());
            match &reading.outcome {
                Ok(read) => writing.events.push(Fresh::new(read, &reading.raw, position)),
                Err(poison) => writing.park(&reading.raw, position, poison.clone()),
            }
        }
        writing.write(conn, &mut stored).await?;
        Ok(stored)
    }

    /// The hashes of those frames whose very bytes are stored: they were dealt with in the
    /// transaction that stored them. Only asked for what lies where this or another reader has been;
    /// it saves work and no more, since the identity decides what is new.
    async fn known_bytes(
        &self,
        conn: &mut PgConnection,
        readings: &[Reading],
        moved: Option<CursorMove>,
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        let is_old = |reading: &&Reading| match (reading.position, moved) {
            (Some(position), Some(moved)) => position <= moved.from,
            _ => true,
        };
        let old: Vec<&Reading> = readings.iter().filter(is_old).collect();
        if old.is_empty() {
            return Ok(BTreeSet::new());
        }
        let ids: Vec<Uuid> = old
            .iter()
            .filter_map(|reading| reading.outcome.as_ref().ok())
            .map(|read| read.event_id.as_uuid())
            .collect();
        let hashes: Vec<Vec<u8>> = old.iter().map(|reading| reading.raw.sha256().to_vec()).collect();
        let rows = sqlx::query!(
            r#"select raw_sha256 as "raw_sha256!" from broker_events where event_id = any($2)
               union all
               select r.raw_sha256 from unnest($3::bytea[]) as u (hash)
               cross join lateral (
                   select s.raw_sha256 from repeats s where s.broker = $1 and s.raw_sha256 = u.hash offset 0
               ) r
               union all
               select p.raw_sha256 from unnest($3::bytea[]) as u (hash)
               cross join lateral (
                   select s.raw_sha256 from parked s where s.broker = $1 and s.raw_sha256 = u.hash offset 0
               ) p"#,
            self.broker(),
            &ids,
            &hashes,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
        rows.into_iter()
            .map(|row| row.raw_sha256.try_into().map_err(|_| StoreError::Corrupt("hash of raw bytes".to_owned())))
            .collect()
    }
}
