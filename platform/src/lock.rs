//! The account lock: one Redis key an account, so that copies of the order server do not work on
//! the same account at the same time.
//!
//! It saves work and protects nothing. Correctness is the `version` on the account row, from read
//! to write; with Redis gone, slow or restarted empty, orders go on on that alone. So every answer
//! here is cheap: a server that hangs costs each caller at most one response timeout, then the
//! breaker is open, callers are told [`LockAnswer::Unavailable`] at once, and a background task
//! finds out when Redis is back.

mod config;
mod releaser;
mod script;

pub use config::LockConfig;

use crate::breaker::{Breaker, BreakerState};
use crate::config::RedisConfig;
use crate::keys;
use crate::link::{Link, LinkError};
use contracts::AccountId;
use redis::Value;
use releaser::Leftover;
use script::Released;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

/// A random token of 128 bits, which only its holder knows.
#[derive(Clone, PartialEq, Eq)]
struct Token(String);

impl Token {
    fn random() -> Self {
        Self(format!("{:032x}", rand::random::<u128>()))
    }
}

/// A lock that is held. Give it to [`AccountLocks::release_many`] after the commit; one that is
/// dropped instead (a panic, an early return) is released in the background.
#[derive(Debug)]
pub struct HeldLock {
    account: AccountId,
    /// Taken out when somebody else has become responsible for the release.
    leftover: Option<Leftover>,
    leftovers: mpsc::Sender<Leftover>,
    lease_ends: Instant,
}

impl HeldLock {
    /// Whose lock it is.
    #[must_use]
    pub const fn account(&self) -> AccountId {
        self.account
    }

    /// Whether its lease is over, so that another may hold it by now. Nothing depends on that
    /// being noticed.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        Instant::now() >= self.lease_ends
    }
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        if let Some(leftover) = self.leftover.take() {
            releaser::hand_over(&self.leftovers, leftover);
        }
    }
}

/// Whether an account is ours for now.
#[derive(Debug)]
pub enum LockAnswer {
    /// Ours until released or expired.
    Acquired(HeldLock),
    /// Another holds it: try later.
    Busy,
    /// Nobody can tell: go on without, on the version check.
    Unavailable,
}

/// What became of a release, in numbers of locks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReleaseReport {
    /// Given back.
    pub released: u64,
    /// Not ours any more: the lease had ended while it was held.
    pub expired_while_held: u64,
    /// Of these, the ones that another holds by now: the release was refused, theirs stays.
    pub refused: u64,
    /// No answer; the background task goes on trying, and the lease ends anyway.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    acquired: AtomicU64,
    busy: AtomicU64,
    unavailable: AtomicU64,
    released: AtomicU64,
    expired_while_held: AtomicU64,
    release_refused: AtomicU64,
    release_failed: AtomicU64,
    partial_released: AtomicU64,
}

/// The locks at one moment, for health. Counts since the start.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LockHealth {
    /// Open: orders go on without locks.
    pub breaker: BreakerState,
    /// Locks taken.
    pub acquired: u64,
    /// Locks that another held.
    pub busy: u64,
    /// Locks that could not be asked for.
    pub unavailable: u64,
    /// Locks given back.
    pub released: u64,
    /// Locks whose lease ended while they were held.
    pub expired_while_held: u64,
    /// Of these, the ones that another held by then: its lock was left alone.
    pub release_refused: u64,
    /// Releases without an answer.
    pub release_failed: u64,
    /// Locks that were taken by a call which failed half-way, and were given back afterwards.
    pub partial_acquire_released: u64,
}

struct Shared {
    link: Link,
    config: LockConfig,
    breaker: Mutex<Breaker>,
    /// Wakes the background task when the breaker opens.
    opened: Notify,
    counts: Counts,
}

impl Shared {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn succeeded(&self) {
        let mut breaker = self.breaker();
        if !breaker.allows() {
            tracing::info!("redis answers again: account locks are back");
            metrics::gauge!("account_lock_breaker_open").set(0.0);
        }
        breaker.succeeded();
    }

