//! Updates to clients as they happen: server-sent events with replay, and the websocket.
//!
//! Both read an account's updates from the database by number, page by page, as fast as their own
//! client takes them. Nothing is buffered for a client beyond one page and what its socket holds, so
//! there is nothing to drop: a client that does not read is closed, and comes back with its cursor.

mod message;
mod session;
mod sse;
mod websocket;

pub use message::FrameKind;

use super::auth::Authenticator;
use super::limits::RequestLimits;
use super::{ApiState, served};
use crate::application::hub::Hub;
use crate::application::query::QueryError;
use crate::application::updates::{Follower, Pages, StoredUpdate};
use axum::Router;
use axum::routing::get;
use platform::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often a page that could not be read is tried again before its stream ends.
const READ_TRIES_MAX: u32 = 10;

/// Pause between such tries.
const READ_PAUSE: Duration = Duration::from_millis(300);

/// Limits of streams. Explained in `config.default.toml`.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct StreamLimits {
    pub auth_deadline: Duration,
    pub message_len_max: usize,
    pub messages_per_second_max: u32,
    pub heartbeat: Duration,
    pub ping_interval: Duration,
    pub silence_max: Duration,
    pub write_timeout: Duration,
    pub settle: Duration,
    pub frames: FrameKind,
}

/// What streams work with.
#[derive(Clone)]
pub struct StreamState {
    /// Who listens.
    pub hub: Arc<Hub>,
    /// Their reads.
    pub pages: Arc<Pages>,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// How often each may ask, and fail to show a key.
    pub rates: Arc<RequestLimits>,
    /// Places for websockets that have not shown a key yet.
    pub strangers: Arc<Semaphore>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Limits.
    pub limits: StreamLimits,
    /// Ends every stream.
    pub end: CancellationToken,
    /// Open websockets, which have left the HTTP server.
    pub open: TaskTracker,
}

/// The routes of the streams: those behind the check of the key, and the websockets, which may show
/// theirs later.
pub(super) fn routes(state: StreamState) -> (Router<ApiState>, Router) {
    let events = Router::new().route("/v2/events/trades", served(get(sse::trades))).with_state(state.clone());
    let sockets = Router::new()
        .route("/stream", served(get(websocket::upgrade)))
        .route("/stream/", served(get(websocket::upgrade)))
        .with_state(state);
    (events, sockets)
}

/// The next page, tried again while the database is away for a moment.
async fn read_on(follower: &mut Follower) -> Result<Vec<StoredUpdate>, QueryError> {
    let mut tries = 0;
    loop {
        match follower.next().await {
            Err(QueryError::Store { .. }) if tries < READ_TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(READ_PAUSE).await;
            }
            Err(error) => {
                tracing::error!(error = %platform::telemetry::Chain(&error), "a stream ends because it cannot be read");
                return Err(error);
            }
            page => return page,
        }
    }
}

/// Counts a stream for as long as it lives.
struct Counted(&'static str);

impl Counted {
    fn new(transport: &'static str) -> Self {
        metrics::gauge!("stream_connections", "transport" => transport).increment(1);
        Self(transport)
    }

    /// Updates that were handed to the socket, and how long after their commit.
    fn sent(&self, clock: &dyn Clock, page: &[StoredUpdate], live: bool) {
        metrics::counter!("stream_updates_sent_total", "transport" => self.0)
            .increment(u64::try_from(page.len()).unwrap_or(u64::MAX));
        let Some(last) = page.last().filter(|_| live) else { return };
        let delay = Duration::try_from(clock.now() - last.mark.at).unwrap_or_default();
        metrics::histogram!("stream_delay_seconds", "transport" => self.0).record(delay);
    }

    fn closed(&self, reason: &'static str) {
        metrics::counter!("stream_closed_total", "transport" => self.0, "reason" => reason).increment(1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("stream_connections", "transport" => self.0).decrement(1);
    }
}
