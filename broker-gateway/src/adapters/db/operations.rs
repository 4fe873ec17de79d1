//! What operators set, and the record of what they did.

use super::store::PgStore;
use crate::application::lane_rate::{LaneRateStore, OperatorAction, RateChange, RateSetting};
use crate::application::ports::StoreError;
use contracts::BrokerId;
use sqlx::PgConnection;

const OPERATION: &str = "set the lane's rate";

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::failed(OPERATION, source)
}

/// Writes down what an operator does, in the transaction that does it.
pub(super) async fn record(
    conn: &mut PgConnection,
    operator: &str,
    action: &str,
    subject: &str,
    reason: Option<&str>,
    terms: &serde_json::Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into operator_actions (at, operator, action, subject, reason, terms)
         values (statement_timestamp(), $1, $2, $3, $4, $5)",
        operator,
        action,
        subject,
        reason,
        terms.to_string(),
    )
    .execute(conn)
    .await
    .map(drop)
}

impl LaneRateStore for PgStore {
    async fn rate(&self, broker: &BrokerId) -> Result<RateSetting, StoreError> {
        let row = sqlx::query!("select rate_per_s, revision from lane_rates where broker = $1", broker.as_str())
            .fetch_optional(self.pool())
            .await
            .map_err(|source| StoreError::failed("read the lane's rate", source))?;
        Ok(row.map_or(RateSetting { rate_per_s: None, revision: 0 }, |row| RateSetting {
            // Not below zero, by the table's check.
            rate_per_s: row.rate_per_s.and_then(|rate| u32::try_from(rate).ok()),
            revision: row.revision,
        }))
    }

    async fn set_rate(&self, broker: &BrokerId, change: &RateChange) -> Result<RateSetting, StoreError> {
        let rate = change.rate_per_s.map(i32::try_from).transpose().map_err(failed)?;
        let mut tx = self.begin(OPERATION).await?;
        let revision = sqlx::query_scalar!(
            "insert into lane_rates (broker, rate_per_s, revision) values ($1, $2, 1)
             on conflict (broker) do update set rate_per_s = excluded.rate_per_s, revision = lane_rates.revision + 1
             returning revision",
            broker.as_str(),
            rate,
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed)?;
        let terms = serde_json::json!({ "rate_per_s": change.rate_per_s, "revision": revision });
        let (operator, reason) = (change.operator.as_str(), change.reason.as_deref());
        record(&mut tx, operator, "set_lane_rate", broker.as_str(), reason, &terms).await.map_err(failed)?;
        tx.commit().await.map_err(|source| StoreError::commit_unknown(OPERATION, source))?;
        Ok(RateSetting { rate_per_s: change.rate_per_s, revision })
    }
}

impl PgStore {
    /// What operators did, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn actions(&self, limit: i64) -> Result<Vec<OperatorAction>, StoreError> {
        sqlx::query_as!(
            OperatorAction,
            "select id, at, operator, action, subject, reason, terms from operator_actions order by id desc limit $1",
            limit
        )
        .fetch_all(self.pool())
        .await
        .map_err(|source| StoreError::failed("read what operators did", source))
    }
}
