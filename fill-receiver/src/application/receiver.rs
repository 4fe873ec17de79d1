//! The life of one stream: lease, connect, read until something is wrong, and again.

use super::connect::{ResumeError, Resumed, resume};
use super::ports::{EventSource, EventStore, RecordStore, Stored};
use super::session::{self, SessionContext, Stop};
use super::status::StreamState;
use crate::domain::cursor::{Cursor, ReaderPosition, ResumeFacts};
use crate::domain::intake::StopReason;
use platform::reconnect::ReconnectDelay;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Times of the round.
#[derive(Debug, Clone, Copy)]
pub struct RoundConfig {
    /// How far before the cursor reading resumes.
    pub overlap_ms: u64,
    /// How far back the broker replays; 0 where it does not say.
    pub replay_window_ms: u64,
    /// First wait before connecting again; it doubles from there.
    pub reconnect_delay_initial_ms: u64,
    /// Longest wait before connecting again.
    pub reconnect_delay_max_ms: u64,
    /// Time between two claims or renewals of the lease.
    pub lease_renewal_ms: u64,
}

/// Receives one stream.
pub struct Receiver<S, B> {
    /// What every connection needs.
    pub context: Arc<SessionContext<S>>,
    /// The broker.
    pub source: B,
    /// Times.
    pub config: RoundConfig,
    /// Where a stream begins that was never read.
    pub first: Cursor,
}

impl<S: EventStore, B: EventSource> Receiver<S, B> {
    /// Receives until `shutdown`. Errors of the broker and of the database are waited out for ever.
    pub async fn run(&self, shutdown: CancellationToken) {
        let initial = Duration::from_millis(self.config.reconnect_delay_initial_ms);
        let mut delay = ReconnectDelay::new(initial, Duration::from_millis(self.config.reconnect_delay_max_ms));
        while !shutdown.is_cancelled() {
            let wait = match self.round(&shutdown).await {
                Round::Standby => Duration::from_millis(self.config.lease_renewal_ms),
                Round::Read { useful } => {
                    if useful {
                        delay.reset();
                    }
                    delay.next_delay()
                }
                Round::Failed => delay.next_delay(),
            };
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.context.status.set_state(StreamState::Stopped);
        if let Err(error) = self.context.store.release_lease().await {
            tracing::warn!(error = %platform::telemetry::Chain(&error), "lease could not be given up");
        }
    }

    async fn round(&self, shutdown: &CancellationToken) -> Round {
        let status = &self.context.status;
        match self.context.store.claim_lease().await {
            Ok(true) => {}
            Ok(false) => {
                status.set_state(StreamState::Standby);
                return Round::Standby;
            }
            Err(error) => return self.failed(&error),
        }
        status.set_state(StreamState::Connecting);
        let resumed = tokio::select! {
            () = shutdown.cancelled() => return Round::Failed,
            resumed = self.resume() => resumed,
        };
        let resumed = match resumed {
            Ok(resumed) => resumed,
            Err(error) => return self.failed(&error),
        };
        status.cursor(resumed.cursor);
        status.set_state(StreamState::Connected);
        tracing::info!(cursor = %resumed.cursor, "stream connected");
        let connected = Instant::now();
        let ended = self.read(resumed, shutdown).await;
        status.stopped(ended.reason);
        status.set_state(StreamState::Waiting);
        metrics::counter!("fill_receiver_reconnects_total", "reason" => ended.reason.as_str()).increment(1);
        tracing::info!(reason = ended.reason.as_str(), events = ended.events, "stream left");
        Round::Read { useful: was_useful(&ended, connected.elapsed(), self.config) }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> Round {
        tracing::warn!(error = %platform::telemetry::Chain(error), "stream could not be opened");
        metrics::counter!("fill_receiver_connect_failures_total").increment(1);
        self.context.status.failed(chain(error));
        self.context.status.set_state(StreamState::Waiting);
        Round::Failed
    }

    async fn resume(&self) -> Result<Resumed, ResumeError> {
        let now = self.context.clock.now();
        let stored = self.context.store.open_stream(self.first, now).await?;
        self.context.tell_if_restored(stored.cursor);
        // Between two connections the database may have lost what this process remembers.
        self.context.forget();
        let facts = ResumeFacts {
            cursor: stored.cursor,
            alive_at: stored.alive_at,
            now,
            overlap_ms: self.config.overlap_ms,
            replay_window_ms: Some(self.config.replay_window_ms).filter(|window| *window > 0),
        };
        resume(&*self.context.store, &self.source, facts).await
    }

    async fn read(&self, resumed: Resumed, shutdown: &CancellationToken) -> session::Ended {
        let stop = Stop::default();
        let position = ReaderPosition::start(resumed.cursor);
        let reading = session::run(&self.context, resumed.chunks, Some(position), &stop);
        let watching = async {
            tokio::select! {
                () = shutdown.cancelled() => stop.set(StopReason::Shutdown),
                reason = self.keep_lease() => stop.set(reason),
                () = stop.stopped() => {}
            }
        };
        tokio::join!(reading, watching).0
    }

    /// Returns when another copy has the lease, or when the database could not be asked: it may be another one when
    /// it answers again, and this may be the only call that saw the old one's connections break. The next connection
    /// to the broker begins before the cursor, with nothing remembered.
    async fn keep_lease(&self) -> StopReason {
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.lease_renewal_ms)).await;
            match self.context.store.claim_lease().await {
                Ok(true) => {}
                Ok(false) => return StopReason::LeaseLost,
                Err(error) => {
                    tracing::warn!(error = %platform::telemetry::Chain(&error), "lease could not be renewed");
                    return StopReason::StoreFailed;
                }
            }
        }
    }
}

