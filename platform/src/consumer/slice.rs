//! A run of events that follow each other, ready to take effect together.

use crate::eventlog::Position;
use contracts::event::{Envelope, Producer};
use contracts::{EventId, Partition};
use thiserror::Error;

/// Why events do not make a slice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SliceError {
    /// There are none.
    #[error("a slice needs at least one event")]
    Empty,
    /// One is of another log.
    #[error("an event of {producer}/{partition} is not of this log")]
    OtherLog {
        /// Whose log it is of.
        producer: Producer,
        /// Which partition.
        partition: Partition,
    },
    /// One is missing before it.
    #[error("event {found} does not follow {after}")]
    Gap {
        /// The place before.
        after: i64,
        /// The sequence number that came.
        found: i64,
    },
    /// It names another predecessor: these events are of another history than what was applied.
    #[error("event {seq} names predecessor {named:?}, but {expected:?} was applied before it")]
    HistoryMismatch {
        /// The event's place.
        seq: i64,
        /// The predecessor that it names.
        named: Option<EventId>,
        /// The event that stands there for us.
        expected: Option<EventId>,
    },
}

/// Events of one partition, at least one, without a gap after `after`, each naming the one before.
///
/// Only [`Slice::new`] makes one, so whoever holds one need not check again.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Slice {
    /// Whose log.
    pub producer: Producer,
    /// Which partition.
    pub partition: Partition,
    /// Where the applied position must be for the slice to take effect.
    pub after: Position,
    /// The events, oldest first.
    pub events: Vec<Envelope>,
}

impl Slice {
    /// Checks that the events follow `after` and each other.
    ///
    /// # Errors
    /// [`SliceError`] naming the first event that does not fit.
    pub fn new(
        producer: Producer,
        partition: Partition,
        after: Position,
        events: Vec<Envelope>,
    ) -> Result<Self, SliceError> {
        if events.is_empty() {
            return Err(SliceError::Empty);
        }
        let mut place = after;
        for event in &events {
            place = follow(producer, partition, place, event)?;
        }
        Ok(Self { producer, partition, after, events })
    }

    /// Where the applied position stands when all of it has taken effect.
    #[must_use]
    pub fn end(&self) -> Position {
        self.events.last().map_or(self.after, |event| Position { seq: event.seq, event_id: Some(event.id) })
    }
}

/// The place after `event`, if it directly follows `place`.
pub(crate) fn follow(
    producer: Producer,
    partition: Partition,
    place: Position,
    event: &Envelope,
) -> Result<Position, SliceError> {
    if event.producer != producer || event.partition != partition {
        return Err(SliceError::OtherLog { producer: event.producer, partition: event.partition });
    }
    if event.seq != place.seq.saturating_add(1) {
        return Err(SliceError::Gap { after: place.seq, found: event.seq });
    }
    if event.prev_id != place.event_id {
        return Err(SliceError::HistoryMismatch { seq: event.seq, named: event.prev_id, expected: place.event_id });
    }
    Ok(Position { seq: event.seq, event_id: Some(event.id) })
}
