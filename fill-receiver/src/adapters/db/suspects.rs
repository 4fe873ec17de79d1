//! Facts that contradict what is stored, as persons see and close them.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{Closed, Closing, StoreError};
use crate::application::records::SuspectRecord;
use sqlx::PgConnection;
use time::OffsetDateTime;

impl PgStore {
    pub(super) async fn list_suspects(
        &self,
        conn: &mut PgConnection,
        after: i64,
        limit: i64,
        closed: bool,
    ) -> Result<Vec<SuspectRecord>, StoreError> {
        sqlx::query_as!(
            SuspectRecord,
            r#"select id, reason, broker_order_id, event_id, known, seen, encode(raw_sha256, 'hex') as "raw_sha256!",
                      seen_at, closed_at, closed_by, closed_why, closed_evidence
               from suspects
               where broker = $1 and id > $2 and (closed_at is not null) = $4 order by id limit $3"#,
            self.broker(),
            after,
            limit,
            closed,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)
    }

    pub(super) async fn suspects_of(
        &self,
        conn: &mut PgConnection,
        broker_orders: &[String],
        limit: i64,
    ) -> Result<Vec<SuspectRecord>, StoreError> {
        sqlx::query_as!(
            SuspectRecord,
            r#"select id, reason, broker_order_id, event_id, known, seen, encode(raw_sha256, 'hex') as "raw_sha256!",
                      seen_at, closed_at, closed_by, closed_why, closed_evidence
               from suspects where broker = $1 and broker_order_id = any($2) order by id limit $3"#,
            self.broker(),
            broker_orders,
            limit,
        )
        .fetch_all(conn)
        .await
        .map_err(sorted)
    }

    pub(super) async fn close(
        &self,
        conn: &mut PgConnection,
        id: i64,
        closing: &Closing,
        now: OffsetDateTime,
    ) -> Result<Closed, StoreError> {
        let done = sqlx::query!(
            "update suspects set closed_at = $3, closed_by = $4, closed_why = $5, closed_evidence = $6
             where broker = $1 and id = $2 and closed_at is null",
            self.broker(),
            id,
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
        let row = sqlx::query!("select id from suspects where broker = $1 and id = $2", self.broker(), id)
            .fetch_optional(conn)
            .await
            .map_err(sorted)?;
        Ok(if row.is_some() { Closed::Already } else { Closed::Missing })
    }
}
