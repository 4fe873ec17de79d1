//! The process, put together.
//!
//! Asked to end, it says so to load balancers first and goes on for a while. Then it ends in steps: no
//! new requests and events, then the workers finish what they have, then the bus gets the last of it;
//! the operator's port answers up to then. Ended the other way round, a request under way would lose its
//! worker and be answered "unknown" for nothing.

mod streams;
mod workers;

use crate::adapters::db::PgStore;
use crate::adapters::health::{DatabaseProbe, OrderServerHealth};
use crate::adapters::http::stream::StreamState;
use crate::adapters::http::{self, ApiParts};
use crate::adapters::migrations::MIGRATOR;
use crate::adapters::ops::explain::ExplainState;
use crate::adapters::ops::{self, OpsState};
use crate::adapters::peers::{HttpPeers, PeersError};
use crate::adapters::reference::{ReferenceError, ReferencePoller};
use crate::adapters::secrets::SystemSecrets;
use crate::adapters::sink::FactSink;
use crate::adapters::watch;
use crate::application::audit::CHECKS;
use crate::application::bounded::Bounded;
use crate::application::hub::Hub;
use crate::application::queue::Shards;
use crate::application::reference::ReferenceData;
use crate::config::Settings;
use axum::Router;
use contracts::calendar::{CalendarError, MarketCalendar};
use contracts::event::Producer;
use platform::bus::Publisher;
use platform::clock::{Clock, IdSource};
use platform::config::{ConfigError, DatabaseConfig};
use platform::consumer::{self, ConsumerStatus};
use platform::db::{self, DbError};
use platform::feed::{self, FeedClient, FeedError};
use platform::http::{Health, ListenError, bind, closing, draining, serve};
use platform::invariants::Invariants;
use platform::lease::{Keeper, Leases};
use platform::link::LinkError;
use platform::lock::AccountLocks;
use platform::shutdown::{Ended, Stage, supervise};
use sqlx::PgPool;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// The name under which this process reads other logs, the same for all its copies.
const CONSUMER: &str = "order-core";

/// Longest single statement of a migration.
const MIGRATION_TIMEOUT_MS: u64 = 600_000;

/// Whose logs are read.
const PRODUCERS: [Producer; 2] = [Producer::BrokerGateway, Producer::FillReceiver];

