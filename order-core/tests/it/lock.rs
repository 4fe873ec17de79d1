//! The account lock at its limits, with the real batch path: whatever becomes of the lock, the
//! version check alone decides. `make lock-proof` runs these without it and demands that they fail.

#![expect(clippy::indexing_slicing, reason = "a test that goes wrong here has failed")]

use crate::world::{World, limit, place, start, system_clock};
use crate::wrap::forward_common;
use contracts::calendar::MarketHours;
use contracts::{AccountId, OrderId, Partition, Side};
use order_core::adapters::locks::RedisLocks;
use order_core::application::audit::{Audit, Violation};
use order_core::application::command::{CommandError, Placed};
use order_core::application::queue::Shards;
use order_core::application::store::{LockMode, Plan, Snapshot, Store, StoreError, Transaction, Wants};
use order_core::domain::refusal::Refusal;
use platform::breaker::BreakerConfig;
use platform::config::RedisConfig;
use platform::keys;
use platform::lock::{AccountLocks, HeldLock, LockAnswer, LockConfig};
use platform::testing::{TestRedis, eventually};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a holder stands still between reading an account and writing it, once.
struct Gate {
    armed: AtomicBool,
    reached: Semaphore,
    open: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { armed: AtomicBool::new(false), reached: Semaphore::new(0), open: Semaphore::new(0) })
    }

    async fn pass(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            self.reached.add_permits(1);
            self.open.acquire().await.unwrap().forget();
        }
    }
}

/// The real store, with a gate between the read and the write of commands; without its version check where asked.
#[derive(Clone)]
struct Gated<S> {
    inner: S,
    gate: Arc<Gate>,
    ignores_versions: bool,
}

struct GatedTx<T> {
    inner: T,
    gate: Arc<Gate>,
    ignores_versions: bool,
    versions: BTreeMap<AccountId, i64>,
}

impl<S: Store> Store for Gated<S> {
    type Tx = GatedTx<S::Tx>;
    async fn begin(&self) -> Result<Self::Tx, StoreError> {
        let inner = self.inner.begin().await?;
        Ok(GatedTx {
            inner,
            gate: Arc::clone(&self.gate),
            ignores_versions: self.ignores_versions,
            versions: BTreeMap::new(),
        })
    }
    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        self.inner.load(wants).await
    }
    async fn reserved(
        &self,
        partitions: &[Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        self.inner.reserved(partitions, after, limit).await
    }
}

impl<T: Transaction> Transaction for GatedTx<T> {
    forward_common! {}
    async fn winners(&mut self, versions: &BTreeMap<AccountId, i64>) -> Result<BTreeSet<AccountId>, StoreError> {
        // Here and not where a transaction begins: a worker's tick begins some, too.
        self.gate.pass().await;
        if !self.ignores_versions {
            return self.inner.winners(versions).await;
        }
        let accounts: BTreeSet<AccountId> = versions.keys().copied().collect();
        let locked = self.inner.lock(&accounts, LockMode::SkipBusy).await?;
        let now = self.inner.load(&Wants { accounts, ..Wants::default() }).await?;
        self.versions = now.accounts.into_iter().map(|(id, account)| (id, account.version)).collect();
        Ok(locked)
    }
    async fn write(&mut self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        let mut plans = plans.to_vec();
        for plan in &mut plans {
            if let Some(version) = self.versions.get(&plan.account.id) {
                plan.account.version = *version;
                // The numbers of updates are unique, so they would stop the second spender as well.
                plan.transitions.iter_mut().for_each(|step| step.update = None);
            }
        }
        self.inner.write(&plans, now).await
    }
    async fn rollback(self) {
        self.inner.rollback().await;
    }
    async fn commit(self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        self.inner.commit(plans, now).await
    }
}

fn locks(redis: &RedisConfig, lease_ms: u64) -> AccountLocks {
    let breaker = BreakerConfig { open_ms: 50, ..BreakerConfig::default() };
    AccountLocks::new(redis, LockConfig { lease_ms, breaker, ..LockConfig::default() }).unwrap()
}

fn process<S: Store>(store: S, locks: &AccountLocks) -> Shards {
    start(store, RedisLocks(locks.clone()), MarketHours::Always, system_clock())
}

