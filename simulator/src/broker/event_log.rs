//! All events in the order of their cursor, kept up to a stated number.

use std::collections::VecDeque;
use std::sync::Arc;

use time::OffsetDateTime;
use ulid::Ulid;

use super::dice::Dice;
use super::fact::StoredEvent;

/// The events that a stream can show. A position counts events from the first one ever.
#[derive(Debug)]
pub(super) struct EventLog {
    events: VecDeque<Arc<StoredEvent>>,
    /// Position of the oldest event that is kept.
    first: u64,
    retained_max: usize,
    last_id: Ulid,
    /// The youngest event that is no longer kept.
    evicted: Option<(Ulid, OffsetDateTime)>,
    dice: Dice,
}

/// A replay was asked from where events are no longer kept.
#[derive(Debug, thiserror::Error)]
#[error("events up to {evicted} are no longer kept")]
pub(super) struct Gone {
    evicted: Ulid,
}

impl EventLog {
    pub(super) fn new(seed: u64, retained_max: usize) -> Self {
        Self {
            events: VecDeque::new(),
            first: 0,
            retained_max: retained_max.max(1),
            last_id: Ulid::nil(),
            evicted: None,
            dice: Dice::new(seed, "cursor", "", 0),
        }
    }

    /// Position after the newest event.
    pub(super) fn head(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Position of the oldest event that is kept.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// An id greater than all before, at that time.
    pub(super) fn mint(&mut self, at: OffsetDateTime) -> Ulid {
        let at_ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
        let candidate = Ulid::from_parts(at_ms, self.dice.ulid_tail());
        if candidate > self.last_id { candidate } else { self.last_id.increment().unwrap_or(candidate) }
    }

    /// Appends an event that has an id of [`Self::mint`].
    pub(super) fn push(&mut self, event: StoredEvent) {
        self.last_id = self.last_id.max(event.event_id);
        self.events.push_back(Arc::new(event));
        while self.events.len() > self.retained_max {
            if let Some(event) = self.events.pop_front() {
                self.evicted = Some((event.event_id, event.at));
                self.first += 1;
            }
        }
    }

    /// Position of the first event with a greater id.
    pub(super) fn after_id(&self, id: Ulid) -> Result<u64, Gone> {
        match self.evicted {
            Some((evicted, _)) if id < evicted => Err(Gone { evicted }),
            _ => Ok(self.first + self.events.partition_point(|event| event.event_id <= id) as u64),
        }
    }

    /// Position of the first event that is not older.
    pub(super) fn since(&self, at: OffsetDateTime) -> Result<u64, Gone> {
        match self.evicted {
            Some((evicted, evicted_at)) if at <= evicted_at => Err(Gone { evicted }),
            _ => Ok(self.first + self.events.partition_point(|event| event.at < at) as u64),
        }
    }

    /// At most `limit` events from a position on.
    pub(super) fn read(&self, position: u64, limit: usize) -> Vec<Arc<StoredEvent>> {
        let skip = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let start = skip.min(self.events.len());
        let end = start.saturating_add(limit).min(self.events.len());
        self.events.range(start..end).cloned().collect()
    }
}
