//! A producer with its log, bus and feed, and consumers with a database of their own.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use contracts::event::{Envelope, Producer};
use contracts::{EventId, Partition};
use platform::applied;
use platform::bus::{BusConfig, Publisher};
use platform::config::{RedisConfig, Secret};
use platform::consumer::{
    self, ConsumerConfig, ConsumerSnapshot, ConsumerStatus, Mode, Sink, SinkError, Slice, SliceOutcome,
};
use platform::eventlog::{self, NewEvent, Position};
use platform::feed::{self, FeedClient};
use platform::http::{ServerLimits, bind, serve};
use platform::lease::Leases;
use platform::testing::{TestDatabase, eventually};
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use uuid::Uuid;

pub(crate) const PRODUCER: Producer = Producer::OrderCore;
pub(crate) const TOKEN: &str = "peer-token-of-the-tests";
/// Long enough for a loaded machine; only a failing test waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn partition(number: i16) -> Partition {
    Partition::new(number).unwrap()
}

pub(crate) async fn database() -> TestDatabase {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    TestDatabase::create(&root.join("../migrations/order-core")).await
}

pub(crate) fn bus_config() -> BusConfig {
    BusConfig { heads_interval_ms: 50, heads_ttl_ms: 500, trim_interval_ms: 100, ..BusConfig::default() }
}

pub(crate) fn consumer_config() -> ConsumerConfig {
    ConsumerConfig {
        bus_block_ms: 50,
        heads_interval_ms: 50,
        silence_ms: 300,
        bus_retry_ms_min: 20,
        bus_retry_ms_max: 100,
        poll_interval_ms: 20,
        history_check_interval_ms: 100,
        retry_ms_min: 5,
        retry_ms_max: 50,
        ..ConsumerConfig::default()
    }
}

pub(crate) fn new_event(partition: Partition) -> NewEvent {
    NewEvent {
        id: EventId::new(Uuid::now_v7()),
        partition,
        kind: "test.event",
        version: 1,
        account_id: None,
        order_id: None,
        at: OffsetDateTime::UNIX_EPOCH,
        traceparent: None,
        payload: "{}".to_owned(),
    }
}

/// Appends and commits events, as a producer does.
pub(crate) async fn commit(pool: &PgPool, partition: Partition, count: usize) -> Vec<Envelope> {
    let events = (0..count).map(|_| new_event(partition)).collect();
    let mut tx = pool.begin().await.unwrap();
    let envelopes = eventlog::append(&mut tx, PRODUCER, events).await.unwrap();
    tx.commit().await.unwrap();
    envelopes
}

/// Starts publishing a log until the guard is dropped.
pub(crate) fn publisher(pool: &PgPool, redis: RedisConfig, config: BusConfig) -> (Publisher, DropGuard) {
    let shutdown = CancellationToken::new();
    let (publisher, _task) = Publisher::start(redis, PRODUCER, pool.clone(), config, shutdown.clone()).unwrap();
    (publisher, shutdown.drop_guard())
}

/// The feed of a log on a port of its own.
pub(crate) struct FeedServer {
    pub(crate) url: String,
    /// Reads of events so far.
    reads: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    _shutdown: DropGuard,
}

#[derive(Clone)]
struct Gate {
    reads: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
}

impl FeedServer {
    pub(crate) async fn start(pool: &PgPool) -> Self {
        let gate = Gate { reads: Arc::default(), down: Arc::default() };
        let router = feed::router(pool.clone(), PRODUCER, Secret::new(TOKEN))
            .layer(middleware::from_fn_with_state(gate.clone(), pass));
        let (listener, addr) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{addr}");
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, router, ServerLimits::default(), shutdown.clone()));
        Self { url, reads: gate.reads, down: gate.down, _shutdown: shutdown.drop_guard() }
    }

    /// Makes every request fail, or none.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn client(&self) -> FeedClient {
        self.client_with(TOKEN)
    }

    pub(crate) fn client_with(&self, token: &str) -> FeedClient {
        platform::tls::install_crypto_provider();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        FeedClient::new(&self.url, Secret::new(token), http).unwrap()
    }
}

async fn pass(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    if gate.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if !request.uri().path().ends_with("/heads") {
        gate.reads.fetch_add(1, Ordering::SeqCst);
    }
    next.run(request).await
}

/// Writes down what takes effect, in the transaction that moves the position.
pub(crate) struct RecordingSink {
    pool: PgPool,
    /// How many of the next slices fail or panic before they take effect.
    pub(crate) failures: AtomicUsize,
    pub(crate) panics: AtomicUsize,
}

