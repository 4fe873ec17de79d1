//! Stretches of the stream that nobody has proven.
//!
//! Open ranges of one stream never overlap: a new one that touches others becomes one with them. A
//! closed range stays as it was closed.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{Closed, Closing, StoreError};
use crate::application::records::UnprovenRecord;
use crate::domain::cursor::Cursor;
use sqlx::PgConnection;
use time::OffsetDateTime;

impl PgStore {
    /// Records a range. The stream's row must be locked, so that of two writers one sees the other's.
    pub(super) async fn note_unproven(
        &self,
        conn: &mut PgConnection,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let (mut from, mut to) = (range.0.to_string(), range.1.to_string());
        let touched = sqlx::query!(
            r#"select id, from_cursor, to_cursor from unproven_ranges
               where broker = $1 and stream = $2 and closed_at is null
                 and from_cursor collate "C" <= $4 and to_cursor collate "C" >= $3
               order by id for update"#,
            self.broker(),
            self.stream,
            from,
            to,
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(sorted)?;
        let Some(first) = touched.first().map(|row| row.id) else {
            sqlx::query!(
                "insert into unproven_ranges (broker, stream, from_cursor, to_cursor, reason, found_at)
                 values ($1, $2, $3, $4, $5, $6)",
                self.broker(),
                self.stream,
                from,
                to,
                reason,
                now,
            )
            .execute(conn)
            .await
            .map_err(sorted)?;
            return Ok(());
        };
        let others: Vec<i64> = touched.iter().map(|row| row.id).filter(|id| *id != first).collect();
        for row in touched {
            from = from.min(row.from_cursor);
            to = to.max(row.to_cursor);
        }
        sqlx::query!("update unproven_ranges set from_cursor = $2, to_cursor = $3 where id = $1", first, from, to)
            .execute(&mut *conn)
            .await
            .map_err(sorted)?;
        if !others.is_empty() {
            sqlx::query!(
                "update unproven_ranges
                 set closed_at = $2, closed_by = 'fill-receiver', closed_why = 'one with another range',
                     closed_evidence = 'range ' || $3::bigint
                 where id = any($1)",
                &others,
                now,
                first,
            )
            .execute(conn)
            .await
            .map_err(sorted)?;
        }
        Ok(())
    }

    pub(super) async fn list_unproven(
        &self,
        conn: &mut PgConnection,
        after: i64,
        limit: i64,
        closed: bool,
    ) -> Result<Vec<UnprovenRecord>, StoreError> {
        sqlx::query_as!(
            UnprovenRecord,
            "select id, stream, from_cursor, to_cursor, reason, found_at, closed_at, closed_by, closed_why,
                    closed_evidence
             from unproven_ranges
             where broker = $1 and id > $2 and (closed_at is not null) = $4 order by id limit $3",
            self.broker(),
            after,
            limit,
            closed,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)
    }

    /// Closes a range that is still what the person saw.
    pub(super) async fn close_range(
        &self,
        conn: &mut PgConnection,
        id: i64,
        seen: (&str, &str),
        closing: &Closing,
        now: OffsetDateTime,
    ) -> Result<Closed, StoreError> {
        let done = sqlx::query!(
            "update unproven_ranges set closed_at = $5, closed_by = $6, closed_why = $7, closed_evidence = $8
             where broker = $1 and id = $2 and from_cursor = $3 and to_cursor = $4 and closed_at is null",
            self.broker(),
            id,
            seen.0,
            seen.1,
            now,
            closing.by,
            closing.why,
            closing.evidence,
        )
        .execute(&mut *conn)
        .await
        .map_err(sorted)?;
        if done.rows_affected() == 1 {
            return Ok(Closed::Done);
        }
        let row = sqlx::query!(
            r#"select closed_at is not null as "closed!" from unproven_ranges where broker = $1 and id = $2"#,
            self.broker(),
            id,
        )
        .fetch_optional(conn)
        .await
        .map_err(sorted)?;
        Ok(row.map_or(Closed::Missing, |row| if row.closed { Closed::Already } else { Closed::Changed }))
    }
}
