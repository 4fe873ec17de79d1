//! What is known about the stream right now, for health and readiness.

use crate::domain::cursor::Cursor;
use crate::domain::intake::StopReason;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where the receiver stands in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamState {
    /// Not yet begun.
    #[default]
    Starting,
    /// Another copy reads the stream.
    Standby,
    /// On the way to the broker.
    Connecting,
    /// Reading.
    Connected,
    /// Waiting before the next attempt.
    Waiting,
    /// Ended.
    Stopped,
}

impl StreamState {
    /// The word in health and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby => "standby",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Facts {
    state: StreamState,
    cursor: Option<Cursor>,
    last_event_at: Option<OffsetDateTime>,
    last_alive_at: Option<OffsetDateTime>,
    last_stop: Option<StopReason>,
    last_error: Option<String>,
    connections: u64,
    events: u64,
    caught_up: bool,
    /// Since when nobody reads, as far as this copy knows.
    away_since: Option<Instant>,
}

/// Shared by the receiver, which writes, and the operator port, which reads.
#[derive(Debug, Default)]
pub struct StreamStatus {
    facts: Mutex<Facts>,
}

impl StreamStatus {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the receiver stands now.
    pub fn set_state(&self, state: StreamState) {
        let mut facts = self.facts();
        facts.state = state;
        match state {
            StreamState::Connected | StreamState::Standby => facts.away_since = None,
            _ => {
                facts.away_since.get_or_insert_with(Instant::now);
            }
        }
        if state == StreamState::Connected {
            facts.connections += 1;
            facts.last_error = None;
        }
        metrics::gauge!("fill_receiver_stream_connected").set(if state == StreamState::Connected { 1.0 } else { 0.0 });
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> StreamState {
        self.facts().state
    }

    /// How many connections there have been.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.facts().connections
    }

    /// Why the last connection ended.
    #[must_use]
    pub fn last_stop(&self) -> Option<StopReason> {
        self.facts().last_stop
    }

    /// Whether nothing was left waiting after the last batch.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.facts().caught_up
    }

    pub(super) fn caught_up(&self, caught_up: bool) {
        self.facts().caught_up = caught_up;
    }

    pub(super) fn stopped(&self, reason: StopReason) {
        self.facts().last_stop = Some(reason);
    }

    pub(super) fn failed(&self, error: String) {
        self.facts().last_error = Some(error);
    }

    /// The cursor that this process last read or wrote.
    pub(super) fn last_cursor(&self) -> Option<Cursor> {
        self.facts().cursor
    }

    pub(super) fn cursor(&self, cursor: Cursor) {
        self.facts().cursor = Some(cursor);
    }

    pub(super) fn stored(&self, events: u64, now: OffsetDateTime) {
        let mut facts = self.facts();
        facts.events += events;
        facts.last_event_at = Some(now);
    }

    pub(super) fn alive(&self, now: OffsetDateTime) {
        self.facts().last_alive_at = Some(now);
    }

    /// The details as JSON. The stream is late when it has been away for longer than `late_after`.
    #[must_use]
    pub fn report(&self, now: OffsetDateTime, late_after: Duration) -> Value {
        let facts = self.facts().clone();
        let age_ms = |at: Option<OffsetDateTime>| {
            at.map(|at| i64::try_from((now - at).whole_milliseconds()).unwrap_or(i64::MAX))
        };
        let away = facts.away_since.map(|since| since.elapsed());
        json!({
            "late": away.is_some_and(|away| away > late_after),
            "away_ms": away.map(|away| u64::try_from(away.as_millis()).unwrap_or(u64::MAX)),
            "state": facts.state.as_str(),
            "cursor": facts.cursor.map(|cursor| cursor.to_string()),
            "cursor_at": facts.cursor.and_then(|cursor| cursor.moment().format(&Rfc3339).ok()),
            "last_event_age_ms": age_ms(facts.last_event_at),
            "last_alive_age_ms": age_ms(facts.last_alive_at),
            "last_stop": facts.last_stop.map(StopReason::as_str),
            "last_error": facts.last_error,
            "connections": facts.connections,
            "events_received": facts.events,
        })
    }
}
