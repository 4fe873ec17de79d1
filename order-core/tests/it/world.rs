//! Shard workers on a database of their own, with everything else in the test's hands.

use async_trait::async_trait;
use contracts::calendar::{MarketCalendar, MarketHours};
use contracts::event::{
    BrokerEvent, BrokerFact, Envelope, EvidenceSource, GatewayEvent, ObservedOrder, Payload, Producer,
};
use contracts::{
    AccountId, BrokerId, BrokerOrderId, ClientOrderId, Currency, EventId, ExecutionId, Money, OrderId, OrderTerms,
    OrderType, Partition, Price, Quantity, Side, Symbol, TimeInForce,
};
use order_core::adapters::db::PgStore;
use order_core::application::audit::Audit;
use order_core::application::batch::{BatchPolicy, BatchRunner};
use order_core::application::command::{CommandError, Commands, Deposit, PlaceOrder, Placed};
use order_core::application::facts::{FactApplier, FactSlice, SliceResult};
use order_core::application::operator::{AccountRequest, Actor, Operations};
use order_core::application::query::Queries;
use order_core::application::queue::{ShardHandle, Shards};
use order_core::application::reference::Reference;
use order_core::application::shard::{ShardConfig, ShardWorker};
use order_core::application::store::{LockAnswer, Locks, LogPosition, Store};
use order_core::domain::account::Balance;
use order_core::domain::asset::{Asset, ReferencePrice};
use order_core::domain::hold::Charges;
use order_core::domain::order::Order;
use platform::clock::{SystemClock, SystemIds};
use platform::lease::Leases;
use platform::testing::{TestDatabase, eventually};
use rust_decimal::Decimal;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// No lock server at all: the version check alone guards.
#[derive(Clone, Copy)]
pub(crate) struct NoLocks;

impl Locks for NoLocks {
    type Held = ();
    async fn acquire(&self, accounts: &[AccountId]) -> Vec<LockAnswer<()>> {
        accounts.iter().map(|_| LockAnswer::Unavailable).collect()
    }
    async fn release(&self, _held: Vec<()>) {}
}

/// One share at 100 dollars, and one without a price.
pub(crate) struct OneShare;

impl Reference for OneShare {
    fn is_loaded(&self) -> bool {
        true
    }
    fn asset(&self, symbol: &Symbol) -> Option<Asset> {
        matches!(symbol.as_str(), "AAPL" | "GOOG").then(|| Asset {
            id: Uuid::from_u128(7),
            symbol: symbol.clone(),
            name: "Apple".to_owned(),
            exchange: "NASDAQ".to_owned(),
            tradable: true,
            fractionable: true,
        })
    }
    fn price(&self, symbol: &Symbol) -> Option<ReferencePrice> {
        (symbol.as_str() == "AAPL")
            .then(|| ReferencePrice { price: Price::parse("100").unwrap(), at: OffsetDateTime::now_utc() })
    }
}

/// The log of a process that is not here: gives events their places.
#[derive(Default)]
pub(crate) struct FakeLog {
    heads: Mutex<BTreeMap<(Producer, Partition), LogPosition>>,
}

impl FakeLog {
    pub(crate) fn slice<P: Payload>(&self, producer: Producer, partition: Partition, payloads: &[P]) -> FactSlice {
        let texts = payloads.iter().map(|p| (p.kind().to_owned(), serde_json::to_string(p).unwrap())).collect();
        self.raw_slice(producer, partition, texts)
    }

    pub(crate) fn raw_slice(
        &self,
        producer: Producer,
        partition: Partition,
        texts: Vec<(String, String)>,
    ) -> FactSlice {
        let mut heads = self.heads.lock().unwrap();
        let head = heads.entry((producer, partition)).or_default();
        let after = *head;
        let mut events = Vec::new();
        for (kind, payload) in texts {
            let id = EventId::new(Uuid::now_v7());
            events.push(Envelope {
                id,
                producer,
                partition,
                seq: head.seq + 1,
                prev_id: head.event_id,
                kind,
                version: 1,
                account_id: None,
                order_id: None,
                at: OffsetDateTime::now_utc(),
                traceparent: None,
                payload: RawValue::from_string(payload).unwrap(),
            });
            *head = LogPosition { seq: head.seq + 1, event_id: Some(id) };
        }
        FactSlice { producer, partition, after, events }
    }
}

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) store: PgStore,
    pub(crate) shards: Shards,
    pub(crate) log: FakeLog,
}

