//! Parked events for operators.

use super::errors::failed;
use super::{PgStore, actions};
use crate::application::operator::{Action, Actor};
use crate::application::parked::{Parked, ParkedEvent, ParkedPlace};
use crate::application::query::QueryError;
use async_trait::async_trait;
use contracts::AccountId;
use time::OffsetDateTime;

#[async_trait]
impl Parked for PgStore {
    async fn parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, QueryError> {
        sqlx::query_as!(
            ParkedEvent,
            r#"
            select d.producer, d.partition, d.seq, d.account_id, d.order_id, d.detail, d.envelope,
                   d.deferred_at as parked_at, d.reason = 'retry' as "retried!",
                   (select count(*) from deferred b where b.account_id = d.account_id and b.reason in ('busy', 'behind')) as "behind!"
            from deferred d where d.reason in ('poison', 'retry')
            order by d.deferred_at, d.producer, d.partition, d.seq
            limit $1
            "#,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read parked events"))
    }

    async fn retry(&self, place: &ParkedPlace, actor: &Actor, now: OffsetDateTime) -> Result<bool, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("retry a parked event"))?;
        let parked = sqlx::query!(
            "update deferred set reason = 'retry'
             where producer = $1 and partition = $2 and seq = $3 and reason = 'poison'
             returning account_id, detail",
            place.producer,
            place.partition.number(),
            place.seq,
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("retry a parked event"))?;
        let Some(parked) = parked else { return Ok(false) };
        let action = Action {
            actor: actor.clone(),
            kind: "event.retried",
            account_id: parked.account_id.map(AccountId::new),
            subject: format!("{}/{}/{}", place.producer, place.partition.number(), place.seq),
            reason: None,
            terms: format!("parked because: {}", parked.detail),
        };
        actions::append(&mut tx, &[&action], now).await.map_err(failed("record an action"))?;
        tx.commit().await.map_err(failed("retry a parked event"))?;
        Ok(true)
    }
}
