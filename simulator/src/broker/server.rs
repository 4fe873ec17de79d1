//! Sockets: accepting, serving, hanging up, stopping.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::bars::{Bars, BarsError};
use super::exchange::{Exchange, ExchangeSettings, OpenError};
use super::http::{HangUp, router};
use super::journal::JournalError;
use super::push::{self, PushSettings};
use super::settings::{ACCOUNTS_MAX, Settings};
use super::shared::Shared;

/// Most connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4_096;
/// An idle connection is closed after this; well above what clients keep in their pools.
const IDLE_MAX: Duration = Duration::from_secs(600);
/// How long a connection may take to end when the broker stops.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No account, or too many.
    #[error("between 1 and {ACCOUNTS_MAX} account ids are needed")]
    Accounts,
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The exchange.
    #[error("cannot open the exchange")]
    Exchange(#[from] OpenError),
    /// The recorded prices.
    #[error(transparent)]
    Bars(#[from] BarsError),
}

/// A connection is closed on purpose.
#[derive(Debug, thiserror::Error)]
#[error("hung up on purpose")]
struct HungUp;

/// A broker that runs.
#[derive(Debug)]
pub struct RunningBroker {
    addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), JournalError>>,
}

impl RunningBroker {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops it when cancelled.
    #[must_use]
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// [`JournalError`] when it stopped by itself because its state file could not be written.
    pub async fn wait(self) -> Result<(), JournalError> {
        self.task.await.unwrap_or(Ok(()))
    }

    /// Stops it and waits.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn shutdown(self) -> Result<(), JournalError> {
        self.stop.cancel();
        self.wait().await
    }
}

/// Starts a broker.
///
/// # Errors
/// [`StartError`] when the address is taken or the state file is damaged.
pub async fn start(settings: Settings) -> Result<RunningBroker, StartError> {
    start_beside(settings, Router::new()).await
}

/// Starts a broker that serves further routes of its process on its port.
///
/// # Errors
/// As [`start`].
pub async fn start_beside(settings: Settings, routes: Router) -> Result<RunningBroker, StartError> {
    if settings.account_ids.is_empty() || settings.account_ids.len() > ACCOUNTS_MAX {
        return Err(StartError::Accounts);
    }
    let exchange_settings = ExchangeSettings {
        seed: settings.seed,
        profile: settings.profile,
        key_window_ms: settings.key_window_ms,
        account_ids: settings.account_ids,
        cash: settings.cash,
        checks_funds: settings.checks_funds,
        market_hours: settings.market_hours,
        pace: settings.pace,
        bars: settings.bars.as_deref().map(Bars::read).transpose()?.unwrap_or_default(),
        events_retained_max: settings.events_retained_max,
        state_file: settings.state_file,
    };
    let exchange = Exchange::open(&exchange_settings, OffsetDateTime::now_utc())?;
    let listen = |source| StartError::Listen { addr: settings.addr, source };
    let listener = TcpListener::bind(settings.addr).await.map_err(listen)?;
    let addr = listener.local_addr().map_err(listen)?;
    let credentials = format!("{}:{}", settings.key_id, settings.secret_key);
    let shared = Arc::new(Shared::new(exchange, credentials));
    let stop = shared.stop.clone();
    let task = tokio::spawn(serve(listener, shared, settings.push, routes));
    Ok(RunningBroker { addr, stop, task })
}

async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    push: PushSettings,
    routes: Router,
) -> Result<(), JournalError> {
    let tasks = TaskTracker::new();
    let driven = Arc::clone(&shared);
    tasks.spawn(async move { driven.drive().await });
    tasks.spawn(push::run(Arc::clone(&shared), push));
    let app = router(Arc::clone(&shared)).merge(routes);
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Some((stream, permit)) => {
                tasks.spawn(connection(stream, app.clone(), shared.stop.clone(), permit));
            }
            None => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
    shared.take_failure().map_or(Ok(()), Err)
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, permit)),
        Err(error) => {
            tracing::warn!(%error, "cannot take a connection");
            None
        }
    }
}

async fn connection(stream: TcpStream, app: Router, stop: CancellationToken, _permit: OwnedSemaphorePermit) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| answer(app.clone(), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_MAX);
    let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::time::timeout(DRAIN_MAX, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Answers a request, or ends the connection where the response says so.
async fn answer(app: Router, request: Request<Incoming>) -> Result<Response, HungUp> {
    let response: Result<Response, Infallible> = app.oneshot(request.map(Body::new)).await;
    match response {
        Ok(response) if response.extensions().get::<HangUp>().is_some() => Err(HungUp),
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}