    fn failed(&self, error: &LinkError) {
        if self.breaker().failed(error.failure(), Instant::now()) {
            tracing::warn!(
                error = %crate::telemetry::Chain(error),
                "account locks are off: orders go on on the version check"
            );
            metrics::gauge!("account_lock_breaker_open").set(1.0);
            self.opened.notify_one();
        }
    }

    fn count_release(&self, report: ReleaseReport) {
        let counts = &self.counts;
        count(&metrics::counter!("account_lock_released_total"), &counts.released, report.released);
        let expired = metrics::counter!("account_lock_expired_while_held_total");
        count(&expired, &counts.expired_while_held, report.expired_while_held);
        count(&metrics::counter!("account_lock_release_refused_total"), &counts.release_refused, report.refused);
        count(&metrics::counter!("account_lock_release_failed_total"), &counts.release_failed, report.failed);
    }
}

/// Counts for the metric and for health.
fn count(metric: &metrics::Counter, counter: &AtomicU64, by: u64) {
    if by > 0 {
        counter.fetch_add(by, Ordering::Relaxed);
        metric.increment(by);
    }
}

/// Takes and gives back account locks. Cheap to clone.
#[derive(Clone)]
pub struct AccountLocks {
    shared: Arc<Shared>,
    leftovers: mpsc::Sender<Leftover>,
}

impl std::fmt::Debug for AccountLocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccountLocks").field("health", &self.health()).finish_non_exhaustive()
    }
}

impl AccountLocks {
    /// Prepares the locks and starts their background task, which ends with the last clone. Redis
    /// need not be there. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Url`] when the Redis URL cannot be read.
    pub fn new(redis: &RedisConfig, config: LockConfig) -> Result<Self, LinkError> {
        let (sender, receiver) = mpsc::channel(config.leftover_queue_len_max.max(1));
        let shared = Arc::new(Shared {
            link: Link::new(redis)?,
            breaker: Mutex::new(Breaker::new(config.breaker.clone())),
            config,
            opened: Notify::new(),
            counts: Counts::default(),
        });
        metrics::gauge!("account_lock_breaker_open").set(0.0);
        tokio::spawn(releaser::run(Arc::clone(&shared), receiver));
        Ok(Self { shared, leftovers: sender })
    }

    /// Tries to take the locks of some accounts, in one round trip; the answers are in the same
    /// order. Never waits for a holder.
    pub async fn acquire_many(&self, accounts: &[AccountId]) -> Vec<LockAnswer> {
        let shared = &self.shared;
        if accounts.is_empty() {
            return Vec::new();
        }
        if !shared.breaker().allows() {
            return self.unavailable(accounts);
        }
        let lease_ms = shared.config.lease_ms;
        let lease_ends = Instant::now() + Duration::from_millis(lease_ms);
        let mut pipeline = redis::pipe();
        // From here on each token has an owner that releases it, also when this future is dropped
        // half-way.
        let mut tried: Vec<HeldLock> = Vec::with_capacity(accounts.len());
        for account in accounts {
            let token = Token::random();
            pipeline.cmd("SET").arg(keys::account_lock(*account)).arg(&token.0).arg("NX").arg("PX").arg(lease_ms);
            tried.push(HeldLock {
                account: *account,
                leftover: Some(Leftover::in_doubt(*account, token)),
                leftovers: self.leftovers.clone(),
                lease_ends,
            });
        }
        match shared.link.run(&mut pipeline).await {
            Ok(answers) => self.sort_out(accounts, tried, answers),
            Err(error) => {
                if !error.may_have_taken_effect() {
                    tried.iter_mut().for_each(|lock| lock.leftover = None);
                }
                shared.failed(&error);
                self.unavailable(accounts)
            }
        }
    }