pub(crate) type ClockFn = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

pub(crate) fn charges() -> Charges {
    Charges { commission_bps: Decimal::ZERO, collar_bps: Decimal::from(500) }
}

/// Starts the workers of one process.
pub(crate) fn start<S: Store, L: Locks + Clone>(store: S, locks: L, hours: MarketHours, clock: ClockFn) -> Shards {
    let store = Arc::new(store);
    let locks = Arc::new(locks);
    let count = 2;
    let mut handles: Vec<ShardHandle> = Vec::new();
    for n in 0..count {
        let runner = BatchRunner {
            store: Arc::clone(&store),
            locks: Arc::clone(&locks),
            reference: Arc::new(OneShare),
            calendar: MarketCalendar::new(hours).unwrap(),
            policy: BatchPolicy {
                charges: charges(),
                reference_age_max: time::Duration::seconds(60),
                losses_max: 2,
                busy_wait_max: Duration::from_millis(20),
                tries_max: 20,
                retry_pause: Duration::from_millis(20),
                retry_max: Duration::from_secs(60),
            },
        };
        let facts = FactApplier { store: Arc::clone(&store), charges: charges() };
        let partitions = Partition::all().filter(|p| p.number() % count == n).collect();
        let config = ShardConfig {
            batch_len_max: 32,
            queue_len_max: 1000,
            tick: Duration::from_millis(20),
            busy_pause: Duration::from_millis(1),
            gather: Duration::from_millis(1),
            facts_interval: Duration::from_millis(20),
        };
        let clock = Arc::clone(&clock);
        let (worker, handle) = ShardWorker::new(runner, facts, partitions, Leases::alone(), config, move || clock());
        tokio::spawn(worker.run(std::future::pending()));
        handles.push(handle);
    }
    Shards::new(handles, Duration::from_secs(30))
}

pub(crate) fn system_clock() -> ClockFn {
    Arc::new(|| platform::clock::Clock::now(&SystemClock))
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::at(MarketHours::Always, system_clock()).await
    }

    pub(crate) async fn at(hours: MarketHours, clock: ClockFn) -> Self {
        let database =
            TestDatabase::create(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/order-core"))).await;
        let store = PgStore::new(database.pool.clone(), None, Arc::new(SystemIds));
        let shards = start(store.clone(), NoLocks, hours, clock);
        Self { database, store, shards, log: FakeLog::default() }
    }

    /// A second process on the same database.
    pub(crate) fn another(&self) -> Shards {
        start(self.store.clone(), NoLocks, MarketHours::Always, system_clock())
    }

    pub(crate) async fn account(&self, cash: &str) -> AccountId {
        self.open_account(AccountId::new(Uuid::now_v7()), cash).await
    }

    /// One whose commands go to the same worker.
    pub(crate) async fn account_beside(&self, other: AccountId, cash: &str) -> AccountId {
        let mut ids = std::iter::repeat_with(|| AccountId::new(Uuid::now_v7()));
        let same = ids.find(|id| Partition::of_account(*id) == Partition::of_account(other)).unwrap();
        self.open_account(same, cash).await
    }

    async fn open_account(&self, account: AccountId, cash: &str) -> AccountId {
        let request = AccountRequest { id: account, currency: Currency::USD, actor: operator() };
        self.store.make_account(&request, OffsetDateTime::now_utc()).await.unwrap();
        let money = Money::parse(cash, Currency::USD).unwrap();
        let deposit = movement(account, money, "opening");
        self.shards.deposit(deposit).await.unwrap();
        account
    }

    pub(crate) async fn cash(&self, account: AccountId) -> Balance {
        self.store.account(account).await.unwrap().unwrap().cash
    }

    pub(crate) async fn order(&self, account: AccountId, order: OrderId) -> Order {
        self.store.order(account, order).await.unwrap().unwrap()
    }

    pub(crate) async fn gateway(&self, account: AccountId, events: &[GatewayEvent]) -> SliceResult {
        self.deliver(self.log.slice(Producer::BrokerGateway, Partition::of_account(account), events)).await
    }

    /// As a consumer does: again, while another copy holds the position for its own work.
    async fn deliver(&self, slice: FactSlice) -> SliceResult {
        let delivered = Mutex::new(SliceResult::Moved);
        let applied = eventually(Duration::from_secs(30), || async {
            let result = self.shards.apply(slice.clone()).await.unwrap();
            *delivered.lock().unwrap() = result;
            matches!(result, SliceResult::Applied(_))
        });
        assert!(applied.await, "the position is held for ever");
        delivered.into_inner().unwrap()
    }

    pub(crate) async fn broker(&self, account: AccountId, events: &[BrokerEvent]) -> SliceResult {
        self.deliver(self.log.slice(Producer::FillReceiver, Partition::of_account(account), events)).await
    }

    /// The books are in order: called at the end of every test.
    pub(crate) async fn audit(&self) {
        assert_eq!(self.store.audit().await.unwrap(), Vec::new());
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }
}

