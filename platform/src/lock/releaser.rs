//! The background task of the locks: gives back what callers could not, and probes a Redis that
//! the breaker keeps callers away from.

use super::script::{self, Released};
use super::{ReleaseReport, Shared, Token, count};
use contracts::AccountId;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most locks that are released in one round trip.
const BATCH_LEN_MAX: usize = 256;

/// Pause before a lock that may not have been taken yet is looked for once more.
const SECOND_LOOK_DELAY: Duration = Duration::from_secs(1);

/// A lock that somebody must give back.
#[derive(Clone)]
pub(super) struct Leftover {
    pub(super) account: AccountId,
    token: Token,
    /// Whether a SET or a release of it was never answered. The server may still run the SET after
    /// our first delete, since that goes over another connection: so one "gone" proves nothing yet.
    in_doubt: bool,
    /// Whether its SET belongs to a call that was told "unavailable".
    of_failed_acquire: bool,
    /// Whether it was looked for and not found already.
    gone_once: bool,
    not_before: Option<Instant>,
    give_up_at: Option<Instant>,
}

impl Leftover {
    pub(super) const fn in_doubt(account: AccountId, token: Token) -> Self {
        Self {
            account,
            token,
            in_doubt: true,
            of_failed_acquire: true,
            gone_once: false,
            not_before: None,
            give_up_at: None,
        }
    }

    pub(super) fn certain(mut self) -> Self {
        self.in_doubt = false;
        self.of_failed_acquire = false;
        self
    }

    pub(super) fn doubted(mut self) -> Self {
        self.in_doubt = true;
        self
    }

    pub(super) fn token(&self) -> &str {
        &self.token.0
    }

    fn is_due(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }
}

impl std::fmt::Debug for Leftover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leftover").field("account", &self.account).finish_non_exhaustive()
    }
}

/// Gives a lock to the background task; when that is full, the lease must do.
pub(super) fn hand_over(leftovers: &mpsc::Sender<Leftover>, leftover: Leftover) {
    if leftovers.try_send(leftover).is_err() {
        metrics::counter!("account_lock_leftover_dropped_total").increment(1);
    }
}

/// Runs until the last owner of locks is gone, then once more over what is left.
pub(super) async fn run(shared: Arc<Shared>, mut receiver: mpsc::Receiver<Leftover>) {
    let mut pending: Vec<Leftover> = Vec::new();
    loop {
        let wake_at = next_wake(&shared, &pending);
        tokio::select! {
            received = receiver.recv() => match received {
                Some(leftover) => {
                    admit(&shared, &mut pending, leftover);
                    while pending.len() < BATCH_LEN_MAX
                        && let Ok(leftover) = receiver.try_recv()
                    {
                        admit(&shared, &mut pending, leftover);
                    }
                }
                None => {
                    if shared.breaker().allows() {
                        pending.iter_mut().for_each(|leftover| leftover.not_before = None);
                        release_due(&shared, &mut pending).await;
                    }
                    return;
                }
            },
            () = shared.opened.notified() => {}
            () = sleep_until(wake_at) => {}
        }
        let now = Instant::now();
        pending.retain(|leftover| leftover.give_up_at.is_none_or(|at| at > now));
        let probe_at = shared.breaker().probe_at();
        match probe_at {
            None => release_due(&shared, &mut pending).await,
            Some(at) if at <= now => probe(&shared).await,
            Some(_) => {}
        }
    }
}

fn admit(shared: &Shared, pending: &mut Vec<Leftover>, mut leftover: Leftover) {
    if pending.len() >= shared.config.leftover_queue_len_max {
        metrics::counter!("account_lock_leftover_dropped_total").increment(1);
        return;
    }
    leftover.give_up_at = Some(Instant::now() + Duration::from_millis(shared.config.leftover_give_up_ms));
    pending.push(leftover);
}

fn next_wake(shared: &Shared, pending: &[Leftover]) -> Option<Instant> {
    let probe_at = shared.breaker().probe_at();
    if probe_at.is_some() {
        return probe_at;
    }
    let now = Instant::now();
    pending.iter().map(|leftover| leftover.not_before.unwrap_or(now)).min()
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn probe(shared: &Shared) {
    match shared.link.ping().await {
        Ok(()) => shared.succeeded(),
        Err(error) => shared.failed(&error),
    }
}

async fn release_due(shared: &Shared, pending: &mut Vec<Leftover>) {
    let now = Instant::now();
    let (due, later): (Vec<_>, Vec<_>) = std::mem::take(pending).into_iter().partition(|l| l.is_due(now));
    *pending = later;
    for batch in due.chunks(BATCH_LEN_MAX) {
        if !shared.breaker().allows() {
            pending.extend_from_slice(batch);
            continue;
        }
        match script::release(&shared.link, batch).await {
            Ok(outcomes) => {
                shared.succeeded();
                settle(shared, pending, batch, &outcomes);
            }
            Err(error) => {
                shared.failed(&error);
                let doubted: Vec<Leftover> = batch.iter().cloned().map(Leftover::doubted).collect();
                postpone(pending, &doubted);
            }
        }
    }
}

fn settle(shared: &Shared, pending: &mut Vec<Leftover>, batch: &[Leftover], outcomes: &[Released]) {
    let mut report = ReleaseReport::default();
    let mut partial = 0;
    for (leftover, outcome) in batch.iter().zip(outcomes) {
        match outcome {
            Released::Deleted => {
                report.released += 1;
                partial += u64::from(leftover.of_failed_acquire);
            }
            Released::Gone | Released::Refused if leftover.in_doubt && !leftover.gone_once => {
                postpone(pending, &[Leftover { gone_once: true, ..leftover.clone() }]);
            }
            // Never taken after all, or given back by the release that was not answered.
            Released::Gone | Released::Refused if leftover.in_doubt => {}
            Released::Refused => {
                report.expired_while_held += 1;
                report.refused += 1;
            }
            Released::Gone => report.expired_while_held += 1,
            Released::Failed => postpone(pending, std::slice::from_ref(leftover)),
        }
    }
    shared.count_release(report);
    let taken_back = metrics::counter!("account_lock_partial_acquire_released_total");
    count(&taken_back, &shared.counts.partial_released, partial);
}

fn postpone(pending: &mut Vec<Leftover>, batch: &[Leftover]) {
    let again_at = Instant::now() + SECOND_LOOK_DELAY;
    pending.extend(batch.iter().cloned().map(|mut leftover| {
        leftover.not_before = Some(again_at);
        leftover
    }));
}
