//! The streams of a process.

use super::Parts;
use crate::adapters::http::auth::Authenticator;
use crate::adapters::http::limits::RequestLimits;
use crate::adapters::http::stream::StreamState;
use crate::application::bounded::Bounded;
use crate::application::updates::{Pages, UpdateReads};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Longest wait for websockets to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(3);

impl Parts {
    /// Starts looking after streams, and what they work with.
    pub(super) fn start_streams(&self, end: &CancellationToken, tasks: &mut JoinSet<()>) -> StreamState {
        let settings = &self.settings.stream;
        let store = Arc::new(Bounded::new(self.store.clone(), self.settings.database_wait_max()));
        let reads: Arc<dyn UpdateReads> = store.clone();
        let open = TaskTracker::new();
        tasks.spawn(Arc::clone(&self.hub).run(Arc::clone(&reads), settings.poll_interval(), end.clone()));
        tasks.spawn(say_goodbye(open.clone(), end.clone()));
        let authenticator = Arc::new(Authenticator::new(store, Arc::clone(&self.clock)));
        tasks.spawn(Arc::clone(&authenticator).watch(end.clone()));
        StreamState {
            hub: Arc::clone(&self.hub),
            pages: Arc::new(Pages::new(reads, usize::from(settings.readers_max), i64::from(settings.page_len_max))),
            rates: Arc::new(RequestLimits::new(self.settings.rates())),
            authenticator,
            strangers: Arc::new(Semaphore::new(settings.strangers_max)),
            clock: Arc::clone(&self.clock),
            limits: settings.limits(),
            end: end.clone(),
            open,
        }
    }
}

/// A websocket has left the HTTP server, which does not wait for it at the end; this does.
async fn say_goodbye(open: TaskTracker, end: CancellationToken) {
    end.cancelled().await;
    open.close();
    if tokio::time::timeout(GOODBYE_MAX, open.wait()).await.is_err() {
        tracing::warn!(websockets = open.len(), "websockets were still open at the end");
    }
}