pub(crate) fn operator() -> Actor {
    Actor { name: "kim".to_owned(), credential: "ops".to_owned() }
}

pub(crate) fn movement(account_id: AccountId, money: Money, reference: &str) -> Deposit {
    Deposit { id: Uuid::now_v7(), account_id, money, reference: reference.to_owned(), actor: operator() }
}

pub(crate) fn limit(side: Side, quantity: &str, price: &str) -> OrderTerms {
    OrderTerms::new(
        Symbol::new("AAPL").unwrap(),
        side,
        OrderType::Limit,
        TimeInForce::Day,
        Quantity::parse(quantity).unwrap(),
        Some(Price::parse(price).unwrap()),
    )
    .unwrap()
}

pub(crate) fn command(account_id: AccountId, name: &str, terms: OrderTerms) -> PlaceOrder {
    PlaceOrder {
        account_id,
        order_id: OrderId::new(Uuid::now_v7()),
        client_order_id: ClientOrderId::new(name).unwrap(),
        client_order_id_given: true,
        terms,
    }
}

pub(crate) async fn place(
    shards: &Shards,
    account: AccountId,
    name: &str,
    terms: OrderTerms,
) -> Result<Placed, CommandError> {
    shards.place(command(account, name, terms)).await
}

pub(crate) fn sim() -> BrokerId {
    BrokerId::new("sim").unwrap()
}

pub(crate) fn in_doubt(order_id: OrderId) -> GatewayEvent {
    GatewayEvent::InDoubt { order_id, broker: Some(sim()), attempt: 1, reason: "timeout".to_owned() }
}

pub(crate) fn acknowledged(order_id: OrderId, broker_order: &str) -> GatewayEvent {
    GatewayEvent::Acknowledged {
        order_id,
        broker: sim(),
        observed: ObservedOrder {
            broker_order_id: BrokerOrderId::new(broker_order).unwrap(),
            status: "new".to_owned(),
            cumulative_quantity: Some(Decimal::ZERO),
        },
        source: EvidenceSource::Reply,
    }
}

pub(crate) fn broker_event(
    order_id: Option<OrderId>,
    broker_order: &str,
    cumulative: &str,
    fact: BrokerFact,
) -> BrokerEvent {
    BrokerEvent {
        broker: sim(),
        broker_order_id: BrokerOrderId::new(broker_order).unwrap(),
        order_id,
        broker_client_order_id: None,
        event: "event".to_owned(),
        order_status: "status".to_owned(),
        symbol: Symbol::new("AAPL").unwrap(),
        side: Side::Buy,
        cumulative_quantity: Some(cumulative.parse().unwrap()),
        at: OffsetDateTime::UNIX_EPOCH,
        fact,
    }
}

pub(crate) fn fill(execution: &str, quantity: &str, price: &str) -> BrokerFact {
    BrokerFact::Fill {
        execution_id: ExecutionId::new(execution).unwrap(),
        quantity: Quantity::parse(quantity).unwrap(),
        price: Price::parse(price).unwrap(),
    }
}

/// Makes the traits' methods callable without importing them in each test file.
#[async_trait]
pub(crate) trait Flow {
    async fn bought(&self, account: AccountId, name: &str, quantity: &str, price: &str) -> OrderId;
}

#[async_trait]
impl Flow for World {
    /// Places a buy and fills it whole.
    async fn bought(&self, account: AccountId, name: &str, quantity: &str, price: &str) -> OrderId {
        let order = place(&self.shards, account, name, limit(Side::Buy, quantity, price)).await.unwrap().order;
        let broker_order = format!("b-{}", order.id);
        let event = broker_event(Some(order.id), &broker_order, quantity, fill(&format!("e-{name}"), quantity, price));
        self.broker(account, &[event]).await;
        order.id
    }
}
