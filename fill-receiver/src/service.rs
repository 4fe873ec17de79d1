//! The process, put together.

use crate::adapters::db::{CHECKS, MIGRATOR, PgStore};
use crate::adapters::http::{self, PushReport, ReceiverHealth};
use crate::adapters::push;
use crate::adapters::sse::{SseClientError, SseSource};
use crate::application::audit::Audit;
use crate::application::database::{self, DatabaseStatus};
use crate::application::operations::Operations;
use crate::application::ports::{EventStore, StoreError};
use crate::application::push::PushIntake;
use crate::application::receiver::{Receiver, watch_open_counts};
use crate::application::session::SessionContext;
use crate::application::status::StreamStatus;
use crate::config::Settings;
use crate::domain::cursor::Cursor;
use crate::domain::reading::BrokerProfile;
use crate::domain::seen::SeenFrames;
use axum::Router;
use contracts::event::Producer;
use platform::bus::Publisher;
use platform::clock::{Clock, IdSource};
use platform::config::ConfigError;
use platform::db::{self, DbError};
use platform::feed;
use platform::http::{Health, ListenError, ServerLimits, bind, closing, draining, require_bearer, serve};
use platform::invariants::Invariants;
use platform::link::LinkError;
use platform::operators::require_operator;
use platform::shutdown::{Ended, Stage, supervise};
use sqlx::PgPool;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Why the process does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration.
    #[error("configuration is not valid")]
    Config(#[from] ConfigError),
    /// The database or its schema.
    #[error("database cannot be used")]
    Database(#[from] DbError),
    /// The stream as stored.
    #[error("stream cannot be read")]
    Stream(#[from] StoreError),
    /// The HTTP client.
    #[error("broker client cannot be built")]
    Client(#[from] SseClientError),
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
    let pool = db::connect(&settings.database).await?;
    db::migrate(&pool, &MIGRATOR).await
}

/// A running receiver.
pub struct Service {
    /// Where the operator's port listens.
    pub ops_addr: SocketAddr,
    /// Where pushes are taken, if they are.
    pub push_addr: Option<SocketAddr>,
    /// What is known about the stream.
    pub status: Arc<StreamStatus>,
    done: JoinHandle<Ended>,
}

impl Service {
    /// Starts everything. `base` makes the routes that every process serves from its health.
    ///
    /// # Errors
    /// [`StartError`] naming what is missing.
    pub async fn start(
        settings: Settings,
        clock: Arc<dyn Clock>,
        ids: &dyn IdSource,
        base: impl FnOnce(Arc<dyn Health>) -> Router,
        shutdown: CancellationToken,
    ) -> Result<Self, StartError> {
        // Asked to end, it says so first, and then ends step by step.
        let asked = shutdown;
        let shutdown = CancellationToken::new();
        let profile = settings.profile()?;
        let first = settings.first_cursor(clock.now())?;
        let source = SseSource::new(settings.sse())?;
        let pool = db::connect_by_key(&settings.database).await?;
        db::check_migrations(&pool, &MIGRATOR).await?;
        let warm = db::connect_warm(&settings.database).await?;
        let store = Arc::new(store(&settings, pool.clone(), profile.clone(), ids).working_with(warm));
        store.open_stream(first, clock.now()).await?;
        let (listener, ops_addr) = bind(settings.http.ops_addr).await?;
        let push_door = match settings.push_addr()? {
            Some(addr) => Some(bind(addr).await?),
            None => None,
        };
        let push_addr = push_door.as_ref().map(|(_, addr)| *addr);
        // The bus ends after the receiver, so that the last batch is still published.
        let bus_end = CancellationToken::new();
        let (publisher, bus) = Publisher::start(
            settings.redis.clone(),
            Producer::FillReceiver,
            pool.clone(),
            settings.bus.clone(),
            bus_end.clone(),
        )?;
        let status = Arc::new(StreamStatus::default());
        let operations =
            Arc::new(Operations::new(Arc::clone(&store), profile.clone(), Arc::clone(&clock), publisher.clone()));
        let context = Arc::new(SessionContext {
            store: Arc::clone(&store),
            profile,
            limits: settings.session_limits(),
            clock: Arc::clone(&clock),
            publisher,
            status: Arc::clone(&status),
            seen: Mutex::new(SeenFrames::new(settings.stream.seen_events_max)),
        });
        let intake = Arc::new(PushIntake::new(Arc::clone(&context), settings.key_ring()?, settings.push_limits()));
        let database = Arc::new(DatabaseStatus::default());
        let push = push_addr.map(|_| Arc::clone(&intake));
        let invariants = Invariants::new(CHECKS);
        let health = health(&settings, &status, clock, &database, &invariants, push);
        let router = base(draining(health, asked.clone()))
            .merge(feed::router(pool, Producer::FillReceiver, settings.tokens.peer.clone()))
            .merge(require_bearer(http::peer_router(Arc::clone(&operations)), settings.tokens.peer.clone()))
            .merge(require_operator(http::router(operations), settings.tokens.operators()));
        let inspector = Arc::clone(&store);
        let mut tasks = work(&settings, context, store, source, first, database, &shutdown);
        if let Some(pace) = settings.watch.pace() {
            tasks.spawn(invariants.watch(inspector, pace, shutdown.clone()));
        }
        if let Some((listener, _)) = push_door {
            let routes = closing(push::router(Arc::clone(&intake), settings.push_http_limits()), asked.clone());
            tasks.spawn(serve(listener, routes, settings.push_server_limits(), shutdown.clone()));
            let end = shutdown.clone();
            tasks.spawn(async move { intake.prune(end).await });
        }
        let router = closing(router, asked.clone());
        let ops_end = CancellationToken::new();
        let ops = tokio::spawn(serve(listener, router, ServerLimits::default(), ops_end.clone()));
        let pause = Duration::from_millis(settings.shutdown.drain_delay_ms);
        let deadline = pause + Duration::from_millis(settings.shutdown.deadline_ms);
        let stages =
            vec![Stage::pause(pause), Stage::new(shutdown, tasks), Stage::of(bus_end, bus), Stage::of(ops_end, ops)];
        let left_over = "what was not committed is replayed at the next start";
        let done = tokio::spawn(supervise(asked, stages, deadline, left_over));
        Ok(Self { ops_addr, push_addr, status, done })
    }

    /// Waits for the end, which is bounded after shutdown was asked for.
    pub async fn ended(self) -> Ended {
        self.done.await.unwrap_or(Ended::TaskFailed)
    }
}

fn store(settings: &Settings, pool: PgPool, profile: BrokerProfile, ids: &dyn IdSource) -> PgStore {
    let lease_ms = i64::try_from(settings.lease.duration_ms).unwrap_or(i64::MAX);
    let call_limit = Duration::from_millis(settings.store.call_timeout_ms);
    PgStore::new(pool, profile, settings.stream.name.clone(), ids.uuid(), lease_ms, call_limit)
}

/// The tasks that read the broker and keep an eye on what was read.
fn work(
    settings: &Settings,
    context: Arc<SessionContext<PgStore>>,
    store: Arc<PgStore>,
    source: SseSource,
    first: Cursor,
    database: Arc<DatabaseStatus>,
    shutdown: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let audit = Audit::new(Arc::clone(&context), source.clone(), settings.audit, first);
    let receiver = Receiver { context, source, config: settings.round(), first };
    let end = shutdown.clone();
    tasks.spawn(async move { receiver.run(end).await });
    let end = shutdown.clone();
    tasks.spawn(async move { audit.run(end).await });
    let watch = settings.watch;
    tasks.spawn(database::watch(Arc::clone(&store), database, watch.looks(), shutdown.clone()));
    tasks.spawn(watch_open_counts(store, watch.count_interval_ms, shutdown.clone()));
    tasks
}

fn health(
    settings: &Settings,
    status: &Arc<StreamStatus>,
    clock: Arc<dyn Clock>,
    database: &Arc<DatabaseStatus>,
    invariants: &Invariants,
    push: Option<Arc<PushIntake<PgStore>>>,
) -> Arc<ReceiverHealth> {
    Arc::new(ReceiverHealth {
        status: Arc::clone(status),
        clock,
        broker: settings.broker.id.clone(),
        stream: settings.stream.name.clone(),
        stream_late: Duration::from_millis(settings.watch.stream_late_ms),
        database: Arc::clone(database),
        invariants: invariants.clone(),
        push: push.map(|intake| -> PushReport { Box::new(move || intake.report()) }),
    })
}
