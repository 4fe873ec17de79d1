//! Parked events for operators.

use super::PgStore;
use super::errors::failed;
use crate::application::parked::{Parked, ParkedEvent};
use crate::application::query::QueryError;
use async_trait::async_trait;
use contracts::Partition;

#[async_trait]
impl Parked for PgStore {
    async fn parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, QueryError> {
        sqlx::query_as!(
            ParkedEvent,
            r#"
            select d.producer, d.partition, d.seq, d.account_id, d.order_id, d.detail, d.envelope,
                   d.deferred_at as parked_at,
                   (select count(*) from deferred b where b.account_id = d.account_id and b.reason <> 'poison') as "behind!"
            from deferred d where d.reason = 'poison'
            order by d.deferred_at, d.producer, d.partition, d.seq
            limit $1
            "#,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read parked events"))
    }

    async fn retry(&self, producer: &str, partition: Partition, seq: i64) -> Result<bool, QueryError> {
        let done = sqlx::query!(
            "update deferred set reason = 'busy', detail = 'an operator asked for another try'
             where producer = $1 and partition = $2 and seq = $3 and reason = 'poison'",
            producer,
            partition.number(),
            seq,
        )
        .execute(&self.pool)
        .await
        .map_err(failed("retry a parked event"))?;
        Ok(done.rows_affected() == 1)
    }
}
