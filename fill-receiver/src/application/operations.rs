//! What operators ask and order.

use super::ports::{Closed, Closing, RecordStore, Settled, StoreError, Stored};
use super::receiver::count;
use super::records::{ParkedRecord, Story, SuspectRecord, UnprovenRecord};
use crate::domain::reading::{BrokerProfile, RawFrame, read_frame};
use platform::bus::Publisher;
use platform::clock::Clock;
use std::sync::Arc;

/// The operator's side of the receiver.
pub struct Operations<S> {
    store: Arc<S>,
    profile: BrokerProfile,
    clock: Arc<dyn Clock>,
    publisher: Publisher,
}

/// What became of a second try.
#[derive(Debug, PartialEq, Eq)]
pub enum Redriven {
    /// It is an event now.
    Settled {
        /// Events that were new. 0 where the fact had come in another way meanwhile.
        logged: usize,
    },
    /// It was settled before.
    Already,
    /// There is no such frame.
    Missing,
    /// It still cannot become an event.
    StillPoison {
        /// Why.
        detail: String,
    },
}

impl<S: RecordStore> Operations<S> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(store: Arc<S>, profile: BrokerProfile, clock: Arc<dyn Clock>, publisher: Publisher) -> Self {
        Self { store, profile, clock, publisher }
    }

    /// Everything about the broker orders that a key leads to.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn story(&self, key: &str) -> Result<Option<Story>, StoreError> {
        self.store.story(key).await
    }

    /// Parked frames after an id.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn parked(&self, after: i64, limit: i64, settled: bool) -> Result<Vec<ParkedRecord>, StoreError> {
        self.store.parked(after, limit, settled).await
    }

    /// Contradictions after an id.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn suspects(&self, after: i64, limit: i64, closed: bool) -> Result<Vec<SuspectRecord>, StoreError> {
        self.store.suspects(after, limit, closed).await
    }

    /// Stretches that nobody has proven.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn unproven(&self, after: i64, limit: i64, closed: bool) -> Result<Vec<UnprovenRecord>, StoreError> {
        self.store.unproven(after, limit, closed).await
    }

    /// Closes a contradiction that a person has looked into.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn close_suspect(&self, id: i64, closing: &Closing) -> Result<Closed, StoreError> {
        let closed = self.store.close_suspect(id, closing, self.clock.now()).await?;
        told("suspect", id, closing, closed);
        Ok(closed)
    }

    /// Closes a stretch that was proven in another way, if it is still what the person saw.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn close_unproven(&self, id: i64, seen: (&str, &str), closing: &Closing) -> Result<Closed, StoreError> {
        let closed = self.store.close_unproven(id, seen, closing, self.clock.now()).await?;
        told("unproven range", id, closing, closed);
        Ok(closed)
    }

    /// Reads a parked frame again, with what this program understands now.
    ///
    /// # Errors
    /// [`StoreError`] from the database.
    pub async fn redrive(&self, id: i64) -> Result<Redriven, StoreError> {
        let Some(frame) = self.store.parked_frame(id).await? else { return Ok(Redriven::Missing) };
        if frame.settled {
            return Ok(Redriven::Already);
        }
        let reading = read_frame(&self.profile, RawFrame::new(frame.body));
        let detail = match reading.outcome {
            Ok(event) => match self.store.settle_parked(id, &reading.raw, &event, self.clock.now()).await? {
                Settled::Stored(stored) => return Ok(self.settled(stored)),
                Settled::Already => return Ok(Redriven::Already),
                Settled::Missing => return Ok(Redriven::Missing),
                Settled::Poison(detail) => detail,
            },
            Err(poison) => poison.detail,
        };
        self.store.parked_again(id, &detail).await?;
        Ok(Redriven::StillPoison { detail })
    }

    fn settled(&self, stored: Stored) -> Redriven {
        count(&stored);
        let logged = stored.envelopes.len();
        self.publisher.committed(stored.envelopes);
        Redriven::Settled { logged }
    }
}

fn told(what: &str, id: i64, closing: &Closing, closed: Closed) {
    tracing::info!(what, id, by = closing.by, why = closing.why, ?closed, "operator closes a record");
}
