//! Reading the stream a second time.
//!
//! A stream can look alive, send its heartbeats, and still lose an event without a word. So every
//! stretch of it is asked for once more, over a connection with a stated end, some seconds after the
//! fact. What turns out to be new is stored like anything else; no cursor moves. Nearly everything
//! was committed a moment ago by this process, and is passed over without asking the database.

use super::ports::{ConnectError, EventSource, EventStore};
use super::session::{self, SessionContext, Stop};
use super::status::StreamState;
use crate::domain::cursor::Cursor;
use crate::domain::intake::StopReason;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// When and how much.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// Time between two audits; 0 for none.
    pub interval_ms: u64,
    /// How far behind now an audit stays.
    pub lag_ms: u64,
    /// Longest stretch of one audit.
    pub stretch_max_ms: u64,
    /// Longest time of one audit.
    pub deadline_ms: u64,
}

/// Audits the stream that this copy reads.
pub struct Audit<S, B> {
    context: Arc<SessionContext<S>>,
    source: B,
    config: AuditConfig,
}

impl<S: EventStore, B: EventSource> Audit<S, B> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(context: Arc<SessionContext<S>>, source: B, config: AuditConfig) -> Self {
        Self { context, source, config }
    }

    /// Audits until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        if self.config.interval_ms == 0 {
            return shutdown.cancelled().await;
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Before the first connection: what a connection replays is whole, what follows is audited.
        let mut audited = self.horizon();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.context.status.state() {
                StreamState::Standby => audited = self.horizon(),
                // A stream that is behind would only be slowed down, and nothing can be told yet.
                StreamState::Connected if self.context.status.is_caught_up() => {
                    audited = self.step(audited, &shutdown).await;
                }
                _ => {}
            }
        }
    }

    /// Audits the next stretch, and answers up to where everything is audited.
    async fn step(&self, from: Cursor, shutdown: &CancellationToken) -> Cursor {
        let until = self.horizon().min(from.advanced(self.config.stretch_max_ms));
        if until <= from {
            return from;
        }
        match self.once(from, until, shutdown).await {
            Ok(ended) if ended.reason == StopReason::Ended => {
                metrics::counter!("fill_receiver_audits_total", "result" => "done").increment(1);
                if ended.inserted > 0 {
                    metrics::counter!("fill_receiver_found_by_audit_total").increment(ended.inserted);
                    tracing::error!(%from, %until, events = ended.inserted, "live stream had not brought these events");
                }
                until
            }
            Ok(ended) => {
                metrics::counter!("fill_receiver_audits_total", "result" => "broken").increment(1);
                tracing::info!(reason = ended.reason.as_str(), "audit did not finish");
                from
            }
            Err(error) => {
                metrics::counter!("fill_receiver_audits_total", "result" => "refused").increment(1);
                tracing::warn!(error = &error as &dyn std::error::Error, "audit could not connect");
                // What the broker no longer replays cannot be audited any more.
                if matches!(error, ConnectError::ReplayRefused { .. }) { until } else { from }
            }
        }
    }

    /// Up to where everything should have arrived by now.
    fn horizon(&self) -> Cursor {
        Cursor::at(self.context.clock.now()).rewound(self.config.lag_ms)
    }

    async fn once(
        &self,
        from: Cursor,
        until: Cursor,
        shutdown: &CancellationToken,
    ) -> Result<session::Ended, ConnectError> {
        let chunks = self.source.connect(from, Some(until)).await?;
        let stop = Stop::default();
        let reading = session::run(&self.context, chunks, None, &stop);
        let watching = async {
            tokio::select! {
                () = shutdown.cancelled() => stop.set(StopReason::Shutdown),
                () = tokio::time::sleep(Duration::from_millis(self.config.deadline_ms)) => stop.set(StopReason::Deadline),
                () = stop.stopped() => {}
            }
        };
        Ok(tokio::join!(reading, watching).0)
    }
}