/// Why the process does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error("configuration is not valid")]
    Config(#[from] ConfigError),
    /// The database or its schema.
    #[error("database cannot be used")]
    Database(#[from] DbError),
    /// The market's calendar.
    #[error("market calendar cannot be used")]
    Calendar(#[from] CalendarError),
    /// The address of Redis.
    #[error("redis cannot be used")]
    Redis(#[from] LinkError),
    /// The address of another process.
    #[error("a peer cannot be used")]
    Peer(#[from] FeedError),
    /// The address of another process that is asked what it knows.
    #[error("a peer cannot be used")]
    Story(#[from] PeersError),
    /// Reference data.
    #[error("reference data cannot be used")]
    Reference(#[from] ReferenceError),
    /// The client for other processes.
    #[error("http client could not be built")]
    Client(#[source] reqwest::Error),
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Applies the migrations and does nothing else.
///
/// # Errors
/// [`DbError`] from the database.
pub async fn migrate(settings: &Settings) -> Result<(), DbError> {
    // An index over a large table takes longer than any statement of an order may.
    let config = DatabaseConfig { statement_timeout_ms: MIGRATION_TIMEOUT_MS, ..settings.database.clone() };
    let pool = db::connect(&config).await?;
    db::migrate(&pool, &MIGRATOR).await
}

/// A running order server.
pub struct Service {
    /// Where customers' requests come in.
    pub api_addr: SocketAddr,
    /// Where the operator's port listens.
    pub ops_addr: SocketAddr,
    /// Assets and prices in memory.
    pub reference: Arc<ReferenceData>,
    done: JoinHandle<Ended>,
}

/// What the parts share.
struct Parts {
    settings: Settings,
    pool: PgPool,
    store: PgStore,
    hub: Arc<Hub>,
    shards: Shards,
    locks: AccountLocks,
    reference: Arc<ReferenceData>,
    calendar: MarketCalendar,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    leases: Leases,
    consumers: Vec<ConsumerStatus>,
    probe: Arc<DatabaseProbe>,
    invariants: Invariants,
}

impl Service {
    /// Starts everything. `base` makes the routes that every process serves from its health.
    ///
    /// # Errors
    /// [`StartError`] naming what is missing.
    pub async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        base: impl FnOnce(Arc<dyn Health>) -> Router,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        let calendar = MarketCalendar::new(settings.market.hours)?.at_pace(settings.market.pace);
        let pool = db::connect(&settings.database).await?;
        db::check_migrations(&pool, &MIGRATOR).await?;
        let (api_listener, api_addr) = bind(settings.http.api_addr).await?;
        let (ops_listener, ops_addr) = bind(settings.http.ops_addr).await?;
        let locks = AccountLocks::new(&settings.redis, settings.lock.clone())?;
        let reference = Arc::new(ReferenceData::default());
        // Asked to end, a process is red at once, works on while load balancers turn away, and then ends
        // in steps.
        let asked = shutdown;
        let ends = Ends::new();
        let (publisher, bus) = Publisher::start(
            settings.redis.clone(),
            Producer::OrderCore,
            pool.clone(),
            settings.bus.clone(),
            ends.bus.clone(),
        )?;
        let hub = Arc::new(Hub::new(settings.stream.connections_max, settings.stream.connections_per_key_max));
        let store = PgStore::new(pool.clone(), Some(publisher), Arc::clone(&ids));
        let warm = db::connect_warm(&settings.worker_database()).await?;
        let worker_store = store.clone().working_with(warm).waking(Arc::clone(&hub));
        // And another one: leases that wait for a connection are lost.
        let lease_pool = db::connect(&settings.lease_database()).await?;
        let (keeper, leases) = Keeper::new(ids.uuid(), lease_pool, settings.copies);
        keeper.begin().await;
        let mut worker_tasks = JoinSet::new();
        let shards = workers::start(
            &settings,
            &worker_store,
            &locks,
            &reference,
            &calendar,
            &clock,
            &leases,
            &ends.workers,
            &mut worker_tasks,
        );
        let parts = Parts {
            settings,
            pool,
            store,
            hub,
            shards,
            locks,
            reference,
            calendar,
            clock,
            ids,
            leases,
            consumers: PRODUCERS.into_iter().map(ConsumerStatus::new).collect(),
            probe: Arc::new(DatabaseProbe::default()),
            invariants: Invariants::new(CHECKS),
        };
        let mut front_tasks = JoinSet::new();
        // Given back with the first step of the end, so that others go on while this copy drains.
        front_tasks.spawn(keeper.run(ends.front.clone()));
        parts.start_polling(&ends.front, &mut front_tasks).await?;
        parts.start_consumers(&ends.front, &mut front_tasks)?;
        parts.start_watching(&ends.front, &mut front_tasks);
        let limits = parts.settings.server_limits();
        let streams = parts.start_streams(&ends.front, &mut front_tasks);
        let api = closing(parts.api_router(streams), asked.clone());
        front_tasks.spawn(serve(api_listener, api, limits, ends.front.clone()));
        let ops = closing(parts.ops_router(base, asked.clone())?, asked.clone());
        let ops = tokio::spawn(serve(ops_listener, ops, limits, ends.ops.clone()));
        let deadline = parts.deadline();
        let stages = ends.stages(parts.settings.drain_delay(), front_tasks, worker_tasks, bus, ops);
        let left_over = "what was committed is published at the next start";
        let done = tokio::spawn(supervise(asked, stages, deadline, left_over));
        Ok(Self { api_addr, ops_addr, reference: parts.reference, done })
    }

    /// Waits for the end, which is bounded after shutdown was asked for.
    pub async fn ended(self) -> Ended {
        self.done.await.unwrap_or(Ended::TaskFailed)
    }
}

impl Parts {
    fn deadline(&self) -> Duration {
        let settings = &self.settings;
        settings.drain_delay() + Duration::from_millis(settings.http.drain_timeout_ms + settings.shutdown.deadline_ms)
    }

    fn api_router(&self, streams: StreamState) -> Router {
        let queries = Arc::new(Bounded::new(self.store.clone(), self.settings.database_wait_max()));
        let state = Arc::new(ApiParts {
            commands: Arc::new(self.shards.clone()),
            queries,
            reference: Arc::clone(&self.reference),
            calendar: Arc::new(self.calendar.clone()),
            authenticator: Arc::clone(&streams.authenticator),
            limits: Arc::clone(&streams.rates),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
        });
        http::router(state, Some(streams), self.settings.body_limits())
    }

    fn ops_router(
        &self,
        base: impl FnOnce(Arc<dyn Health>) -> Router,
        asked: CancellationToken,
    ) -> Result<Router, StartError> {
        let health = OrderServerHealth {
            database: Arc::clone(&self.probe),
            locks: self.locks.clone(),
            consumers: self.consumers.clone(),
            leases: self.leases.clone(),
            invariants: self.invariants.clone(),
            reference: Arc::clone(&self.reference),
            clock: Arc::clone(&self.clock),
            price_age_max: Duration::from_millis(self.settings.reference.age_max_ms),
            started_at: self.clock.now(),
        };
        let store = Arc::new(self.store.clone());
        let state = OpsState {
            commands: Arc::new(self.shards.clone()),
            queries: store.clone(),
            operations: store.clone(),
            audit: store,
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
            secrets: Arc::new(SystemSecrets),
        };
        let peers = &self.settings.peers;
        let peers = HttpPeers::new(&peers.gateway_url, &peers.receiver_url, self.settings.tokens.peer.clone())?;
        let explain = ExplainState {
            store: Arc::new(self.store.clone()),
            queries: Arc::new(self.store.clone()),
            peers: Arc::new(peers),
            clock: Arc::clone(&self.clock),
        };
        let (operators, peer_token) = (self.settings.tokens.operators(), self.settings.tokens.peer.clone());
        let router = base(draining(Arc::new(health), asked))
            .merge(feed::router(self.pool.clone(), Producer::OrderCore, peer_token))
            .merge(ops::parked::router(Arc::new(self.store.clone()), Arc::clone(&self.clock), operators.clone()))
            .merge(ops::explain::router(explain, operators.clone()))
            .merge(ops::router(state, operators, self.settings.body_limits()));
        Ok(router)
    }

    async fn start_polling(&self, end: &CancellationToken, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
        let poller = ReferencePoller::new(
            &self.settings.peers.gateway_url,
            self.settings.tokens.peer.clone(),
            Arc::clone(&self.reference),
            Arc::new(self.store.clone()),
            Arc::clone(&self.clock),
        )?;
        poller.load_stored(&self.store).await?;
        tasks.spawn(poller.run(Duration::from_millis(self.settings.reference.poll_ms), end.clone()));
        Ok(())
    }

    fn start_consumers(&self, end: &CancellationToken, tasks: &mut JoinSet<()>) -> Result<(), StartError> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        let client = client.map_err(StartError::Client)?;
        let wait = self.settings.database_wait_max();
        let sink = Arc::new(FactSink::new(self.shards.clone(), self.pool.clone(), wait));
        for (producer, status) in PRODUCERS.into_iter().zip(&self.consumers) {
            let url = match producer {
                Producer::FillReceiver => &self.settings.peers.receiver_url,
                Producer::BrokerGateway | Producer::OrderCore => &self.settings.peers.gateway_url,
            };
            let feed = FeedClient::new(url, self.settings.tokens.peer.clone(), client.clone())?;
            let (sink, redis, config) =
                (Arc::clone(&sink), self.settings.redis.clone(), self.settings.consumer.clone());
            let (status, leases, end) = (status.clone(), self.leases.clone(), end.clone());
            tasks.spawn(async move {
                let run = consumer::run(CONSUMER, producer, sink, redis, feed, config, status, leases, end).await;
                if let Err(error) = run {
                    tracing::error!(error = %platform::telemetry::Chain(&error), "consumer could not start");
                }
            });
        }
        Ok(())
    }

    fn start_watching(&self, end: &CancellationToken, tasks: &mut JoinSet<()>) {
        let intervals = self.settings.watch;
        let ping = Duration::from_millis(intervals.ping_interval_ms);
        tasks.spawn(Arc::clone(&self.probe).watch(
            self.pool.clone(),
            ping,
            Duration::from_millis(intervals.ping_timeout_ms),
            end.clone(),
        ));
        let store = Arc::new(self.store.clone());
        if intervals.count_interval_ms > 0 {
            let every = Duration::from_millis(intervals.count_interval_ms);
            tasks.spawn(watch::count_statuses(store.clone(), every, end.clone()));
        }
        if intervals.audit_interval_ms > 0 {
            let every = Duration::from_millis(intervals.audit_interval_ms);
            tasks.spawn(watch::check_books(store.clone(), self.invariants.clone(), every, end.clone()));
        }
        if let Some(pace) = intervals.pace() {
            tasks.spawn(self.invariants.clone().watch(store, pace, end.clone()));
        }
    }
}

/// The steps of the end, after the delay for load balancers.
struct Ends {
    front: CancellationToken,
    workers: CancellationToken,
    bus: CancellationToken,
    ops: CancellationToken,
}

impl Ends {
    fn new() -> Self {
        let new = CancellationToken::new;
        Self { front: new(), workers: new(), bus: new(), ops: new() }
    }

    /// The steps of the end, in their order.
    fn stages(
        self,
        drain_delay: Duration,
        front: JoinSet<()>,
        workers: JoinSet<()>,
        bus: JoinHandle<()>,
        ops: JoinHandle<()>,
    ) -> Vec<Stage> {
        vec![
            Stage::pause(drain_delay),
            Stage::new(self.front, front),
            Stage::new(self.workers, workers),
            Stage::of(self.bus, bus),
            Stage::of(self.ops, ops),
        ]
    }
}
