//! The transaction that stores what arrived together.

use super::PgStore;
use super::batch::{Fresh, Writing};
use super::error::sorted;
use crate::application::ports::{EventStore, StoreError, Stored, StoredStream};
use crate::domain::cursor::{Cursor, CursorMove};
use crate::domain::reading::Reading;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use time::OffsetDateTime;

impl EventStore for PgStore {
    async fn open_stream(&self, first: Cursor, now: OffsetDateTime) -> Result<StoredStream, StoreError> {
        self.open(first, now).await
    }

    async fn store(
        &self,
        readings: &[Reading],
        moved: Option<CursorMove>,
        now: OffsetDateTime,
    ) -> Result<Stored, StoreError> {
        let mut tx = self.pool.begin().await.map_err(sorted)?;
        if let Some(moved) = moved {
            self.move_cursor(&mut tx, moved, now).await?;
        }
        let mut new_bytes =
            if readings.is_empty() { BTreeSet::new() } else { self.insert_raw(&mut tx, readings, now).await? };
        let mut stored = Stored::default();
        let mut writing = Writing::new(&self.profile, now);
        for reading in readings {
            // Bytes that were there before were processed before, in the transaction that stored them.
            if !new_bytes.remove(&reading.raw.sha256()) {
                stored.known_bytes += 1;
                continue;
            }
            let position = reading.position.map(|position| position.to_string());
            match &reading.outcome {
                Ok(event) => {
                    writing.events.push(Fresh { event: event.clone(), sha256: reading.raw.sha256(), position })
                }
                Err(poison) => writing.park(reading.raw.sha256(), position, poison.clone()),
            }
        }
        writing.write(&mut tx, &mut stored).await?;
        tx.commit().await.map_err(sorted)?;
        Ok(stored)
    }

    async fn mark_alive(&self, cursor: Cursor, now: OffsetDateTime) -> Result<(), StoreError> {
        self.alive(cursor, now).await
    }

    async fn record_unproven(
        &self,
        moved: CursorMove,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.unproven_range(moved, range, reason, now).await
    }

    async fn claim_lease(&self) -> Result<bool, StoreError> {
        self.lease().await
    }

    async fn release_lease(&self) -> Result<(), StoreError> {
        self.release().await
    }
}

impl PgStore {
    /// Stores the bytes and answers the hashes of those that are new.
    async fn insert_raw(
        &self,
        conn: &mut PgConnection,
        readings: &[Reading],
        now: OffsetDateTime,
    ) -> Result<BTreeSet<[u8; 32]>, StoreError> {
        let hashes: Vec<Vec<u8>> = readings.iter().map(|reading| reading.raw.sha256().to_vec()).collect();
        let bodies: Vec<Vec<u8>> = readings.iter().map(|reading| reading.raw.bytes().to_vec()).collect();
        let rows = sqlx::query!(
            "insert into raw_events (broker, sha256, body, received_at)
             select $1, u.sha256, u.body, $4
             from unnest($2::bytea[], $3::bytea[]) as u (sha256, body)
             order by u.sha256
             on conflict (broker, sha256) do nothing
             returning sha256",
            self.broker(),
            &hashes,
            &bodies,
            now,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
        rows.into_iter()
            .map(|row| row.sha256.try_into().map_err(|_| StoreError::Corrupt("hash of raw bytes".to_owned())))
            .collect()
    }
}