    /// Gives locks back, in one round trip: each is deleted only if it still holds its own token.
    pub async fn release_many(&self, held: Vec<HeldLock>) -> ReleaseReport {
        let shared = &self.shared;
        let mut held = held;
        let mut report = ReleaseReport::default();
        if held.is_empty() {
            return report;
        }
        if !shared.breaker().allows() {
            report.failed = held.len() as u64;
            shared.count_release(report);
            return report;
        }
        // Without an answer nobody knows whether they are still there: what the background task then
        // finds gone did not expire while it was held.
        held.iter_mut().for_each(|lock| lock.leftover = lock.leftover.take().map(Leftover::doubted));
        let wanted: Vec<Leftover> = held.iter().filter_map(|lock| lock.leftover.clone()).collect();
        match script::release(&shared.link, &wanted).await {
            Ok(outcomes) => {
                shared.succeeded();
                for (lock, outcome) in held.iter_mut().zip(outcomes) {
                    match outcome {
                        Released::Deleted => report.released += 1,
                        Released::Gone => report.expired_while_held += 1,
                        Released::Refused => {
                            report.expired_while_held += 1;
                            report.refused += 1;
                        }
                        Released::Failed => {
                            report.failed += 1;
                            continue;
                        }
                    }
                    lock.leftover = None;
                }
            }
            Err(error) => {
                shared.failed(&error);
                report.failed = held.len() as u64;
            }
        }
        shared.count_release(report);
        // What still has its leftover is handed to the background task by its drop.
        drop(held);
        report
    }

    /// The locks now.
    #[must_use]
    pub fn health(&self) -> LockHealth {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = &self.shared.counts;
        LockHealth {
            breaker: self.shared.breaker().state(),
            acquired: read(&counts.acquired),
            busy: read(&counts.busy),
            unavailable: read(&counts.unavailable),
            released: read(&counts.released),
            expired_while_held: read(&counts.expired_while_held),
            release_refused: read(&counts.release_refused),
            release_failed: read(&counts.release_failed),
            partial_acquire_released: read(&counts.partial_released),
        }
    }

    fn sort_out(
        &self,
        accounts: &[AccountId],
        tried: Vec<HeldLock>,
        answers: Vec<redis::RedisResult<Value>>,
    ) -> Vec<LockAnswer> {
        let shared = &self.shared;
        let refusal = answers.iter().find_map(|answer| answer.as_ref().err());
        if refusal.is_some() || answers.len() != tried.len() {
            // Half-way: whatever was taken is given back (by the drop), so that no account is
            // locked by a call that was told "unavailable".
            let error = LinkError::Command(refusal.cloned().unwrap_or_else(|| {
                redis::RedisError::from((redis::ErrorKind::Client, "redis gave another number of answers"))
            }));
            shared.failed(&error);
            return self.unavailable(accounts);
        }
        shared.succeeded();
        let mut sorted = Vec::with_capacity(tried.len());
        let (mut acquired, mut busy) = (0, 0);
        for (mut lock, answer) in tried.into_iter().zip(answers) {
            if matches!(answer, Ok(Value::Okay)) {
                acquired += 1;
                lock.leftover = lock.leftover.take().map(Leftover::certain);
                sorted.push(LockAnswer::Acquired(lock));
            } else {
                busy += 1;
                lock.leftover = None;
                sorted.push(LockAnswer::Busy);
            }
        }
        count(&metrics::counter!("account_lock_acquired_total"), &shared.counts.acquired, acquired);
        count(&metrics::counter!("account_lock_busy_total"), &shared.counts.busy, busy);
        sorted
    }

    fn unavailable(&self, accounts: &[AccountId]) -> Vec<LockAnswer> {
        let shared = &self.shared;
        count(&metrics::counter!("account_lock_unavailable_total"), &shared.counts.unavailable, accounts.len() as u64);
        accounts.iter().map(|_| LockAnswer::Unavailable).collect()
    }
}
