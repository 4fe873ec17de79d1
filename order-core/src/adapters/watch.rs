//! Figures about the books as a whole, for metrics.

use crate::application::audit::{Audit, findings_of_all};
use crate::application::query::Queries;
use crate::domain::status::Status;
use platform::invariants::Invariants;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Counts orders by status, until `shutdown`.
pub async fn count_statuses(queries: Arc<dyn Queries>, interval: Duration, shutdown: CancellationToken) {
    let mut ticks = ticks(interval);
    while tick(&mut ticks, &shutdown).await {
        let Ok(counts) = queries.status_counts().await else { continue };
        // Every status, so that one that nobody is in any more reads 0 and not its last count.
        for status in Status::ALL {
            let count = counts.iter().find(|(word, _)| word == status.as_str()).map_or(0, |(_, count)| *count);
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            metrics::gauge!("orders", "status" => status.as_str()).set(count);
        }
    }
}

/// Checks the books as a whole, until `shutdown`.
pub async fn check_books(
    audit: Arc<dyn Audit>,
    invariants: Invariants,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = ticks(interval);
    while tick(&mut ticks, &shutdown).await {
        match audit.audit().await {
            Ok(violations) => invariants.replace(findings_of_all(violations)),
            Err(error) => tracing::warn!(error = %platform::telemetry::Chain(&error), "books could not be checked"),
        }
    }
}

fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next look; false at shutdown.
async fn tick(ticks: &mut Interval, shutdown: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => false,
        _ = ticks.tick() => true,
    }
}
