//! Settlements: one transaction that holds the request.

use super::dossier;
use super::load;
use super::store::PgStore;
use crate::application::dossier::Dossier;
use crate::application::ports::StoreError;
use crate::application::request::Loaded;
use crate::application::settlement::{Settled, SettlementError, SettlementStore, SettlementWrite};
use contracts::OrderId;
use std::collections::HashMap;
use time::OffsetDateTime;

const OPERATION: &str = "settlement";

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> SettlementError {
    StoreError::failed(OPERATION, source).into()
}

impl SettlementStore for PgStore {
    async fn settle<F>(&self, order_id: OrderId, decide: F) -> Result<Settled, SettlementError>
    where
        F: FnOnce(OffsetDateTime, Loaded, Dossier) -> Result<SettlementWrite, SettlementError> + Send,
    {
        let mut tx = self.begin(OPERATION).await?;
        let ids = load::lock(&mut tx, &[order_id.as_uuid()]).await.map_err(failed)?;
        let (now, loaded) = load::load(&mut tx, &ids, HashMap::new()).await.map_err(failed)?;
        let story = dossier::read(&mut tx, order_id.as_uuid()).await.map_err(failed)?;
        let (Some(loaded), Some(story)) = (loaded.into_iter().next(), story) else {
            return Err(SettlementError::NotFound);
        };
        let write = decide(now, loaded, story)?;
        sqlx::query!(
            "insert into settlement_approvals (order_id, person, evidence_digest, broker_order_id, approved_at)
             values ($1, $2, $3, $4, $5)
             on conflict (order_id, person, evidence_digest) do nothing",
            order_id.as_uuid(),
            write.approval.person,
            write.approval.evidence_digest,
            write.approval.broker_order_id,
            write.approval.approved_at,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed)?;
        let changes: Vec<_> = write.change.into_iter().collect();
        self.write(&mut tx, now, &changes, OPERATION).await?;
        self.commit(tx, now, &changes, OPERATION).await?;
        Ok(write.settled)
    }
}
