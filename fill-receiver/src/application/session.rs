//! The life of one connection.
//!
//! A reader cuts the body into frames and reads them; a writer stores what has gathered in one
//! transaction, as much as is there and no waiting for more. Between them is a queue that is bounded
//! in events and in bytes; when it is full the reader stops reading, and the broker's own limits
//! decide what happens then. What the broker drops it announces, and that is a hole.
//!
//! At a hole nothing more of the connection is stored, not even what waits in the queue: nobody
//! knows where exactly the hole lies.

mod reader;
mod writer;

use super::ports::{Chunks, EventStore};
use super::status::StreamStatus;
use crate::domain::cursor::{Cursor, ReaderPosition};
use crate::domain::intake::{BatchLimits, StopReason};
use crate::domain::reading::{BrokerProfile, Reading};
use crate::domain::seen::SeenFrames;
use platform::bus::Publisher;
use platform::clock::Clock;
use reader::Reader;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use writer::Writer;

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// Longest silence, heartbeats included, before the connection counts as dead.
    pub silence_deadline_ms: u64,
    /// Most bytes of one frame.
    pub frame_bytes_max: usize,
    /// Most events between reader and writer.
    pub queue_events_max: usize,
    /// Most bytes of events between reader and writer.
    pub queue_bytes_max: usize,
    /// How much goes into one transaction.
    pub batch: BatchLimits,
    /// How far apart transactions of many events begin.
    pub batch_interval_ms: u64,
    /// How far ahead of the clock a position may lie and still move the cursor.
    pub cursor_lead_max_ms: u64,
    /// How long the stream must be idle before heartbeats alone count as proof that it is whole, and
    /// the time between two notes of that.
    pub alive_interval_ms: u64,
}

/// Ends a connection from outside, once and for the first reason given.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl Stop {
    /// Ends it.
    pub fn set(&self, reason: StopReason) {
        if self.reason.set(reason).is_ok() {
            self.token.cancel();
        }
    }

    /// Why it was ended, if it was.
    #[must_use]
    pub fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    /// Waits for the end.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }
}

/// What every connection needs.
pub struct SessionContext<S> {
    /// Where events go.
    pub store: Arc<S>,
    /// What the broker promises.
    pub profile: BrokerProfile,
    /// Limits.
    pub limits: SessionLimits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The bus.
    pub publisher: Publisher,
    /// For health.
    pub status: Arc<StreamStatus>,
    /// What was committed a moment ago.
    pub seen: Mutex<SeenFrames>,
}

impl<S> SessionContext<S> {
    pub(super) fn seen(&self) -> MutexGuard<'_, SeenFrames> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Frames that a transaction committed which began in `epoch`.
    pub(super) fn remember(&self, epoch: u64, readings: &[Reading]) {
        let mut seen = self.seen();
        for reading in readings {
            seen.insert(epoch, reading.raw.sha256(), reading.position);
        }
    }

    /// The database may have lost what this process remembers.
    pub(super) fn forget(&self) {
        self.seen().clear();
    }

    /// A stored cursor before what this process wrote: the database was set back.
    pub(super) fn tell_if_restored(&self, stored: Cursor) {
        if self.status.last_cursor().is_some_and(|written| stored < written) {
            tracing::error!(%stored, "stored cursor lies before what was written: the database was set back");
        }
    }
}

/// What passes from reader to writer.
enum Item {
    Event(Box<Reading>),
    /// An event that is stored already.
    Known(Option<Cursor>),
    Alive,
}

/// Reads a connection to its end, and says why it ended and what it brought. Only the reader of the
/// stream has a position, and moves the cursor.
pub async fn run<S: EventStore>(
    context: &Arc<SessionContext<S>>,
    chunks: Chunks,
    position: Option<ReaderPosition>,
    stop: &Stop,
) -> Ended {
    let (sender, receiver) = mpsc::channel(context.limits.queue_events_max.max(1));
    let reader = Reader {
        context: Arc::clone(context),
        sender,
        bytes: Arc::new(Semaphore::new(context.limits.queue_bytes_max)),
    };
    let reading = tokio::spawn(reader.read(chunks, stop.clone()));
    let mut writer = Writer::new(context, position);
    let reason = writer.write(receiver, stop).await;
    stop.set(reason);
    let reason = match reading.await {
        Ok(end) if reason == StopReason::Ended => end,
        Ok(_) => reason,
        Err(error) => {
            tracing::error!(%error, "stream reader failed");
            StopReason::Broken
        }
    };
    writer.ended(reason)
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub reason: StopReason,
    /// How many events it brought, new or not.
    pub events: u64,
    /// How many of them were new.
    pub inserted: u64,
    /// Whether the cursor moved.
    pub advanced: bool,
}

/// An item and its share of the queue's bytes, given back when it is taken.
type Queued = (Item, Option<OwnedSemaphorePermit>);
