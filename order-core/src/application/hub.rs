//! Who is listening in this process: wakes streams when their account has something new, and ends
//! those whose key is no longer valid. It carries no updates. Each stream reads its own from the
//! database by number, so a wake-up that is lost costs a moment and never an update.

use super::store::Plan;
use super::updates::UpdateReads;
use contracts::AccountId;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The number of an account's last update, as far as this process knows.
pub type Head = watch::Receiver<i64>;

/// Why a stream ends before its client wants it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its key is no longer valid.
    Revoked,
    /// The key has opened newer streams.
    Replaced,
}

/// A stream's place among all. Given back when it is dropped.
pub struct Member {
    /// Wakes it.
    pub head: Head,
    /// Ends it.
    pub end: watch::Receiver<Option<EndReason>>,
    hub: Arc<Hub>,
    account: AccountId,
    key_id: String,
    id: u64,
}

impl Member {
    /// Waits until it has to end.
    pub async fn ended(&mut self) -> EndReason {
        loop {
            if let Some(reason) = *self.end.borrow_and_update() {
                return reason;
            }
            // The other end goes when the key's last stream does, which is this one at the earliest.
            if self.end.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.leave(self.account, &self.key_id, self.id);
    }
}

struct Account {
    head: watch::Sender<i64>,
    members: usize,
}

struct KeyMember {
    id: u64,
    end: watch::Sender<Option<EndReason>>,
}

#[derive(Default)]
struct Registry {
    accounts: HashMap<AccountId, Account>,
    keys: HashMap<String, VecDeque<KeyMember>>,
    last_id: u64,
}

/// The streams of this process.
pub struct Hub {
    places: Arc<Semaphore>,
    per_key_max: usize,
    members: AtomicUsize,
    registry: Mutex<Registry>,
}

impl Hub {
    /// At most `connections_max` streams, of one key at most `per_key_max`.
    #[must_use]
    pub fn new(connections_max: usize, per_key_max: usize) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections_max)),
            per_key_max,
            members: AtomicUsize::new(0),
            registry: Mutex::new(Registry::default()),
        }
    }

    /// A place for a connection; none when all are taken.
    #[must_use]
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Takes in a stream of an account. Beyond the most streams of a key its oldest ends: a client
    /// that lost a connection without knowing must get in again.
    #[must_use]
    pub fn join(self: &Arc<Self>, account: AccountId, key_id: &str) -> Member {
        let mut registry = self.registry();
        registry.last_id += 1;
        let id = registry.last_id;
        let entry =
            registry.accounts.entry(account).or_insert_with(|| Account { head: watch::Sender::new(0), members: 0 });
        entry.members += 1;
        let head = entry.head.subscribe();
        let (end, ended) = watch::channel(None);
        let of_key = registry.keys.entry(key_id.to_owned()).or_default();
        of_key.push_back(KeyMember { id, end });
        while of_key.len() > self.per_key_max {
            let Some(oldest) = of_key.pop_front() else { break };
            oldest.end.send_replace(Some(EndReason::Replaced));
        }
        self.members.fetch_add(1, Ordering::Relaxed);
        Member { head, end: ended, hub: Arc::clone(self), account, key_id: key_id.to_owned(), id }
    }

    fn leave(&self, account: AccountId, key_id: &str, id: u64) {
        let mut registry = self.registry();
        if let Some(entry) = registry.accounts.get_mut(&account) {
            entry.members = entry.members.saturating_sub(1);
            if entry.members == 0 {
                registry.accounts.remove(&account);
            }
        }
        if let Some(of_key) = registry.keys.get_mut(key_id) {
            of_key.retain(|member| member.id != id);
            if of_key.is_empty() {
                registry.keys.remove(key_id);
            }
        }
        self.members.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the streams of accounts that a commit of this process changed.
    pub fn committed(&self, plans: &[Plan]) {
        if self.members.load(Ordering::Relaxed) == 0 {
            return;
        }
        let registry = self.registry();
        for plan in plans {
            raise(&registry, plan.account.id, plan.account.last_update.seq);
        }
    }

    /// Looks at the database for what other copies of this process have committed and for keys that
    /// have ended, one statement each for all streams, until `end`.
    pub async fn run(self: Arc<Self>, reads: Arc<dyn UpdateReads>, interval: Duration, end: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.look(&*reads).await;
        }
    }

    async fn look(&self, reads: &dyn UpdateReads) {
        let (accounts, keys) = {
            let registry = self.registry();
            let accounts: Vec<AccountId> = registry.accounts.keys().copied().collect();
            (accounts, registry.keys.keys().cloned().collect::<Vec<String>>())
        };
        if accounts.is_empty() {
            return;
        }
        match reads.update_heads(&accounts).await {
            Ok(heads) => {
                let registry = self.registry();
                for (account, seq) in heads {
                    raise(&registry, account, seq);
                }
            }
            Err(error) => warn(&error),
        }
        match reads.valid_keys(&keys).await {
            Ok(valid) => {
                let registry = self.registry();
                for key_id in keys.iter().filter(|key_id| !valid.contains(*key_id)) {
                    for member in registry.keys.get(key_id).into_iter().flatten() {
                        member.end.send_replace(Some(EndReason::Revoked));
                    }
                }
            }
            Err(error) => warn(&error),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn raise(registry: &Registry, account: AccountId, seq: i64) {
    if let Some(entry) = registry.accounts.get(&account) {
        entry.head.send_if_modified(|head| {
            let is_new = seq > *head;
            *head = seq.max(*head);
            is_new
        });
    }
}

fn warn(error: &super::query::QueryError) {
    metrics::counter!("stream_poll_failures_total").increment(1);
    tracing::warn!(error = %platform::telemetry::Chain(error), "streams could not be looked after");
}
