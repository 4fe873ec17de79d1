//! The process, put together.

use crate::adapters::alpaca::Alpaca;
use crate::adapters::caller::{CallerError, HttpCaller};
use crate::adapters::db::{CHECKS, MIGRATOR, PgStore, RequestInspector};
use crate::adapters::http::{
    GatewayHealth, LanePort, OpsPort, deferred_router, lane_router, ops_router, peer_router, reference_router,
};
use crate::adapters::intake::Intake;
use crate::adapters::jitter::RandomJitter;
use crate::adapters::redrive;
use crate::application::chain::Chain;
use crate::application::lane::LaneWorker;
use crate::application::lane_control::LaneControl;
use crate::application::lane_rate::{self, LaneRate, LaneRateStore};
use crate::application::launch::{self, Room, Straight};
use crate::application::ports::StoreError;
use crate::application::record::FinishedCall;
use crate::application::recorder::Recorder;
use crate::application::reference::{self, Instruments};
use crate::application::rules::Rules;
use crate::config::{Settings, WatchSettings};
use crate::domain::lane::Lane;
use crate::domain::profile::KeyEnforcement;
use axum::Router;
use contracts::event::Producer;
use platform::bus::Publisher;
use platform::clock::{Clock, IdSource};
use platform::config::ConfigError;
use platform::consumer::{self, ConsumerError, ConsumerStatus};
use platform::db::{self, DbError};
use platform::feed::{self, FeedClient, FeedError};
use platform::http::{Health, ListenError, ServerLimits, bind, closing, draining, serve};
use platform::invariants::Invariants;
use platform::lease::{Keeper, Leases};
use platform::link::LinkError;
use platform::shutdown::{Ended, Stage, supervise};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// The name under which the producers of logs know this process.
const CONSUMER: &str = "broker-gateway";