async fn take(locks: &AccountLocks, account: AccountId) -> Vec<HeldLock> {
    let mut held = Vec::new();
    for answer in locks.acquire_many(&[account]).await {
        if let LockAnswer::Acquired(lock) = answer {
            held.push(lock);
        }
    }
    held
}

/// Waits until nobody holds the lock of an account.
async fn lease_ends(redis: &TestRedis, account: AccountId) {
    let client = redis::Client::open(redis.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let free = eventually(PATIENCE, || {
        let mut connection = connection.clone();
        async move {
            let held: bool =
                redis::cmd("EXISTS").arg(keys::account_lock(account)).query_async(&mut connection).await.unwrap();
            !held
        }
    });
    assert!(free.await);
}

fn is_refused_for_cash(answer: &Result<Placed, CommandError>) -> bool {
    matches!(answer, Err(CommandError::Refused(Refusal::InsufficientBuyingPower { .. })))
}

/// One holder stands still between read and write until its lease is over; another takes the lock
/// and spends all the cash; then the first goes on.
struct Overlap {
    world: World,
    account: AccountId,
    paused: Result<Placed, CommandError>,
    other: Result<Placed, CommandError>,
    locks: AccountLocks,
}

async fn overlap(ignores_versions: bool) -> Overlap {
    let redis = TestRedis::start();
    let world = World::new().await;
    let account = world.account("1000").await;
    let (short, long) = (locks(&redis.config(), 600), locks(&redis.config(), 600_000));
    let gate = Gate::new();
    let gated = Gated { inner: world.store.clone(), gate: Arc::clone(&gate), ignores_versions };
    let (first, second) = (process(gated, &short), process(world.store.clone(), &long));
    gate.armed.store(true, Ordering::SeqCst);
    let paused = tokio::spawn(async move { place(&first, account, "paused", limit(Side::Buy, "10", "100")).await });
    tokio::time::timeout(PATIENCE, gate.reached.acquire()).await.unwrap().unwrap().forget();
    assert_eq!(short.health().acquired, 1, "it holds the lock");
    lease_ends(&redis, account).await;
    let other = place(&second, account, "other", limit(Side::Buy, "10", "100")).await;
    // The lock is another's when the first comes back to give it up.
    let mut theirs = Vec::new();
    while theirs.is_empty() {
        theirs = take(&long, account).await;
    }
    gate.open.add_permits(1);
    let paused = paused.await.unwrap();
    assert_eq!(long.release_many(theirs).await.released, 1, "nobody took it from its holder");
    Overlap { world, account, paused, other, locks: short }
}

async fn violations(world: &World) -> Vec<Violation> {
    world.store.audit().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_paused_beyond_its_lease_spends_nothing_that_another_spent_meanwhile() {
    let overlap = overlap(false).await;
    assert_eq!(violations(&overlap.world).await, Vec::new());
    assert!(overlap.other.is_ok());
    assert!(is_refused_for_cash(&overlap.paused), "{:?}", overlap.paused);
    let cash = overlap.world.cash(overlap.account).await;
    assert_eq!((cash.available, cash.held), (Decimal::ZERO, Decimal::from(1000)));
    let health = overlap.locks.health();
    assert_eq!((health.expired_while_held, health.release_refused), (1, 1), "{health:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_version_check_the_same_story_overspends_and_the_audit_says_so() {
    let overlap = overlap(true).await;
    assert!(overlap.other.is_ok() && overlap.paused.is_ok());
    let broken: BTreeSet<&str> = violations(&overlap.world).await.iter().map(|found| found.invariant).collect();
    for invariant in ["journal_replay_never_overspends", "balance_is_journal_sum", "held_is_what_orders_hold"] {
        assert!(broken.contains(invariant), "{invariant} is not in {broken:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_account_is_waited_for_and_then_goes_on_without_its_lock() {
    let redis = TestRedis::start();
    let world = World::new().await;
    let account = world.account("1000").await;
    let (dead, ours) = (locks(&redis.config(), 600_000), locks(&redis.config(), 600_000));
    // A copy that was killed holds its locks until their lease ends.
    let held = take(&dead, account).await;
    let process = process(world.store.clone(), &ours);
    place(&process, account, "c-1", limit(Side::Buy, "1", "100")).await.unwrap();
    let health = ours.health();
    assert!(health.busy > 0 && health.acquired == 0, "{health:?}");
    assert_eq!(dead.release_many(held).await.released, 1);
    place(&process, account, "c-2", limit(Side::Buy, "1", "100")).await.unwrap();
    assert_eq!(ours.health().acquired, 1);
    world.audit().await;
}

/// What happens to Redis under the spenders.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Stopped,
    Hanging,
    RestartedEmpty,
}

/// Balances that are spent at the same time: where one contest happens not to meet, another does.
const BALANCES: usize = 24;

/// Spenders of each balance in two processes, each order a third of the cash or less, while Redis is in
/// trouble.
async fn spenders(trouble: Trouble) {
    let mut redis = TestRedis::start();
    let world = World::new().await;
    let mut accounts = Vec::new();
    for _ in 0..BALANCES {
        accounts.push(world.account("1000").await);
    }
    let both = [locks(&redis.config(), 600_000), locks(&redis.config(), 600_000)];
    let processes = [process(world.store.clone(), &both[0]), process(world.store.clone(), &both[1])];
    let mut posts = JoinSet::new();
    for n in 0..BALANCES * 8 {
        if n == 4 {
            match trouble {
                Trouble::Stopped => redis.stop(),
                Trouble::Hanging => redis.pause(),
                Trouble::RestartedEmpty => redis.start_again(),
            }
        }
        let (shards, account) = (processes[n % 2].clone(), accounts[n / 2 % BALANCES]);
        posts.spawn(async move {
            (account, place(&shards, account, &format!("c-{n}"), limit(Side::Buy, "1", "300")).await)
        });
    }
    let answers = posts.join_all().await;
    assert_eq!(violations(&world).await, Vec::new(), "{trouble:?}");
    for account in accounts {
        let of_account = || answers.iter().filter(|(owner, _)| *owner == account).map(|(_, answer)| answer);
        assert_eq!(of_account().filter(|answer| answer.is_ok()).count(), 3, "{trouble:?}");
        assert!(of_account().all(|answer| answer.is_ok() || is_refused_for_cash(answer)), "{trouble:?}: {answers:?}");
        let cash = world.cash(account).await;
        assert_eq!((cash.available, cash.held), (Decimal::from(100), Decimal::from(900)), "{trouble:?}");
    }
    if matches!(trouble, Trouble::Hanging) {
        redis.resume();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spenders_never_overspend_while_redis_is_stopped() {
    spenders(Trouble::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spenders_never_overspend_while_redis_hangs() {
    spenders(Trouble::Hanging).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spenders_never_overspend_while_redis_is_restarted_empty() {
    spenders(Trouble::RestartedEmpty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_locks_were_taken_in_part_goes_on_and_leaves_none_behind() {
    let redis = TestRedis::start();
    let world = World::new().await;
    let first = world.account("1000").await;
    let mut second = world.account("1000").await;
    // Of the same worker, so that one call asks for both.
    while (Partition::of_account(first).number() - Partition::of_account(second).number()) % 2 != 0 {
        second = world.account("1000").await;
    }
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    // A user who may lock the first account and no other.
    let _ok: () = redis::cmd("ACL")
        .arg(&["SETUSER", "half", "on", ">pw", "+@all"])
        .arg(format!("~{}", keys::account_lock(first)))
        .query_async(&mut connection)
        .await
        .unwrap();
    let url = platform::config::Secret::new(redis.url().replace("redis://", "redis://half:pw@"));
    let half = locks(&RedisConfig { url, ..redis.config() }, 600_000);
    let process = process(world.store.clone(), &half);
    // The first release of all teaches Redis the script; from then on a lock is back before it is asked for again.
    place(&process, first, "first", limit(Side::Buy, "1", "100")).await.unwrap();
    assert!(eventually(PATIENCE, || async { half.health().released > 0 }).await, "{:?}", half.health());
    let mut posts = JoinSet::new();
    for n in 0..20 {
        let (shards, account) = (process.clone(), if n % 2 == 0 { first } else { second });
        posts.spawn(async move { place(&shards, account, &format!("c-{n}"), limit(Side::Buy, "1", "100")).await });
    }
    let refused = posts.join_all().await.into_iter().filter(Result::is_err).count();
    assert_eq!(refused, 1, "ten orders of 100 are what each can pay, and the first account has eleven");
    lease_ends(&redis, first).await;
    assert!(eventually(PATIENCE, || async { half.health().partial_acquire_released > 0 }).await, "{:?}", half.health());
    world.audit().await;
}
