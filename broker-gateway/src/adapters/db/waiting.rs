//! Events that could not take effect when they came: trying them again, in the order of their log,
//! and the operators' view of them.

use super::operations;
use super::slice::SliceTransaction;
use super::store::PgStore;
use crate::application::change::Change;
use crate::application::ports::StoreError;
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

const OPERATION: &str = "try waiting events again";

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::failed(OPERATION, source)
}

/// A deferred event, for operators.
#[derive(Debug, Clone, Serialize)]
pub struct DeferredRow {
    /// Whose log it is of.
    pub producer: String,
    /// Which partition.
    pub partition: i16,
    /// Its place.
    pub seq: i64,
    /// The account, where known.
    pub account_id: Option<Uuid>,
    /// The order that waits with it, where known.
    pub order_id: Option<Uuid>,
    /// `poison`: an operator must ask for another try; otherwise it is tried by itself.
    pub reason: String,
    /// Why it waits.
    pub detail: String,
    /// The event as it came.
    pub envelope: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub deferred_at: OffsetDateTime,
}

impl PgStore {
    /// Where events wait that may be tried again, of some partitions.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn waiting(&self, partitions: &[Partition]) -> Result<Vec<(Producer, Partition)>, StoreError> {
        let partitions: Vec<i16> = partitions.iter().map(|partition| partition.number()).collect();
        let rows = sqlx::query!(
            "select distinct producer, partition from deferred
             where partition = any($1) and reason in ('busy', 'behind') order by producer, partition",
            &partitions
        )
        .fetch_all(self.pool())
        .await
        .map_err(failed)?;
        rows.into_iter()
            .map(|row| {
                let known = [Producer::OrderCore, Producer::FillReceiver, Producer::BrokerGateway];
                let producer = known.into_iter().find(|producer| producer.as_str() == row.producer);
                let producer = producer.ok_or_else(|| failed("a waiting event is of an unknown log"))?;
                Ok((producer, Partition::new(row.partition).map_err(failed)?))
            })
            .collect()
    }

    /// Begins to try the oldest waiting events of a log's partition again, as long as nobody else
    /// does, nor takes new events of it: nothing may overtake. What waits behind an event that
    /// cannot be applied stays.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn begin_waiting(
        &self,
        producer: Producer,
        partition: Partition,
        limit: i64,
    ) -> Result<Option<(SliceTransaction<'_>, Vec<Envelope>)>, StoreError> {
        let mut tx = self.begin(OPERATION).await?;
        let held = sqlx::query_scalar!(
            "select seq from applied where producer = $1 and partition = $2 for update skip locked",
            producer.as_str(),
            partition.number(),
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed)?;
        if held.is_none() {
            tx.rollback().await.map_err(failed)?;
            return Ok(None);
        }
        // A statement of its own: it must see what was committed before the position was had.
        let rows = sqlx::query_scalar!(
            "select d.envelope from deferred d
             where d.producer = $1 and d.partition = $2 and d.reason in ('busy', 'behind') and not exists
                 (select 1 from deferred p where p.producer = d.producer and p.partition = d.partition
                      and p.order_id = d.order_id and p.reason = 'poison' and p.seq < d.seq)
             order by d.seq limit $3",
            producer.as_str(),
            partition.number(),
            limit,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed)?;
        if rows.is_empty() {
            tx.rollback().await.map_err(failed)?;
            return Ok(None);
        }
        let events: Vec<Envelope> =
            rows.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Some((SliceTransaction::over(self, tx), events)))
    }

    /// Deferred events, those that need an operator first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn deferred(&self, limit: i64) -> Result<Vec<DeferredRow>, StoreError> {
        sqlx::query_as!(
            DeferredRow,
            "select producer, partition, seq, account_id, order_id, reason, detail, envelope, deferred_at
             from deferred order by (reason = 'poison') desc, producer, partition, seq limit $1",
            limit
        )
        .fetch_all(self.pool())
        .await
        .map_err(failed)
    }

    /// Lets a poisoned event be tried again, as this operator asks; false when there is none at that
    /// place. What still cannot be applied is poison again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retry_deferred(
        &self,
        producer: Producer,
        partition: Partition,
        seq: i64,
        operator: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin(OPERATION).await?;
        let done = sqlx::query!(
            "update deferred set reason = 'busy', detail = 'an operator asked for another try'
             where producer = $1 and partition = $2 and seq = $3 and reason = 'poison'",
            producer.as_str(),
            partition.number(),
            seq,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if done.rows_affected() == 0 {
            tx.rollback().await.map_err(failed)?;
            return Ok(false);
        }
        let subject = format!("{}/{partition}/{seq}", producer.as_str());
        operations::record(&mut tx, operator, "redrive", &subject, None, &serde_json::json!({}))
            .await
            .map_err(failed)?;
        tx.commit().await.map_err(|source| StoreError::commit_unknown(OPERATION, source))?;
        Ok(true)
    }
}

impl SliceTransaction<'_> {
    /// Writes changes, takes the events that have taken effect off the table, appends the events
    /// that follow and commits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish_waiting(
        self,
        producer: Producer,
        partition: Partition,
        done: &[i64],
        now: OffsetDateTime,
        changes: &[Change],
    ) -> Result<(), StoreError> {
        let (store, mut tx) = self.into_parts();
        store.write(&mut tx, now, changes, OPERATION).await?;
        let gone = sqlx::query!(
            "delete from deferred where producer = $1 and partition = $2 and seq = any($3)",
            producer.as_str(),
            partition.number(),
            done,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        if usize::try_from(gone.rows_affected()) != Ok(done.len()) {
            return Err(failed("a waiting event was taken by somebody else"));
        }
        store.commit(tx, now, changes, OPERATION).await
    }
}