impl Sink for RecordingSink {
    async fn positions(&self, producer: Producer) -> Result<BTreeMap<Partition, Position>, SinkError> {
        applied::positions(&self.pool, producer).await.map_err(SinkError::new)
    }

    async fn apply(&self, slice: Slice) -> Result<SliceOutcome, SinkError> {
        if take_one(&self.failures) {
            return Err(SinkError::new("the database is away"));
        }
        assert!(!take_one(&self.panics), "a defect");
        let mut tx = self.pool.begin().await.map_err(SinkError::new)?;
        let log = (slice.producer, slice.partition);
        let won = applied::claim(&mut tx, &BTreeMap::from([(log, slice.after)])).await;
        if won.map_err(SinkError::new)?.is_empty() {
            return Ok(SliceOutcome::Moved);
        }
        for event in &slice.events {
            sqlx::query("insert into effects (partition, seq, event_id) values ($1, $2, $3)")
                .bind(event.partition.number())
                .bind(event.seq)
                .bind(event.id.as_uuid())
                .execute(&mut *tx)
                .await
                .map_err(SinkError::new)?;
        }
        let end = slice.end();
        let moved = applied::advance(&mut tx, &BTreeMap::from([(log, (slice.after, end))])).await;
        moved.map_err(SinkError::new)?;
        tx.commit().await.map_err(SinkError::new)?;
        Ok(SliceOutcome::Applied(end))
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

/// The database of a consuming process.
pub(crate) struct Reader {
    pub(crate) db: TestDatabase,
    pub(crate) sink: Arc<RecordingSink>,
}

impl Reader {
    pub(crate) async fn create() -> Self {
        let db = database().await;
        sqlx::query(
            "create table effects (n bigserial primary key, partition smallint not null,
             seq bigint not null, event_id uuid not null)",
        )
        .execute(&db.pool)
        .await
        .unwrap();
        let sink = RecordingSink { pool: db.pool.clone(), failures: AtomicUsize::new(0), panics: AtomicUsize::new(0) };
        Self { db, sink: Arc::new(sink) }
    }

    /// Starts one copy of the consumer.
    pub(crate) fn run(&self, redis: RedisConfig, feed: FeedClient) -> Running {
        self.run_copy(redis, feed, Leases::alone())
    }

    /// Starts a copy that reads what it holds.
    pub(crate) fn run_copy(&self, redis: RedisConfig, feed: FeedClient, leases: Leases) -> Running {
        let status = ConsumerStatus::new(PRODUCER);
        let shutdown = CancellationToken::new();
        tokio::spawn(consumer::run(
            "reader",
            PRODUCER,
            Arc::clone(&self.sink),
            redis,
            feed,
            consumer_config(),
            status.clone(),
            leases,
            shutdown.clone(),
        ));
        Running { status, _shutdown: shutdown.drop_guard() }
    }

    /// What took effect in a partition, in the order in which it did.
    pub(crate) async fn effects(&self, partition: Partition) -> Vec<(i64, Uuid)> {
        sqlx::query_as("select seq, event_id from effects where partition = $1 order by n")
            .bind(partition.number())
            .fetch_all(&self.db.pool)
            .await
            .unwrap()
    }

    /// Waits until exactly these events took effect, in this order.
    pub(crate) async fn has_exactly(&self, partition: Partition, expected: &[Envelope]) -> bool {
        let expected: Vec<(i64, Uuid)> = expected.iter().map(|e| (e.seq, e.id.as_uuid())).collect();
        eventually(PATIENCE, || async { self.effects(partition).await == expected }).await
    }
}

/// One running consumer, ended when dropped.
pub(crate) struct Running {
    status: ConsumerStatus,
    _shutdown: DropGuard,
}

impl Running {
    pub(crate) fn snapshot(&self) -> ConsumerSnapshot {
        self.status.snapshot()
    }

    pub(crate) async fn reaches(&self, mode: Mode) -> bool {
        eventually(PATIENCE, || async { self.snapshot().started && self.snapshot().mode == mode }).await
    }

    /// Waits until a partition stands still, and answers why.
    pub(crate) async fn stops(&self, partition: Partition) -> String {
        let stopped = || self.snapshot().partitions.get(&partition).and_then(|p| p.stopped.clone());
        assert!(eventually(PATIENCE, || async { stopped().is_some() }).await, "{:?}", self.snapshot());
        stopped().unwrap()
    }
}

/// A connection to look into Redis.
pub(crate) async fn look_into(redis: &RedisConfig) -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis.url.expose()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}
