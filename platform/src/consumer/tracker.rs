//! What a consumer knows about one partition, and what it decides from that. Pure: the time is
//! given, nothing is read or written.

use super::slice::{Slice, SliceError, follow};
use crate::eventlog::Position;
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use std::time::{Duration, Instant};

/// An entry of a stream.
#[derive(Debug, Clone)]
pub enum BusEntry {
    /// An event.
    Event(Envelope),
    /// Something else, which stands where an event should.
    Unreadable,
}

/// Why the feed is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedReason {
    /// Nothing was applied yet, so no predecessor tells this history from another that an old bus
    /// may still carry.
    Start,
    /// The bus lacks the next event.
    Gap,
    /// The bus has something unreadable in its place.
    Unreadable,
    /// The bus has an event of another history in its place, maybe an old copy.
    Mismatch,
    /// A head is announced, and nothing comes.
    Silence,
    /// The bus is not in use.
    Polling,
}

impl FeedReason {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Gap => "gap",
            Self::Unreadable => "unreadable",
            Self::Mismatch => "mismatch",
            Self::Silence => "silence",
            Self::Polling => "polling",
        }
    }
}

/// What to do for a partition.
#[derive(Debug)]
pub enum Step {
    /// Nothing is there to do.
    Rest,
    /// These events are next.
    Apply(Slice),
    /// The next events must come from the feed.
    Feed(FeedReason),
}

/// One partition of a consumed log.
#[derive(Debug, Clone)]
pub struct Tracker {
    producer: Producer,
    partition: Partition,
    applied: Position,
    /// The newest event that is known to exist; never below `applied`.
    head: i64,
    /// Since when events are known to exist and none has come over the bus.
    behind_since: Option<Instant>,
    stopped: Option<String>,
}

impl Tracker {
    /// A partition that stands at `applied`.
    #[must_use]
    pub const fn new(producer: Producer, partition: Partition, applied: Position) -> Self {
        Self { producer, partition, applied, head: applied.seq, behind_since: None, stopped: None }
    }

    /// How far it is applied.
    #[must_use]
    pub const fn applied(&self) -> Position {
        self.applied
    }

    /// The newest event that is known to exist.
    #[must_use]
    pub const fn head(&self) -> i64 {
        self.head
    }

    /// Whether more is known to exist than is applied.
    #[must_use]
    pub const fn is_behind(&self) -> bool {
        self.applied.seq < self.head
    }

    /// Why it stands still, if it does.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Stands still from now on; the first reason stays.
    pub fn stop(&mut self, reason: String) {
        self.stopped.get_or_insert(reason);
    }

    /// Takes in an announced head, of the bus or the feed.
    pub fn saw_head(&mut self, head: i64, now: Instant) {
        self.head = head.max(self.applied.seq);
        if !self.is_behind() {
            self.behind_since = None;
        } else if self.behind_since.is_none() {
            self.behind_since = Some(now);
        }
    }

    /// Takes in where the applied position stands by now. What comes over the bus shows that the
    /// bus works, so the silence starts again; what comes from the feed does not, so that a long
    /// silence is filled in one go.
    pub fn moved_to(&mut self, applied: Position, by_bus: bool, now: Instant) {
        self.applied = applied;
        self.head = self.head.max(applied.seq);
        if !self.is_behind() {
            self.behind_since = None;
        } else if by_bus {
            self.behind_since = Some(now);
        }
    }

    /// When the silence will have lasted too long, if there is one.
    #[must_use]
    pub fn silent_at(&self, silence: Duration) -> Option<Instant> {
        self.behind_since.map(|since| since + silence)
    }

    /// What to do with what the bus shows after the applied position.
    #[must_use]
    pub fn offer_bus(&self, entries: Vec<BusEntry>, now: Instant, silence: Duration) -> Step {
        if self.stopped.is_some() {
            return Step::Rest;
        }
        let mut place = self.applied;
        let mut events = Vec::new();
        let mut obstacle = None;
        for entry in entries {
            let BusEntry::Event(event) = entry else {
                obstacle = Some(FeedReason::Unreadable);
                break;
            };
            if event.seq <= place.seq {
                continue;
            }
            if place.event_id.is_none() {
                obstacle = Some(FeedReason::Start);
                break;
            }
            match follow(self.producer, self.partition, place, &event) {
                Ok(next) => {
                    place = next;
                    events.push(event);
                }
                Err(error) => {
                    obstacle = Some(match error {
                        SliceError::Gap { .. } => FeedReason::Gap,
                        SliceError::HistoryMismatch { .. } => FeedReason::Mismatch,
                        SliceError::OtherLog { .. } | SliceError::Empty => FeedReason::Unreadable,
                    });
                    break;
                }
            }
        }
        if !events.is_empty() {
            // Whatever stands in the way behind them is met again on the next look.
            return Slice::new(self.producer, self.partition, self.applied, events)
                .map_or(Step::Feed(FeedReason::Unreadable), Step::Apply);
        }
        match obstacle {
            Some(reason) => Step::Feed(reason),
            None if self.silent_at(silence).is_some_and(|at| at <= now) => Step::Feed(FeedReason::Silence),
            None => Step::Rest,
        }
    }

    /// What to do while the bus is not in use.
    #[must_use]
    pub fn poll(&self) -> Step {
        if self.stopped.is_none() && self.is_behind() { Step::Feed(FeedReason::Polling) } else { Step::Rest }
    }

    /// Whether everything that is still needed stands on the bus: `entries` were read after
    /// `asked`, and `announced` is the head there.
    #[must_use]
    pub fn is_whole(&self, asked: Position, entries: &[BusEntry], announced: i64) -> bool {
        match entries.first() {
            None => announced <= asked.seq,
            Some(BusEntry::Event(event)) => follow(self.producer, self.partition, asked, event).is_ok(),
            Some(BusEntry::Unreadable) => false,
        }
    }
}

/// Compares the feed's head with the position that was applied before it was asked for. A sentence
/// when the log behind the feed cannot be the one that was applied.
#[must_use]
pub fn history_fault(applied: Position, head: Position) -> Option<String> {
    if head.seq < applied.seq {
        return Some(format!("the producer's log ends at {}, but {} was applied", head.seq, applied.seq));
    }
    if head.seq == applied.seq && head.event_id != applied.event_id {
        return Some(format!("the producer's log has another event at {} than was applied", head.seq));
    }
    None
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
