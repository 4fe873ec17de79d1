//! The lane: claims due requests, makes their calls, and hands the ends to the recorder.
//!
//! One task claims, besides the intake, which claims new orders ([`super::launch`]); each call runs in a task of its own and is awaited to its end, so that rate and
//! concurrency are what they say. Only the task that claimed a call makes it, once, and an attempt
//! whose grace is over writes nothing.

use super::chain::Chain;
use super::claim::PlannedCall;
use super::launch::{Launcher, Straight};
use super::ports::{Caller, Dialect, JitterSource, LaneStore, StoreError};
use platform::pace::Pace;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Limits of the claiming task.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Most calls at once.
    pub concurrency_max: u32,
    /// Most requests in one claim.
    pub claim_len_max: u32,
    /// Longest time between two looks at the store.
    pub poll_interval: Duration,
    /// How far apart claims of many requests begin.
    pub claim_interval: Duration,
    /// Wait after a claim that failed.
    pub error_delay: Duration,
}

/// Everything that a lane works with.
pub struct LaneWorker<S, C, D, J> {
    /// The requests.
    pub store: Arc<S>,
    /// Starts its calls.
    pub launcher: Arc<Launcher<C, D, J>>,
    /// Limits.
    pub limits: LaneLimits,
    /// Rings after an intake or a record that may have made work.
    pub wake: Arc<Notify>,
}

/// What a round of claiming came to.
enum Round {
    /// As many as asked for: there may be more.
    Full,
    /// Fewer: wait to be woken.
    Idle,
    /// Not now: rate, pause, or trouble.
    Wait(Duration),
}

/// A claim that is committed.
struct Claimed {
    /// Requests that were due.
    due: u32,
    /// Just before the database's time was asked for.
    since: Instant,
    /// The calls that follow.
    calls: Vec<PlannedCall>,
}

impl<S: LaneStore, C: Caller, D: Dialect, J: JitterSource> LaneWorker<S, C, D, J> {
    /// Works until `shutdown`, then waits for the calls under way: each has its own time limit.
    pub async fn run(self, shutdown: CancellationToken) {
        let full_len = usize::try_from(self.limits.claim_len_max).unwrap_or(usize::MAX);
        let mut pace = Pace::new(self.limits.claim_interval, full_len);
        self.launcher.open();
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = pace.wait() => {}
                () = shutdown.cancelled() => break,
            }
            let began = Instant::now();
            // Armed before the claim, so that what is committed during it is not missed.
            let woken = self.wake.notified();
            let (round, calls) = self.round(&shutdown).await;
            pace.worked(began, calls);
            let pause = match round {
                Round::Full => continue,
                Round::Idle => self.limits.poll_interval,
                Round::Wait(pause) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.cancelled() => {}
                    }
                    continue;
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
        self.launcher.drain().await;
    }

    /// Answers how many calls it started too.
    async fn round(&self, shutdown: &CancellationToken) -> (Round, usize) {
        let admission = tokio::select! {
            admission = self.launcher.admit() => admission,
            () = shutdown.cancelled() => return (Round::Idle, 0),
        };
        let admission = match admission {
            Ok(admission) => admission,
            Err(none) => {
                return (Round::Wait(none.retry_in.clamp(Duration::from_millis(1), self.limits.poll_interval)), 0);
            }
        };
        let asked_for = admission.calls();
        let claimed = match self.claim(asked_for).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // Also an unknown commit: what it may have claimed is given up by the deadline, and
                // nothing is written to the socket.
                metrics::counter!("gateway_store_errors_total", "operation" => "claim").increment(1);
                tracing::error!(error = %Chain(&error), "due requests could not be claimed");
                return (Round::Wait(self.limits.error_delay), 0);
            }
        };
        let started = claimed.calls.len();
        self.launcher.start(claimed.calls, admission, claimed.since);
        // A claim that was cut short by permits or rate goes on as soon as there are more.
        (if claimed.due >= asked_for { Round::Full } else { Round::Idle }, started)
    }

    async fn claim(&self, limit: u32) -> Result<Claimed, StoreError> {
        let began = Instant::now();
        let mut since = began;
        let mut planned = Vec::new();
        let due = self
            .store
            .claim(limit, self.launcher.rules.review_hold(), |moment, due| {
                // The grace runs from before the database's time was read, so that it is never longer
                // than it looks.
                since = moment.asked_at;
                let (changes, calls) = self.launcher.plan(moment, due);
                planned = calls;
                changes
            })
            .await?;
        if due > 0 {
            metrics::histogram!("gateway_claim_requests").record(f64::from(due));
            metrics::histogram!("gateway_claim_duration_seconds").record(began.elapsed().as_secs_f64());
        }
        Ok(Claimed { due, since, calls: planned })
    }
}

#[cfg(test)]
mod tests;
