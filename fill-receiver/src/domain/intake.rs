//! Which frames go into one batch, and which must not be stored at all.

use super::cursor::Cursor;
use super::reading::Reading;

/// Why a reader stops using its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The broker threw messages away.
    Dropped,
    /// The broker failed.
    ServerError,
    /// The bytes cannot be framed.
    BadFraming,
    /// Nothing came for longer than a heartbeat takes.
    Silence,
    /// The broker closed the connection in good order.
    Ended,
    /// The connection broke off.
    Broken,
    /// It took longer than it may.
    Deadline,
    /// Another reader moved the cursor.
    CursorLost,
    /// Another reader holds the lease.
    LeaseLost,
    /// The database failed for longer than it is worth keeping the connection.
    StoreFailed,
    /// This process ends.
    Shutdown,
}

impl StopReason {
    /// The word in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::ServerError => "server_error",
            Self::BadFraming => "bad_framing",
            Self::Silence => "silence",
            Self::Ended => "ended",
            Self::Broken => "broken",
            Self::Deadline => "deadline",
            Self::CursorLost => "cursor_lost",
            Self::LeaseLost => "lease_lost",
            Self::StoreFailed => "store_failed",
            Self::Shutdown => "shutdown",
        }
    }

    /// Whether something may be missing among what was received. Then nothing that is not stored
    /// yet may be: where exactly the hole lies is unknown.
    #[must_use]
    pub const fn is_hole(self) -> bool {
        match self {
            Self::Dropped | Self::ServerError | Self::BadFraming | Self::Silence => true,
            Self::Ended
            | Self::Broken
            | Self::Deadline
            | Self::CursorLost
            | Self::LeaseLost
            | Self::StoreFailed
            | Self::Shutdown => false,
        }
    }
}

/// How much goes into one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Most events.
    pub events_max: usize,
    /// Most bytes of frames. One frame is always taken.
    pub bytes_max: usize,
}

/// Frames that arrived together.
#[derive(Debug)]
pub struct Batch {
    limits: BatchLimits,
    readings: Vec<Reading>,
    known: Vec<Option<Cursor>>,
    bytes: usize,
    alive: bool,
    stop: Option<StopReason>,
}

impl Batch {
    /// Nothing yet.
    #[must_use]
    pub fn new(limits: BatchLimits) -> Self {
        Self { limits, readings: Vec::new(), known: Vec::new(), bytes: 0, alive: false, stop: None }
    }

    /// Takes an event.
    pub fn push(&mut self, reading: Reading) {
        self.bytes += reading.raw.bytes().len();
        self.alive = true;
        self.readings.push(reading);
    }

    /// Takes an event that is stored already, at its position.
    pub fn push_known(&mut self, position: Option<Cursor>) {
        self.alive = true;
        self.known.push(position);
    }

    /// Takes a sign of life.
    pub fn alive(&mut self) {
        self.alive = true;
    }

    /// The connection is over. A hole empties the batch.
    pub fn stop(&mut self, reason: StopReason) {
        if reason.is_hole() {
            self.readings.clear();
            self.known.clear();
            self.alive = false;
        }
        self.stop = Some(reason);
    }

    /// Whether nothing more may be taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.stop.is_some() || self.len() >= self.limits.events_max || self.bytes >= self.limits.bytes_max
    }

    /// How many events it holds, known ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.readings.len() + self.known.len()
    }

    /// Whether it holds no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the stream was seen alive, with nothing missing.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.alive
    }

    /// Why the connection is over, if it is.
    #[must_use]
    pub fn stopped(&self) -> Option<StopReason> {
        self.stop
    }

    /// The positions of its events.
    pub fn positions(&self) -> impl Iterator<Item = Cursor> + '_ {
        self.readings.iter().map(|reading| reading.position).chain(self.known.iter().copied()).flatten()
    }

    /// The events, in order of arrival.
    #[must_use]
    pub fn into_readings(self) -> Vec<Reading> {
        self.readings
    }
}

#[cfg(test)]
mod tests;
