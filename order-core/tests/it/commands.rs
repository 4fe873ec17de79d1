//! What a customer's commands may do to an account, alone and against each other.

use crate::world::{Flow, NoLocks, World, command, limit, movement, place, start, system_clock};
use crate::wrap::{forward, forward_common};
use contracts::calendar::MarketHours;
use contracts::{AccountId, OrderId, Partition, Side};
use order_core::adapters::db::PgStore;
use order_core::application::command::{CommandError, Commands};
use order_core::application::store::{LockMode, Plan, Snapshot, Store, StoreError, Transaction, Wants};
use order_core::domain::refusal::Refusal;
use order_core::domain::status::Status;
use platform::testing::eventually;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use time::macros::datetime;

#[tokio::test]
async fn an_accepted_order_its_hold_its_journal_and_its_event_are_one_commit() {
    let world = World::new().await;
    let account = world.account("10000").await;
    let placed = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap();
    assert_eq!((placed.order.status(), placed.replayed), (Status::PendingSend, false));
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::from(9000), Decimal::from(1000)));
    assert_eq!(world.count("select count(*) from event_log where type = 'order.submit'").await, 1);
    assert_eq!(world.order(account, placed.order.id).await, placed.order);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_client_order_posted_a_hundred_times_at_once_makes_one_order() {
    let world = World::new().await;
    let account = world.account("10000").await;
    let copies = [world.shards.clone(), world.another()];
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..100 {
        let shards = copies[n % 2].clone();
        posts.spawn(async move { place(&shards, account, "same", limit(Side::Buy, "1", "100")).await.unwrap() });
    }
    let answers = posts.join_all().await;
    let first = answers[0].order.id;
    assert!(answers.iter().all(|placed| placed.order.id == first));
    assert_eq!(answers.iter().filter(|placed| !placed.replayed).count(), 1);
    assert_eq!(world.cash(account).await.held, Decimal::from(100));
    world.audit().await;
}

#[tokio::test]
async fn the_same_id_with_other_terms_is_refused_and_the_same_terms_written_otherwise_replay() {
    let world = World::new().await;
    let account = world.account("10000").await;
    place(&world.shards, account, "c-1", limit(Side::Buy, "2", "100")).await.unwrap();
    assert!(place(&world.shards, account, "c-1", limit(Side::Buy, "2.0", "100.00")).await.unwrap().replayed);
    let other = place(&world.shards, account, "c-1", limit(Side::Buy, "3", "100")).await;
    assert!(matches!(other, Err(CommandError::Refused(Refusal::DuplicateClientOrderId))));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_spenders_of_one_balance_in_two_processes_without_locks_never_overspend() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let copies = [world.shards.clone(), world.another()];
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..20 {
        let shards = copies[n % 2].clone();
        posts.spawn(async move { place(&shards, account, &format!("c-{n}"), limit(Side::Buy, "1", "300")).await });
    }
    let answers = posts.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refused, CommandError::Refused(Refusal::InsufficientBuyingPower { .. })), "{refused:?}");
    }
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::from(100), Decimal::from(900)));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_sellers_of_one_holding_never_sell_more_than_is_there() {
    let world = World::new().await;
    let account = world.account("1000").await;
    world.bought(account, "buy", "10", "100").await;
    let copies = [world.shards.clone(), world.another()];
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..20 {
        let shards = copies[n % 2].clone();
        posts.spawn(async move { place(&shards, account, &format!("s-{n}"), limit(Side::Sell, "3", "100")).await });
    }
    assert_eq!(posts.join_all().await.iter().filter(|answer| answer.is_ok()).count(), 3);
    world.audit().await;
}

#[tokio::test]
async fn a_refusal_is_given_again_for_the_same_request_even_when_cash_has_come() {
    let world = World::new().await;
    let account = world.account("10").await;
    let terms = limit(Side::Buy, "1", "100");
    let first = place(&world.shards, account, "c-1", terms.clone()).await.unwrap_err().to_string();
    let money = contracts::Money::parse("1000", contracts::Currency::USD).unwrap();
    world.shards.deposit(movement(account, money, "more")).await.unwrap();
    let again = place(&world.shards, account, "c-1", terms.clone()).await;
    assert!(matches!(&again, Err(CommandError::Refused(Refusal::Stored { status: 403, .. }))), "{again:?}");
    assert_eq!(again.unwrap_err().to_string(), first);
    assert!(place(&world.shards, account, "c-2", terms).await.is_ok());
    world.audit().await;
}

