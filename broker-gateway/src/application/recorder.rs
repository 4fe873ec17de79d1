//! Records ended calls in batches: whatever has ended by the time the last batch is committed goes
//! into the next one.

use super::chain::Chain;
use super::ports::{JitterSource, LaneStore};
use super::record::{FinishedCall, fold};
use super::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use contracts::OrderId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Limits of the recorder.
#[derive(Debug, Clone, Copy)]
pub struct RecorderLimits {
    /// Most ends in one transaction.
    pub batch_len_max: usize,
    /// Wait after a transaction that failed.
    pub error_delay: Duration,
    /// For how long an end is tried to be recorded before it is left to the deadline of its
    /// attempt: after that it is unknown, and the protocol asks the broker.
    pub give_up_after: Duration,
}

/// Records what the lane's calls came to.
pub struct Recorder<S, J> {
    /// The requests.
    pub store: Arc<S>,
    /// Promises and patience.
    pub rules: Arc<Rules>,
    /// Jitter of waits.
    pub jitter: J,
    /// Limits.
    pub limits: RecorderLimits,
    /// Rings when a record made work for the lane.
    pub wake: Arc<Notify>,
}

impl<S: LaneStore, J: JitterSource> Recorder<S, J> {
    /// Records until all senders are gone and the queue is empty.
    pub async fn run(self, mut finished: mpsc::Receiver<FinishedCall>) {
        let mut batch = Vec::with_capacity(self.limits.batch_len_max);
        while finished.recv_many(&mut batch, self.limits.batch_len_max).await > 0 {
            self.record(&batch).await;
            batch.clear();
        }
    }

    /// Tries until it is recorded. Recording twice is harmless: an attempt that has a definite end
    /// keeps it, and evidence that is known changes nothing.
    async fn record(&self, batch: &[FinishedCall]) {
        let deadline = Instant::now() + self.limits.give_up_after;
        loop {
            let began = Instant::now();
            match self.try_record(batch).await {
                Ok(makes_work) => {
                    metrics::histogram!("gateway_record_calls").record(f64::from(count(batch.len())));
                    metrics::histogram!("gateway_record_duration_seconds").record(began.elapsed().as_secs_f64());
                    if makes_work {
                        self.wake.notify_one();
                    }
                    return;
                }
                Err(error) => {
                    metrics::counter!("gateway_store_errors_total", "operation" => "record").increment(1);
                    tracing::error!(error = %Chain(&error), calls = batch.len(),
                        "ends of calls could not be recorded");
                }
            }
            if Instant::now() >= deadline {
                metrics::counter!("gateway_unrecorded_calls_total").increment(u64::from(count(batch.len())));
                tracing::error!(calls = batch.len(), "ends of calls were given up: they become unknown");
                return;
            }
            tokio::time::sleep(self.limits.error_delay).await;
        }
    }

    async fn try_record(&self, batch: &[FinishedCall]) -> Result<bool, super::ports::StoreError> {
        let orders: BTreeSet<OrderId> = batch.iter().map(|call| call.order_id).collect();
        let known = batch.iter().filter_map(|call| Some((call.order_id, call.attempt.clone()?))).collect();
        let mut makes_work = false;
        self.store
            .change(orders.into_iter().collect(), known, |at, loaded| {
                // What follows is only planned here; the lane tests the clock when it claims.
                let now = Now { at, is_trusted: true };
                let changes = fold(&self.rules, now, loaded, batch, || Jitter(self.jitter.permille()));
                makes_work = changes.iter().any(|change| change.request.due.is_some_and(|due| due.at <= at));
                changes
            })
            .await?;
        Ok(makes_work)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
