//! Whether the database answers, for readiness.

use super::ports::RecordStore;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the database is asked, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Looks {
    /// Time between two looks.
    pub interval_ms: u64,
    /// Longest look.
    pub timeout_ms: u64,
}

/// What the last look said.
#[derive(Debug)]
pub struct DatabaseStatus {
    answers: AtomicBool,
}

impl Default for DatabaseStatus {
    /// The process starts only when its database answers.
    fn default() -> Self {
        Self { answers: AtomicBool::new(true) }
    }
}

impl DatabaseStatus {
    /// Whether it answered in time when it was last asked.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }
}

/// Asks the database every interval, until `shutdown`.
pub async fn watch<S: RecordStore>(
    store: Arc<S>,
    status: Arc<DatabaseStatus>,
    looks: Looks,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(Duration::from_millis(looks.interval_ms.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let asked = tokio::time::timeout(Duration::from_millis(looks.timeout_ms), store.ping()).await;
        let answers = matches!(asked, Ok(Ok(())));
        metrics::gauge!("fill_receiver_database_up").set(if answers { 1.0 } else { 0.0 });
        if status.answers.swap(answers, Ordering::Relaxed) != answers {
            tracing::warn!(answers, "database changed");
        }
    }
}