/// Why the process does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error("configuration is not valid")]
    Config(#[from] ConfigError),
    /// The database or its schema.
    #[error("database cannot be used")]
    Database(#[from] DbError),
    /// The broker's address or credentials.
    #[error("broker cannot be called")]
    Caller(#[from] CallerError),
    /// A peer's address.
    #[error("peer's feed cannot be read")]
    Feed(#[from] FeedError),
    /// The HTTP client for feeds.
    #[error("http client for feeds could not be built")]
    Client(#[source] reqwest::Error),
    /// Orders in doubt, to be looked into first.
    #[error("orders in doubt could not be made due")]
    Review(#[from] StoreError),
    /// The rate that an operator set.
    #[error("rate of the lane could not be read")]
    Rate(#[source] StoreError),
    /// The bus's address.
    #[error("bus cannot be used")]
    Bus(#[from] LinkError),
    /// A port.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Applies the migrations and does nothing else.
///
/// # Errors
/// [`DbError`] from the database.
pub async fn migrate(settings: &Settings) -> Result<(), DbError> {
    db::wait_until_there(&settings.database, &CancellationToken::new()).await?;
    let pool = db::connect(&settings.database).await?;
    db::migrate(&pool, &MIGRATOR).await
}

/// A running gateway.
pub struct Service {
    /// Where the operator's port listens.
    pub ops_addr: SocketAddr,
    done: JoinHandle<Ended>,
}

/// Starts the calls of this process.
type Launcher = launch::Launcher<HttpCaller, Alpaca, RandomJitter>;

/// What most parts share.
struct Parts {
    settings: Settings,
    rules: Arc<Rules>,
    clock: Arc<dyn Clock>,
    store: Arc<PgStore>,
    control: LaneControl,
    wake: Arc<Notify>,
    leases: Leases,
    shutdown: CancellationToken,
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
        // Asked to end, it says so first, and then ends step by step.
        let asked = shutdown;
        let shutdown = CancellationToken::new();
        let mut rules = settings.rules()?;
        db::wait_until_there(&settings.database, &asked).await?;
        let pool = db::connect_by_key(&settings.database).await?;
        let warm = db::connect_warm(&settings.database).await?;
        db::check_migrations(&pool, &MIGRATOR).await?;
        let (listener, ops_addr) = bind(settings.http.ops_addr).await?;
        // The bus ends after the recorder, so that the last batch is still published.
        let bus_end = CancellationToken::new();
        let (publisher, bus) = Publisher::start(
            settings.redis.clone(),
            Producer::BrokerGateway,
            pool.clone(),
            settings.bus.clone(),
            bus_end.clone(),
        )?;
        // A connection of its own: leases that wait for one are lost.
        let lease_pool = db::connect(&settings.lease_database()).await?;
        let (keeper, leases) = Keeper::new(ids.uuid(), lease_pool, settings.copies);
        keeper.begin().await;
        let store = Arc::new(PgStore::new(pool.clone(), ids, Some(publisher)).working_with(warm));
        rules.retry.reviewed_since = store.begin_reviews().await?;
        let rules = Arc::new(rules);
        let control = LaneControl::new(Lane::new(settings.lane_policy()));
        if leases.copies() > 1 {
            // Until the others have seen that they share the broker's rate with one more.
            control.hold(Duration::from_millis(settings.copies.renewal_ms.saturating_mul(2)));
        }
        let lane = &settings.lane;
        let rate = LaneRate::new(control.clone(), lane.rate_per_s, lane.rate_per_s_max);
        rate.apply(store.rate(&rules.profile.broker).await.map_err(StartError::Rate)?);
        let wake = Arc::new(Notify::new());
        let parts = Parts { settings, rules, clock, store, control, wake, leases, shutdown: shutdown.clone() };

        let mut tasks = JoinSet::new();
        let (launcher, ends) = parts.launcher()?;
        let consumers = parts.start_consumers(&mut tasks, &launcher)?;
        let invariants = Invariants::new(CHECKS);
        let health = GatewayHealth::new(consumers, parts.control.clone(), parts.leases.clone(), invariants.clone());
        parts.start_inspecting(&mut tasks, invariants);
        tasks.spawn(keeper.run(shutdown.clone()));
        tasks.spawn(share_rate(parts.leases.clone(), parts.control.clone(), shutdown.clone()));
        parts.start_lane(&mut tasks, launcher, ends);
        let instruments = Instruments::default();
        parts.start_reference(&mut tasks, instruments.clone())?;
        tasks.spawn(watch(Arc::clone(&parts.store), health.clone(), parts.settings.watch, shutdown.clone()));
        let tokens = parts.settings.tokens.clone();
        let port = OpsPort { store: Arc::clone(&parts.store), rules: Arc::clone(&parts.rules) };
        let broker = parts.rules.profile.broker.clone();
        let every = Duration::from_millis(parts.settings.lane.rate_interval_ms);
        let store = Arc::clone(&parts.store);
        tasks.spawn(lane_rate::follow(store, broker.clone(), rate.clone(), every, shutdown.clone()));
        let lane_port = LanePort { store: Arc::clone(&parts.store), broker, rate };
        let deferred_store = Arc::clone(&parts.store);
        let router = base(draining(Arc::new(health), asked.clone()))
            .merge(feed::router(pool, Producer::BrokerGateway, tokens.peer.clone()))
            .merge(reference_router(instruments, tokens.peer.clone()))
            .merge(peer_router(Arc::clone(&port.store), tokens.peer.clone()))
            .merge(deferred_router(deferred_store, tokens.operators()))
            .merge(lane_router(lane_port, tokens.operators()))
            .merge(ops_router(port, tokens.operators()));
        let router = closing(router, asked.clone());
        let ops_end = CancellationToken::new();
        let ops = tokio::spawn(serve(listener, router, ServerLimits::default(), ops_end.clone()));
        let pause = Duration::from_millis(parts.settings.shutdown.drain_delay_ms);
        let deadline = pause + Duration::from_millis(parts.settings.shutdown.deadline_ms);
        drop(parts);
        let stages =
            vec![Stage::pause(pause), Stage::new(shutdown, tasks), Stage::of(bus_end, bus), Stage::of(ops_end, ops)];
        let left_over = "calls without a record are asked about at the next start";
        let done = tokio::spawn(supervise(asked, stages, deadline, left_over));
        Ok(Self { ops_addr, done })
    }

    /// Waits for the end, which is bounded after shutdown was asked for.
    pub async fn ended(self) -> Ended {
        self.done.await.unwrap_or(Ended::TaskFailed)
    }
}

impl Parts {
    /// Reads the order server's log for work and the fill receiver's for evidence.
    fn start_consumers(
        &self,
        tasks: &mut JoinSet<()>,
        launcher: &Arc<Launcher>,
    ) -> Result<Vec<ConsumerStatus>, StartError> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(StartError::Client)?;
        let peers = &self.settings.peers;
        let intake = Intake::new(
            PgStore::clone(&self.store),
            Arc::clone(&self.rules),
            RandomJitter,
            Arc::clone(&self.wake),
            self.settings.intake_limits(),
        );
        // Weak, since the recorder ends when the last launcher is gone.
        let launcher: Arc<dyn Straight> = Arc::<Launcher>::clone(launcher);
        let sink = Arc::new(intake.sending_through(Arc::downgrade(&launcher)));
        tasks.spawn(redrive::run(
            PgStore::clone(&self.store),
            Arc::clone(&sink),
            self.leases.clone(),
            Duration::from_millis(self.settings.intake.redrive_interval_ms),
            self.shutdown.clone(),
        ));
        let mut statuses = Vec::new();
        for (producer, url) in
            [(Producer::OrderCore, &peers.order_server_url), (Producer::FillReceiver, &peers.receiver_url)]
        {
            let feed = FeedClient::new(url, self.settings.tokens.peer.clone(), http.clone())?;
            let status = ConsumerStatus::new(producer);
            statuses.push(status.clone());
            let (sink, redis, config) =
                (Arc::clone(&sink), self.settings.redis.clone(), self.settings.consumer.clone());
            let (leases, shutdown) = (self.leases.clone(), self.shutdown.clone());
            tasks.spawn(async move {
                let ended: Result<(), ConsumerError> =
                    consumer::run(CONSUMER, producer, sink, redis, feed, config, status, leases, shutdown).await;
                if let Err(error) = ended {
                    tracing::error!(error = %Chain(&error), %producer, "consumer could not start");
                }
            });
        }
        Ok(statuses)
    }

    fn start_inspecting(&self, tasks: &mut JoinSet<()>, invariants: Invariants) {
        let Some(pace) = self.settings.watch.pace() else { return };
        let keys_are_enforced = self.rules.profile.key_enforcement != KeyEnforcement::Never;
        let inspector = Arc::new(RequestInspector { store: Arc::clone(&self.store), keys_are_enforced });
        tasks.spawn(invariants.watch(inspector, pace, self.shutdown.clone()));
    }

    fn caller(&self) -> Result<HttpCaller, StartError> {
        let broker = &self.settings.broker;
        let limits = self.settings.caller_limits();
        Ok(HttpCaller::new(&broker.base_url, &broker.key_id, &broker.secret_key, limits)?)
    }

    fn dialect(&self) -> Alpaca {
        let profile = &self.rules.profile;
        let dialect = Alpaca::new(&self.settings.broker.account_id, profile.rate_limited_is_unprocessed);
        if profile.key_accepted { dialect } else { dialect.without_keys() }
    }

    /// What starts the lane's calls, and where their ends come out.
    fn launcher(&self) -> Result<(Arc<Launcher>, mpsc::Receiver<FinishedCall>), StartError> {
        let (finished, ends) = mpsc::channel(self.settings.lane.record_queue_len_max);
        let limits = self.settings.lane_limits();
        let launcher = Launcher {
            caller: Arc::new(self.caller()?),
            dialect: Arc::new(self.dialect()),
            jitter: RandomJitter,
            clock: Arc::clone(&self.clock),
            rules: Arc::clone(&self.rules),
            control: self.control.clone(),
            room: Room::new(limits.concurrency_max, limits.claim_len_max),
            finished,
        };
        Ok((Arc::new(launcher), ends))
    }

    /// Starts the lane and its recorder, which ends when the lane has and its queue is empty.
    fn start_lane(&self, tasks: &mut JoinSet<()>, launcher: Arc<Launcher>, ends: mpsc::Receiver<FinishedCall>) {
        let worker = LaneWorker {
            store: Arc::clone(&self.store),
            launcher,
            limits: self.settings.lane_limits(),
            wake: Arc::clone(&self.wake),
        };
        let recorder = Recorder {
            store: Arc::clone(&self.store),
            rules: Arc::clone(&self.rules),
            jitter: RandomJitter,
            limits: self.settings.recorder_limits(),
            wake: Arc::clone(&self.wake),
        };
        let shutdown = self.shutdown.clone();
        tasks.spawn(async move { worker.run(shutdown).await });
        tasks.spawn(recorder.run(ends));
    }

    fn start_reference(&self, tasks: &mut JoinSet<()>, instruments: Instruments) -> Result<(), StartError> {
        let broker = &self.settings.broker;
        let limits = self.settings.reference_limits();
        let caller = Arc::new(HttpCaller::new(&broker.base_url, &broker.key_id, &broker.secret_key, limits)?);
        let dialect = Arc::new(self.dialect());
        let intervals = self.settings.reference_intervals();
        tasks.spawn(reference::run(caller, dialect, instruments, intervals, self.shutdown.clone()));
        Ok(())
    }
}

/// Keeps the lane at its part of the rate, as copies come and go.
async fn share_rate(mut leases: Leases, control: LaneControl, shutdown: CancellationToken) {
    loop {
        control.share(leases.copies());
        tokio::select! {
            () = leases.changed() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Counts what waits, for metrics and health.
async fn watch(store: Arc<PgStore>, health: GatewayHealth, settings: WatchSettings, shutdown: CancellationToken) {
    loop {
        // A database that hangs answers nothing at all.
        let limit = Duration::from_millis(settings.count_timeout_ms);
        match tokio::time::timeout(limit, store.gauges()).await {
            Ok(Ok(gauges)) => {
                gauges.publish();
                health.set_gauges(Some(gauges));
            }
            Ok(Err(error)) => {
                health.set_gauges(None);
                tracing::warn!(error = %Chain(&error), "requests could not be counted");
            }
            Err(_) => {
                health.set_gauges(None);
                tracing::warn!("requests could not be counted: the database does not answer");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(settings.count_interval_ms)) => {}
        }
    }
}
