//! Parked frames.

use super::PgStore;
use super::batch::{Fresh, ToPark, Writing};
use super::error::sorted;
use crate::application::ports::{Settled, StoreError, Stored};
use crate::application::records::{ParkedFrame, ParkedRecord};
use crate::domain::reading::{BrokerProfile, RawFrame, ReadEvent};
use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

/// How much of a parked frame's bytes a list shows.
const BODY_SHOWN_BYTES: i32 = 4096;

/// Parks frames; answers how many were not parked before.
pub(super) async fn insert(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    parked: &[ToPark<'_>],
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    if parked.is_empty() {
        return Ok(0);
    }
    let hashes: Vec<Vec<u8>> = parked.iter().map(|p| p.raw.sha256().to_vec()).collect();
    let bodies: Vec<&[u8]> = parked.iter().map(|p| p.raw.bytes()).collect();
    let positions: Vec<Option<String>> = parked.iter().map(|p| p.position.clone()).collect();
    let reasons: Vec<String> = parked.iter().map(|p| p.poison.reason.as_str().to_owned()).collect();
    let details: Vec<String> = parked.iter().map(|p| p.poison.detail.clone()).collect();
    let done = sqlx::query!(
        "insert into parked (broker, raw_sha256, body, position, reason, detail, parked_at)
         select $1, u.raw_sha256, u.body, u.position, u.reason, u.detail, $7
         from unnest($2::bytea[], $3::bytea[], $4::text[], $5::text[], $6::text[])
             as u (raw_sha256, body, position, reason, detail)
         order by u.raw_sha256
         on conflict on constraint parked_once do nothing",
        profile.broker.as_str(),
        &hashes,
        &bodies as &[&[u8]],
        &positions as &[Option<String>],
        &reasons,
        &details,
        now,
    )
    .execute(conn)
    .await
    .map_err(sorted)?;
    Ok(done.rows_affected())
}

impl PgStore {
    pub(super) async fn list_parked(
        &self,
        conn: &mut PgConnection,
        after: i64,
        limit: i64,
        settled: bool,
    ) -> Result<Vec<ParkedRecord>, StoreError> {
        let rows = sqlx::query!(
            r#"select p.id, p.reason, p.detail, p.position, p.parked_at, p.redrives, p.settled_at, p.settled_event_id,
                      encode(p.raw_sha256, 'hex') as "raw_sha256!", substring(p.body for $5::integer) as "body!"
               from parked p
               where p.broker = $1 and p.id > $2 and (p.settled_at is not null) = $4
               order by p.id limit $3"#,
            self.broker(),
            after,
            limit,
            settled,
            BODY_SHOWN_BYTES,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)?;
        Ok(rows
            .into_iter()
            .map(|row| ParkedRecord {
                id: row.id,
                reason: row.reason,
                detail: row.detail,
                position: row.position,
                parked_at: row.parked_at,
                redrives: row.redrives,
                settled_at: row.settled_at,
                settled_event_id: row.settled_event_id,
                raw_sha256: row.raw_sha256,
                body: String::from_utf8_lossy(&row.body).into_owned(),
            })
            .collect())
    }

    pub(super) async fn find_parked(
        &self,
        conn: &mut PgConnection,
        id: i64,
    ) -> Result<Option<ParkedFrame>, StoreError> {
        let row = sqlx::query!(
            r#"select body, settled_at is not null as "settled!" from parked where broker = $1 and id = $2"#,
            self.broker(),
            id,
        )
        .fetch_optional(conn)
        .await
        .map_err(sorted)?;
        Ok(row.map(|row| ParkedFrame { body: row.body, settled: row.settled }))
    }

    /// Touches no cursor: only a reader of the stream moves that.
    pub(super) async fn settle(
        &self,
        conn: &mut PgConnection,
        id: i64,
        raw: &RawFrame,
        event: &ReadEvent,
        now: OffsetDateTime,
    ) -> Result<Settled, StoreError> {
        let mut tx = conn.begin().await.map_err(sorted)?;
        let row = sqlx::query!(
            "select position, settled_at from parked where broker = $1 and id = $2 for update",
            self.broker(),
            id,
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(sorted)?;
        let Some(row) = row else { return Ok(Settled::Missing) };
        if row.settled_at.is_some() {
            return Ok(Settled::Already);
        }
        sqlx::query!(
            "update parked set settled_at = $3, settled_event_id = $4 where broker = $1 and id = $2",
            self.broker(),
            id,
            now,
            event.event_id.as_uuid(),
        )
        .execute(&mut *tx)
        .await
        .map_err(sorted)?;
        let mut writing = Writing::new(&self.profile, now);
        writing.events.push(Fresh::new(event, raw, row.position));
        let mut stored = Stored::default();
        if let Some(poison) = writing.write_redriven(&mut tx, &mut stored).await? {
            tx.rollback().await.map_err(sorted)?;
            return Ok(Settled::Poison(poison.detail));
        }
        tx.commit().await.map_err(sorted)?;
        Ok(Settled::Stored(stored))
    }

    pub(super) async fn parked_in_vain(
        &self,
        conn: &mut PgConnection,
        id: i64,
        detail: &str,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update parked set redrives = redrives + 1, detail = $3
             where broker = $1 and id = $2 and settled_at is null",
            self.broker(),
            id,
            detail,
        )
        .execute(conn)
        .await
        .map_err(sorted)?;
        Ok(())
    }
}
