//! The stream's row and its lease.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{AuditMove, PollMove, StoreError, StoredStream};
use crate::domain::cursor::{Cursor, CursorMove};
use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

impl PgStore {
    pub(super) async fn open(
        &self,
        conn: &mut PgConnection,
        first: Cursor,
        now: OffsetDateTime,
    ) -> Result<StoredStream, StoreError> {
        let scope = self.profile.execution_scope.as_str();
        sqlx::query!(
            "insert into streams (broker, stream, cursor, execution_scope, moved_at, alive_at, polled_to)
             values ($1, $2, $3, $4, $5, $6, least($6, now())) on conflict (broker, stream) do nothing",
            self.broker(),
            self.stream,
            first.to_string(),
            scope,
            now,
            first.moment(),
        )
        .execute(&mut *conn)
        .await
        .map_err(sorted)?;
        let row = sqlx::query!(
            "select cursor, execution_scope, alive_at, audited, polled_to from streams
             where broker = $1 and stream = $2",
            self.broker(),
            self.stream,
        )
        .fetch_one(conn)
        .await
        .map_err(sorted)?;
        if row.execution_scope != scope {
            return Err(StoreError::ScopeChanged { stored: row.execution_scope, configured: scope });
        }
        let parse = |text: &str| Cursor::parse(text).map_err(|_| StoreError::Corrupt(format!("cursor {text}")));
        let audited = row.audited.as_deref().map(parse).transpose()?;
        Ok(StoredStream { cursor: parse(&row.cursor)?, alive_at: row.alive_at, audited, polled_to: row.polled_to })
    }

    /// Compare-and-set. First in the transaction, so that of two readers one waits here and then
    /// finds out that it lost, before it has done any work.
    pub(super) async fn move_cursor(
        &self,
        conn: &mut PgConnection,
        moved: CursorMove,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (from, to) = (moved.from.to_string(), moved.to.to_string());
        let held = if moved.is_still() {
            // Nothing to write. A reader that lost the cursor learns so as early as it can.
            sqlx::query!(
                r#"select 1 as "one!" from streams where broker = $1 and stream = $2 and cursor = $3"#,
                self.broker(),
                self.stream,
                from,
            )
            .fetch_optional(conn)
            .await
            .map_err(sorted)?
            .is_some()
        } else {
            sqlx::query!(
                "update streams set cursor = $4, moved_at = $5 where broker = $1 and stream = $2 and cursor = $3",
                self.broker(),
                self.stream,
                from,
                to,
                now,
            )
            .execute(conn)
            .await
            .map_err(sorted)?
            .rows_affected()
                == 1
        };
        if held { Ok(()) } else { Err(StoreError::CursorLost) }
    }

    pub(super) async fn alive(
        &self,
        conn: &mut PgConnection,
        cursor: Cursor,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        sqlx::query!(
            "update streams set alive_at = greatest(alive_at, $4) where broker = $1 and stream = $2 and cursor = $3",
            self.broker(),
            self.stream,
            cursor.to_string(),
            now,
        )
        .execute(conn)
        .await
        .map_err(sorted)?;
        Ok(())
    }

    pub(super) async fn unproven_range(
        &self,
        conn: &mut PgConnection,
        moved: CursorMove,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = conn.begin().await.map_err(sorted)?;
        self.lock_stream(&mut tx).await?;
        self.move_cursor(&mut tx, moved, now).await?;
        self.note_unproven(&mut tx, range, reason, now).await?;
        tx.commit().await.map_err(sorted)
    }

    async fn lock_stream(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query!(
            r#"select 1 as "one!" from streams where broker = $1 and stream = $2 for no key update"#,
            self.broker(),
            self.stream,
        )
        .fetch_one(conn)
        .await
        .map_err(sorted)?;
        Ok(())
    }

    /// Compare-and-set of how far the stream was read a second time, with what could not be.
    pub(super) async fn move_audited(
        &self,
        conn: &mut PgConnection,
        moved: AuditMove,
        refused: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = conn.begin().await.map_err(sorted)?;
        let done = sqlx::query!(
            "update streams set audited = $4 where broker = $1 and stream = $2 and audited is not distinct from $3",
            self.broker(),
            self.stream,
            moved.from.map(|from| from.to_string()),
            moved.to.to_string(),
        )
        .execute(&mut *tx)
        .await
        .map_err(sorted)?;
        if done.rows_affected() != 1 {
            return Err(StoreError::CursorLost);
        }
        if let (Some(from), Some(reason)) = (moved.from, refused) {
            self.note_unproven(&mut tx, (from, moved.to), reason, now).await?;
        }
        tx.commit().await.map_err(sorted)
    }

    /// Compare-and-set of how far the broker was asked for its orders. `least` passes over what is null.
    pub(super) async fn move_polled(
        &self,
        conn: &mut PgConnection,
        moved: PollMove,
    ) -> Result<OffsetDateTime, StoreError> {
        let row = sqlx::query!(
            "update streams set polled_to = least($4, now() - $5::bigint * interval '1 millisecond')
             where broker = $1 and stream = $2 and polled_to = $3
             returning polled_to",
            self.broker(),
            self.stream,
            moved.from,
            moved.to,
            moved.behind_ms,
        )
        .fetch_optional(conn)
        .await
        .map_err(sorted)?;
        row.map(|row| row.polled_to).ok_or(StoreError::CursorLost)
    }

    /// By the database's clock, so that copies on different machines agree.
    pub(super) async fn lease(&self, conn: &mut PgConnection) -> Result<bool, StoreError> {
        let row = sqlx::query!(
            "insert into stream_leases (broker, stream, holder, expires_at)
             values ($1, $2, $3, now() + $4::bigint * interval '1 millisecond')
             on conflict (broker, stream) do update set holder = excluded.holder, expires_at = excluded.expires_at
             where stream_leases.holder = excluded.holder or stream_leases.expires_at < now()
             returning holder",
            self.broker(),
            self.stream,
            self.holder,
            self.lease_ms,
        )
        .fetch_optional(conn)
        .await
        .map_err(sorted)?;
        Ok(row.is_some())
    }

    pub(super) async fn release(&self, conn: &mut PgConnection) -> Result<(), StoreError> {
        sqlx::query!(
            "delete from stream_leases where broker = $1 and stream = $2 and holder = $3",
            self.broker(),
            self.stream,
            self.holder,
        )
        .execute(conn)
        .await
        .map_err(sorted)?;
        Ok(())
    }
}