/// Whether the next wait may be short: the cursor moved, or the connection lasted. A replay of what is
/// known proves nothing, and a broker that breaks off after each one would be asked without a pause.
fn was_useful(ended: &session::Ended, lasted: Duration, config: RoundConfig) -> bool {
    ended.advanced || lasted >= Duration::from_millis(config.reconnect_delay_max_ms)
}

enum Round {
    Standby,
    /// Whether the connection was worth its while: the next wait is short.
    Read {
        useful: bool,
    },
    Failed,
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Shows what one transaction did.
pub(in crate::application) fn count(stored: &Stored) {
    let results = [
        ("inserted", stored.inserted),
        ("repeated", stored.repeated),
        ("known_bytes", stored.known_bytes),
        ("completed", stored.completed),
        ("parked", stored.parked),
        ("terms_differ", stored.terms_differ),
        ("second_broker_order", stored.second_orders),
    ];
    for (result, count) in results.into_iter().filter(|(_, count)| *count > 0) {
        metrics::counter!("fill_receiver_events_total", "result" => result).increment(count);
    }
    let alarms = [stored.parked, stored.terms_differ, stored.second_orders];
    if alarms.iter().any(|count| *count > 0) {
        tracing::error!(
            parked = stored.parked,
            terms_differ = stored.terms_differ,
            second_broker_orders = stored.second_orders,
            "broker sent what a person must look at"
        );
    }
}

/// Keeps the gauges of what waits for a person, until `shutdown`.
pub async fn watch_open_counts<S: RecordStore>(store: Arc<S>, interval_ms: u64, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms.max(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        match store.open_counts().await {
            Ok(open) => {
                let number = |count: i64| f64::from(i32::try_from(count).unwrap_or(i32::MAX));
                metrics::gauge!("fill_receiver_parked_open").set(number(open.parked));
                metrics::gauge!("fill_receiver_suspects_open").set(number(open.suspects));
                metrics::gauge!("fill_receiver_unproven_open").set(number(open.unproven));
            }
            Err(error) => {
                tracing::warn!(error = %platform::telemetry::Chain(&error), "open records could not be counted")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::intake::StopReason;

    #[test]
    fn a_replay_of_what_is_known_does_not_shorten_the_wait() {
        let config = RoundConfig {
            overlap_ms: 1,
            replay_window_ms: 0,
            reconnect_delay_initial_ms: 50,
            reconnect_delay_max_ms: 5_000,
            lease_renewal_ms: 1,
        };
        let ended = session::Ended { reason: StopReason::Dropped, events: 500, inserted: 0, advanced: false };
        assert!(!was_useful(&ended, Duration::from_millis(4_999), config));
        assert!(was_useful(&ended, Duration::from_millis(5_000), config));
        assert!(was_useful(&session::Ended { advanced: true, ..ended }, Duration::ZERO, config));
    }
}