#[tokio::test]
async fn a_deposit_counts_once_by_its_reference() {
    let world = World::new().await;
    let account = world.account("10").await;
    let usd = |amount: &str| contracts::Money::parse(amount, contracts::Currency::USD).unwrap();
    let deposit = |amount: &str| movement(account, usd(amount), "wire-1");
    world.shards.deposit(deposit("5")).await.unwrap();
    world.shards.deposit(deposit("5.00")).await.unwrap();
    assert!(matches!(world.shards.deposit(deposit("6")).await, Err(CommandError::ReferenceConflict)));
    assert_eq!(world.cash(account).await.available, Decimal::from(15));
    world.audit().await;
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_a_whole_order_or_none() {
    let world = World::new().await;
    let account = world.account("100000").await;
    for n in 0..50 {
        let shards = world.shards.clone();
        let call =
            tokio::spawn(async move { place(&shards, account, &format!("c-{n}"), limit(Side::Buy, "1", "10")).await });
        for _ in 0..n {
            tokio::task::yield_now().await;
        }
        call.abort();
        let _aborted = call.await;
    }
    // The next order of the account is not held up by anything that was left behind.
    place(&world.shards, account, "last", limit(Side::Buy, "1", "10")).await.unwrap();
    let orders = world.count("select count(*) from orders").await;
    assert_eq!(world.count("select count(*) from event_log").await, orders);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_another_writer_holds_does_not_hold_up_its_neighbours() {
    let world = World::new().await;
    let busy = world.account("1000").await;
    let mut free = world.account("1000").await;
    // Of the same worker, or this would show nothing.
    while (Partition::of_account(free).number() - Partition::of_account(busy).number()) % 2 != 0 {
        free = world.account("1000").await;
    }
    let mut tx = world.store.begin().await.unwrap();
    tx.lock(&BTreeSet::from([busy]), LockMode::Wait).await.unwrap();
    let waiting = {
        let shards = world.shards.clone();
        tokio::spawn(async move { place(&shards, busy, "b", limit(Side::Buy, "1", "10")).await })
    };
    for n in 0..20 {
        place(&world.shards, free, &format!("f-{n}"), limit(Side::Buy, "1", "10")).await.unwrap();
    }
    assert!(!waiting.is_finished());
    drop(tx);
    waiting.await.unwrap().unwrap();
    world.audit().await;
}

#[tokio::test]
async fn data_that_the_database_refuses_fails_its_own_account_alone() {
    let world = World::new().await;
    let (bad, good) = (world.account("1000").await, world.account("1000").await);
    sqlx::query("alter table orders add constraint no_thirteen check (quantity <> 13)")
        .execute(&world.database.pool)
        .await
        .unwrap();
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..10 {
        let (shards, account) = (world.shards.clone(), if n == 5 { bad } else { good });
        let quantity = if n == 5 { "13" } else { "1" };
        posts.spawn(async move {
            (n, place(&shards, account, &format!("c-{n}"), limit(Side::Buy, quantity, "10")).await.is_ok())
        });
    }
    for (n, ok) in posts.join_all().await {
        assert_eq!(ok, n != 5, "order {n}");
    }
    assert_eq!(world.cash(bad).await.held, Decimal::ZERO);
    world.audit().await;
}

#[tokio::test]
async fn an_order_outside_its_session_is_reserved_and_released_once_at_the_open() {
    let open = Arc::new(AtomicBool::new(false));
    let clock = {
        let open = Arc::clone(&open);
        // A Sunday, then the Monday after it.
        let (sunday, monday) = (datetime!(2026-11-22 12:00 UTC), datetime!(2026-11-23 15:00 UTC));
        Arc::new(move || if open.load(Ordering::SeqCst) { monday } else { sunday })
    };
    let world = World::at(MarketHours::Real, clock).await;
    let account = world.account("1000").await;
    let kept = place(&world.shards, account, "kept", limit(Side::Buy, "1", "100")).await.unwrap().order;
    let withdrawn = place(&world.shards, account, "withdrawn", limit(Side::Buy, "1", "100")).await.unwrap().order;
    assert_eq!(kept.status(), Status::Reserved);
    assert_eq!(world.count("select count(*) from event_log").await, 0);
    world.shards.cancel(account, withdrawn.id).await.unwrap();
    assert_eq!(world.order(account, withdrawn.id).await.status(), Status::Canceled);
    open.store(true, Ordering::SeqCst);
    let released = eventually(Duration::from_secs(10), || async {
        world.order(account, kept.id).await.status() == Status::PendingSend
    });
    assert!(released.await);
    assert_eq!(world.count("select count(*) from event_log where type = 'order.submit'").await, 1);
    world.audit().await;
}

/// Reports an unconfirmed commit, after really committing or after really rolling back.
#[derive(Clone)]
struct Flaky<S> {
    inner: S,
    fault: Arc<AtomicU8>,
    /// Whether batches commit in one round trip, where they can.
    at_once: bool,
}

const COMMITTED: u8 = 1;
const ROLLED_BACK: u8 = 2;
const COMMITTED_THEN_DOWN: u8 = 3;
const DOWN: u8 = 4;

struct FlakyTx<T> {
    inner: T,
    fault: Arc<AtomicU8>,
}

impl<S: Store> Store for Flaky<S> {
    type Tx = FlakyTx<S::Tx>;
    async fn begin(&self) -> Result<Self::Tx, StoreError> {
        if self.fault.load(Ordering::SeqCst) == DOWN {
            return Err(StoreError::Failed { what: "begin", source: "connection refused".into() });
        }
        Ok(FlakyTx { inner: self.inner.begin().await?, fault: Arc::clone(&self.fault) })
    }
    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        self.inner.load(wants).await
    }
    async fn commit_at_once(
        &self,
        plans: &[Plan],
        versions: &BTreeMap<AccountId, i64>,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if !self.at_once || self.fault.load(Ordering::SeqCst) == DOWN {
            return Ok(false);
        }
        let fault = self.fault.swap(0, Ordering::SeqCst);
        if fault != ROLLED_BACK {
            assert!(self.inner.commit_at_once(plans, versions, now).await?, "nobody else writes these accounts");
        }
        if fault == COMMITTED_THEN_DOWN {
            self.fault.store(DOWN, Ordering::SeqCst);
        }
        if fault == 0 { Ok(true) } else { Err(StoreError::CommitUnknown { source: "connection reset".into() }) }
    }
    async fn reserved(
        &self,
        partitions: &[contracts::Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        self.inner.reserved(partitions, after, limit).await
    }
}

impl<T: Transaction> Transaction for FlakyTx<T> {
    forward_common! {}
    forward! {
        winners(versions: &BTreeMap<AccountId, i64>) -> BTreeSet<AccountId>;
        write(plans: &[Plan], now: OffsetDateTime) -> ();
    }
    async fn rollback(self) {
        self.inner.rollback().await;
    }
    async fn commit(self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        let unknown = StoreError::CommitUnknown { source: "connection reset".into() };
        match self.fault.swap(0, Ordering::SeqCst) {
            COMMITTED => {
                self.inner.commit(plans, now).await?;
                Err(unknown)
            }
            ROLLED_BACK => Err(unknown),
            COMMITTED_THEN_DOWN => {
                self.inner.commit(plans, now).await?;
                self.fault.store(DOWN, Ordering::SeqCst);
                Err(unknown)
            }
            _ => self.inner.commit(plans, now).await,
        }
    }
}

#[tokio::test]
async fn an_unconfirmed_commit_is_looked_up_and_never_done_twice() {
    for at_once in [false, true] {
        let world = World::new().await;
        let account = world.account("1000").await;
        let fault = Arc::new(AtomicU8::new(0));
        let flaky = Flaky { inner: world.store.clone(), fault: Arc::clone(&fault), at_once };
        let shards = start(flaky, NoLocks, MarketHours::Always, system_clock());
        for (name, what) in [("committed", COMMITTED), ("rolled-back", ROLLED_BACK)] {
            fault.store(what, Ordering::SeqCst);
            let mut order = command(account, name, limit(Side::Buy, "1", "100"));
            order.client_order_id_given = false;
            let id = order.order_id;
            let placed = shards.place(order).await.unwrap();
            assert_eq!((placed.order.id, placed.replayed), (id, false), "{name}");
            assert_eq!(fault.load(Ordering::SeqCst), 0, "the fault must have hit");
        }
        assert_eq!(world.count("select count(*) from orders").await, 2);
        assert_eq!(world.count("select count(*) from event_log").await, 2);
        assert_eq!(world.cash(account).await.held, Decimal::from(200));
        world.audit().await;
    }
}

#[tokio::test]
async fn an_order_that_may_be_committed_is_never_called_not_taken() {
    for at_once in [false, true] {
        let world = World::new().await;
        let account = world.account("1000").await;
        let fault = Arc::new(AtomicU8::new(COMMITTED_THEN_DOWN));
        let flaky = Flaky { inner: world.store.clone(), fault: Arc::clone(&fault), at_once };
        let shards = start(flaky, NoLocks, MarketHours::Always, system_clock());
        let order = command(account, "c-1", limit(Side::Buy, "1", "100"));
        let id = order.order_id;
        let answer = shards.place(order).await;
        assert!(matches!(answer, Err(CommandError::Unknown { order_id }) if order_id == id), "{answer:?}");
        assert_eq!(world.order(account, id).await.status(), Status::PendingSend);
        world.audit().await;
    }
}

#[tokio::test]
async fn an_order_is_called_not_taken_only_when_nothing_was_sent_to_the_database() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let flaky = Flaky { inner: world.store.clone(), fault: Arc::new(AtomicU8::new(DOWN)), at_once: true };
    let shards = start(flaky, NoLocks, MarketHours::Always, system_clock());
    let answer = place(&shards, account, "c-1", limit(Side::Buy, "1", "100")).await;
    assert!(matches!(answer, Err(CommandError::NotTaken { .. })), "{answer:?}");
    assert_eq!(world.count("select count(*) from orders").await, 0);
}

#[tokio::test]
async fn plans_of_which_one_account_has_changed_write_nothing_at_once_and_its_neighbours_the_longer_way() {
    let world = World::new().await;
    let (ours, changed) = (world.account("1000").await, world.account("1000").await);
    let plans: Vec<Plan> = {
        let wants = Wants { accounts: BTreeSet::from([ours, changed]), ..Wants::default() };
        let snapshot = world.store.load(&wants).await.unwrap();
        snapshot.accounts.into_values().map(Plan::new).collect()
    };
    let versions = plans.iter().map(|plan| (plan.account.id, plan.account.version)).collect();
    place(&world.shards, changed, "c-1", limit(Side::Buy, "1", "100")).await.unwrap();
    let before = world.count("select sum(version)::bigint from accounts").await;
    assert!(!world.store.commit_at_once(&plans, &versions, OffsetDateTime::now_utc()).await.unwrap());
    assert_eq!(world.count("select sum(version)::bigint from accounts").await, before);
    let mut tx = world.store.begin().await.unwrap();
    assert_eq!(tx.winners(&versions).await.unwrap(), BTreeSet::from([ours]));
    tx.rollback().await;
    let (plans, versions) = only(ours, plans, versions);
    assert!(world.store.commit_at_once(&plans, &versions, OffsetDateTime::now_utc()).await.unwrap());
    assert_eq!(world.count("select sum(version)::bigint from accounts").await, before + 1);
    assert!(!world.store.commit_at_once(&plans, &versions, OffsetDateTime::now_utc()).await.unwrap(), "written before");
}

fn only(
    account: AccountId,
    plans: Vec<Plan>,
    versions: BTreeMap<AccountId, i64>,
) -> (Vec<Plan>, BTreeMap<AccountId, i64>) {
    let plans = plans.into_iter().filter(|plan| plan.account.id == account).collect();
    (plans, versions.into_iter().filter(|(id, _)| *id == account).collect())
}

/// Its first statement in one round trip does not arrive for now, and meanwhile the market is halted.
#[derive(Clone)]
struct Late {
    inner: PgStore,
    pool: sqlx::PgPool,
    statement: Statement,
}

type Statement = Arc<Mutex<Option<(Vec<Plan>, BTreeMap<AccountId, i64>)>>>;

impl Store for Late {
    type Tx = <PgStore as Store>::Tx;
    async fn begin(&self) -> Result<Self::Tx, StoreError> {
        self.inner.begin().await
    }
    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        self.inner.load(wants).await
    }
    async fn commit_at_once(
        &self,
        plans: &[Plan],
        versions: &BTreeMap<AccountId, i64>,
        _now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        *self.statement.lock().unwrap() = Some((plans.to_vec(), versions.clone()));
        let halt = "insert into halts (symbol, reason, operator, at) values ('', 'drill', 'ops', now())";
        sqlx::query(halt).execute(&self.pool).await.unwrap();
        Err(StoreError::CommitUnknown { source: "connection reset".into() })
    }
    async fn reserved(
        &self,
        partitions: &[contracts::Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        self.inner.reserved(partitions, after, limit).await
    }
}

#[tokio::test]
async fn a_statement_that_arrives_after_its_order_was_refused_writes_nothing() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let statement = Statement::default();
    let pool = world.database.pool.clone();
    let late = Late { inner: world.store.clone(), pool, statement: Arc::clone(&statement) };
    let shards = start(late, NoLocks, MarketHours::Always, system_clock());
    let mut order = command(account, "c-1", limit(Side::Buy, "1", "100"));
    order.client_order_id_given = false;
    let answer = shards.place(order).await;
    assert!(matches!(answer, Err(CommandError::Refused(_))), "{answer:?}");
    let (plans, versions) = statement.lock().unwrap().take().unwrap();
    assert!(!world.store.commit_at_once(&plans, &versions, OffsetDateTime::now_utc()).await.unwrap());
    assert_eq!(world.count("select count(*) from orders").await, 0);
    assert_eq!(world.count("select count(*) from event_log").await, 0);
    world.audit().await;
}
