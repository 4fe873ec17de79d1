//! Reading the stream a second time.
//!
//! A stream can look alive, send its heartbeats, and still lose an event without a word. So every
//! stretch of it is asked for once more, over a connection with a stated end, some seconds after the
//! fact. What turns out to be new is stored like anything else; no cursor moves. Nearly everything
//! was committed a moment ago by this process, and is passed over without asking the database.
//!
//! How far this came is stored, so that a restart or another copy goes on from there. A stretch that
//! the broker no longer replays is recorded as unproven in the transaction that passes it.

use super::ports::{AuditMove, ConnectError, EventSource, EventStore, StoreError};
use super::session::{self, SessionContext, Stop};
use super::status::StreamState;
use crate::domain::cursor::Cursor;
use crate::domain::intake::StopReason;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// When and how much.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
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
    first: Cursor,
}

impl<S: EventStore, B: EventSource> Audit<S, B> {
    /// Puts the parts together. `first` is where a stream begins that was never read.
    #[must_use]
    pub fn new(context: Arc<SessionContext<S>>, source: B, config: AuditConfig, first: Cursor) -> Self {
        Self { context, source, config, first }
    }

    /// Audits until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        if self.config.interval_ms == 0 {
            return shutdown.cancelled().await;
        }
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.interval_ms));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Before the first connection: what a connection replays is whole, what follows is audited.
        let start = self.horizon();
        // None until it is read, and again whenever another copy may have moved it.
        let mut audited = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            match self.context.status.state() {
                StreamState::Standby => audited = None,
                // A stream that is behind would only be slowed down, and nothing can be told yet.
                StreamState::Connected if self.context.status.is_caught_up() => {
                    audited = self.tick(audited, start, &shutdown).await;
                }
                _ => {}
            }
        }
    }

    /// One audit; answers how far everything is audited, where that is known.
    async fn tick(&self, audited: Option<Cursor>, start: Cursor, shutdown: &CancellationToken) -> Option<Cursor> {
        let done = async {
            let from = match audited {
                Some(audited) => audited,
                None => self.stored(start).await?,
            };
            self.step(from, shutdown).await
        };
        match done.await {
            Ok(audited) => Some(audited),
            Err(error) => {
                tracing::warn!(error = %platform::telemetry::Chain(&error), "progress of the audit could not be stored");
                None
            }
        }
    }

    /// How far the stream was audited before, by whichever copy.
    async fn stored(&self, start: Cursor) -> Result<Cursor, StoreError> {
        let now = self.context.clock.now();
        if let Some(audited) = self.context.store.open_stream(self.first, now).await?.audited {
            return Ok(audited);
        }
        self.context.store.record_audited(AuditMove { from: None, to: start }, None, now).await?;
        Ok(start)
    }

    /// Audits the next stretch, and answers up to where everything is audited.
    async fn step(&self, from: Cursor, shutdown: &CancellationToken) -> Result<Cursor, StoreError> {
        let until = self.horizon().min(from.advanced(self.config.stretch_max_ms));
        if until <= from {
            return Ok(from);
        }
        let epoch = self.context.seen().epoch();
        let (result, refused) = match self.once(from, until, shutdown).await {
            // What was passed over from memory counts only if nothing was forgotten meanwhile.
            Ok(ended) if ended.reason == StopReason::Ended && self.context.seen().epoch() == epoch => {
                if ended.inserted > 0 {
                    metrics::counter!("fill_receiver_found_by_audit_total").increment(ended.inserted);
                    tracing::error!(%from, %until, events = ended.inserted, "live stream had not brought these events");
                }
                ("done", None)
            }
            Ok(ended) => {
                tracing::info!(reason = ended.reason.as_str(), "audit did not finish");
                return Ok(self.left("broken", from));
            }
            Err(error @ ConnectError::ReplayRefused { .. }) => {
                tracing::error!(error = %platform::telemetry::Chain(&error), %from, %until, "stretch cannot be audited");
                metrics::counter!("fill_receiver_unproven_ranges_total").increment(1);
                ("refused", Some("audit: replay refused"))
            }
            Err(error) => {
                tracing::warn!(error = %platform::telemetry::Chain(&error), "audit could not connect");
                return Ok(self.left("unreachable", from));
            }
        };
        let moved = AuditMove { from: Some(from), to: until };
        self.context.store.record_audited(moved, refused, self.context.clock.now()).await?;
        Ok(self.left(result, until))
    }

    fn left(&self, result: &'static str, audited: Cursor) -> Cursor {
        metrics::counter!("fill_receiver_audits_total", "result" => result).increment(1);
        let behind_ms = Cursor::at(self.context.clock.now()).unix_ms().saturating_sub(audited.unix_ms());
        metrics::gauge!("fill_receiver_audit_behind_seconds").set(Duration::from_millis(behind_ms).as_secs_f64());
        audited
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
