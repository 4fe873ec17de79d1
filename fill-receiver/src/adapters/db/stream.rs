//! The stream's row and its lease.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{StoreError, StoredStream};
use crate::domain::cursor::{Cursor, CursorMove};
use sqlx::PgConnection;
use time::OffsetDateTime;

impl PgStore {
    pub(super) async fn open(&self, first: Cursor, now: OffsetDateTime) -> Result<StoredStream, StoreError> {
        let scope = self.profile.execution_scope.as_str();
        sqlx::query!(
            "insert into streams (broker, stream, cursor, execution_scope, moved_at, alive_at)
             values ($1, $2, $3, $4, $5, $6) on conflict (broker, stream) do nothing",
            self.broker(),
            self.stream,
            first.to_string(),
            scope,
            now,
            first.moment(),
        )
        .execute(&self.pool)
        .await
        .map_err(sorted)?;
        let row = sqlx::query!(
            "select cursor, execution_scope, alive_at from streams where broker = $1 and stream = $2",
            self.broker(),
            self.stream,
        )
        .fetch_one(&self.pool)
        .await
        .map_err(sorted)?;
        if row.execution_scope != scope {
            return Err(StoreError::ScopeChanged { stored: row.execution_scope, configured: scope });
        }
        let cursor = Cursor::parse(&row.cursor).map_err(|_| StoreError::Corrupt(format!("cursor {}", row.cursor)))?;
        Ok(StoredStream { cursor, alive_at: row.alive_at })
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

    pub(super) async fn alive(&self, cursor: Cursor, now: OffsetDateTime) -> Result<(), StoreError> {
        sqlx::query!(
            "update streams set alive_at = greatest(alive_at, $4) where broker = $1 and stream = $2 and cursor = $3",
            self.broker(),
            self.stream,
            cursor.to_string(),
            now,
        )
        .execute(&self.pool)
        .await
        .map_err(sorted)?;
        Ok(())
    }

    pub(super) async fn unproven_range(
        &self,
        moved: CursorMove,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await.map_err(sorted)?;
        self.move_cursor(&mut tx, moved, now).await?;
        sqlx::query!(
            "insert into unproven_ranges (broker, stream, from_cursor, to_cursor, reason, found_at)
             values ($1, $2, $3, $4, $5, $6) on conflict (broker, stream, from_cursor) do nothing",
            self.broker(),
            self.stream,
            range.0.to_string(),
            range.1.to_string(),
            reason,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(sorted)?;
        tx.commit().await.map_err(sorted)
    }

    /// By the database's clock, so that copies on different machines agree.
    pub(super) async fn lease(&self) -> Result<bool, StoreError> {
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
        .fetch_optional(&self.pool)
        .await
        .map_err(sorted)?;
        Ok(row.is_some())
    }

    pub(super) async fn release(&self) -> Result<(), StoreError> {
        sqlx::query!(
            "delete from stream_leases where broker = $1 and stream = $2 and holder = $3",
            self.broker(),
            self.stream,
            self.holder,
        )
        .execute(&self.pool)
        .await
        .map_err(sorted)?;
        Ok(())
    }
}
