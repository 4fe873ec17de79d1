//! Tries events again that could not take effect when they came.

use super::db::PgStore;
use super::intake::Intake;
use crate::application::chain::Chain;
use crate::application::ports::{JitterSource, StoreError};
use contracts::Partition;
use platform::lease::Leases;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Looks for waiting events of the partitions that this copy prefers, until `shutdown`.
pub async fn run<J: JitterSource>(
    store: PgStore,
    intake: Arc<Intake<J>>,
    leases: Leases,
    interval: Duration,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        if let Err(error) = round(&store, &intake, &leases).await {
            tracing::warn!(error = %Chain(&error), "waiting events could not be tried again");
        }
    }
}

async fn round<J: JitterSource>(store: &PgStore, intake: &Intake<J>, leases: &Leases) -> Result<(), StoreError> {
    let preferred = leases.preferred(&Partition::all().collect::<Vec<_>>());
    if preferred.is_empty() {
        return Ok(());
    }
    for (producer, partition) in store.waiting(&preferred).await? {
        let done = intake.redrive(producer, partition).await?;
        metrics::counter!("gateway_redriven_events_total", "producer" => producer.as_str()).increment(done as u64);
        if done > 0 {
            tracing::info!(%producer, %partition, done, "waiting events have taken effect");
        }
    }
    Ok(())
}
