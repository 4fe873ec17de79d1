//! The writing half: what has gathered goes into one transaction.

use super::{Ended, Item, Queued, SessionContext, Stop};
use crate::application::ports::{Cause, EventStore, StoreError, Stored};
use crate::domain::cursor::{Cursor, CursorMove, ReaderPosition};
use crate::domain::intake::{Batch, StopReason};
use crate::domain::reading::{Poison, PoisonReason, Reading};
use platform::pace::Pace;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::mpsc;

/// Empties the queue.
pub(super) struct Writer<'a, S> {
    context: &'a SessionContext<S>,
    position: Option<ReaderPosition>,
    idle_since: Instant,
    pace: Pace,
    events: u64,
    inserted: u64,
    advanced: bool,
}

impl<'a, S: EventStore> Writer<'a, S> {
    pub(super) fn new(context: &'a SessionContext<S>, position: Option<ReaderPosition>) -> Self {
        let limits = &context.limits;
        let pace = Pace::new(Duration::from_millis(limits.batch_interval_ms), limits.batch.events_max);
        Self { context, position, idle_since: Instant::now(), pace, events: 0, inserted: 0, advanced: false }
    }

    /// What it did.
    pub(super) const fn ended(&self, reason: StopReason) -> Ended {
        Ended { reason, events: self.events, inserted: self.inserted, advanced: self.advanced }
    }

    /// Stores what comes until there is a reason not to.
    pub(super) async fn write(&mut self, mut queue: mpsc::Receiver<Queued>, stop: &Stop) -> StopReason {
        loop {
            let batch = self.gather(&mut queue, stop).await;
            let (stopped, alive) = (batch.stopped(), batch.is_alive());
            if alive && self.position.is_some() {
                self.context.status.alive(self.context.clock.now());
                self.context.status.caught_up(queue.is_empty());
            }
            let (began, len) = (tokio::time::Instant::now(), batch.len());
            self.pace.worked(began, len);
            if batch.is_empty() {
                if alive {
                    self.note_alive().await;
                }
            } else if let Err(reason) = self.store(batch).await {
                return reason;
            }
            if let Some(reason) = stopped {
                return reason;
            }
        }
    }

    /// What is there, and at least one item. Waits for more only under load.
    async fn gather(&self, queue: &mut mpsc::Receiver<Queued>, stop: &Stop) -> Batch {
        let mut batch = Batch::new(self.context.limits.batch);
        let first = tokio::select! {
            biased;
            () = stop.stopped() => None,
            first = queue.recv() => first,
        };
        match first {
            Some((item, _permit)) => take(&mut batch, item),
            None => batch.stop(stop.reason().unwrap_or(StopReason::Ended)),
        }
        tokio::select! {
            biased;
            () = stop.stopped() => {}
            () = self.pace.wait() => {}
        }
        while !batch.is_full() {
            match queue.try_recv() {
                Ok((item, _permit)) => take(&mut batch, item),
                Err(_) => break,
            }
        }
        // A hole that was noticed meanwhile lies somewhere in or before what was gathered.
        if let Some(reason) = stop.reason() {
            batch.stop(reason);
        }
        batch
    }

    async fn store(&mut self, batch: Batch) -> Result<(), StopReason> {
        let count = batch.len();
        let positions: Vec<Cursor> = batch.positions().collect();
        let readings = batch.into_readings();
        metrics::histogram!("fill_receiver_batch_events").record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        match self.commit(&readings, &positions).await {
            Err(StoreFailure::Refused(error)) => {
                tracing::warn!(error = %platform::telemetry::Chain(&*error), events = count, "batch is stored one by one");
                for reading in readings {
                    self.store_alone(reading).await?;
                }
                // The positions of events that were stored already count too.
                self.commit(&[], &positions).await.map_err(StoreFailure::reason)?;
            }
            Err(StoreFailure::Stop(reason)) => return Err(reason),
            Ok(()) => {}
        }
        let count = count as u64;
        self.events += count;
        self.idle_since = Instant::now();
        metrics::counter!("fill_receiver_frames_total").increment(count);
        if self.position.is_some() {
            self.context.status.stored(count, self.context.clock.now());
        }
        Ok(())
    }

    /// One bad event must not hold up its neighbours: what the database refuses alone is parked.
    async fn store_alone(&mut self, mut reading: Reading) -> Result<(), StopReason> {
        let positions: Vec<Cursor> = reading.position.into_iter().collect();
        for _ in 0..2 {
            match self.commit(std::slice::from_ref(&reading), &positions).await {
                Ok(()) => return Ok(()),
                Err(StoreFailure::Stop(reason)) => return Err(reason),
                Err(StoreFailure::Refused(error)) => {
                    reading.outcome = Err(Poison::new(PoisonReason::Unstorable, &error.to_string()));
                }
            }
        }
        tracing::error!(sha256 = hex::encode(reading.raw.sha256()), "not even the bytes of a frame can be stored");
        Err(StopReason::StoreFailed)
    }

    /// One transaction. An error that says nothing about the values ends the connection: the database
    /// may have been set back, and what this connection passed over from memory may be gone. The next
    /// connection begins before the cursor, with nothing remembered.
    async fn commit(&mut self, readings: &[Reading], positions: &[Cursor]) -> Result<(), StoreFailure> {
        let now = self.context.clock.now();
        let moved = self.plan(positions, now)?;
        if readings.is_empty() && moved.is_none_or(CursorMove::is_still) {
            return Ok(());
        }
        let epoch = self.context.seen().epoch();
        let started = Instant::now();
        match self.context.store.store(readings, moved, now).await {
            Ok(stored) => {
                metrics::histogram!("fill_receiver_store_duration_seconds").record(started.elapsed());
                self.committed(epoch, readings, moved, stored);
                Ok(())
            }
            Err(StoreError::CursorLost) => {
                self.position.iter_mut().for_each(ReaderPosition::stop);
                Err(StoreFailure::Stop(StopReason::CursorLost))
            }
            Err(StoreError::Refused(error)) => Err(StoreFailure::Refused(error)),
            Err(error) => {
                self.context.forget();
                metrics::counter!("fill_receiver_store_errors_total").increment(1);
                tracing::warn!(error = %platform::telemetry::Chain(&error), "events could not be stored");
                Err(StoreFailure::Stop(StopReason::StoreFailed))
            }
        }
    }

    fn plan(&self, positions: &[Cursor], now: OffsetDateTime) -> Result<Option<CursorMove>, StoreFailure> {
        let Some(position) = &self.position else { return Ok(None) };
        let planned = position.plan(positions.iter().copied(), now, self.context.limits.cursor_lead_max_ms);
        planned.map(Some).map_err(|_stopped| StoreFailure::Stop(StopReason::CursorLost))
    }

    fn committed(&mut self, epoch: u64, readings: &[Reading], moved: Option<CursorMove>, stored: Stored) {
        if let (Some(position), Some(moved)) = (&mut self.position, moved) {
            position.committed(moved);
            self.advanced |= !moved.is_still();
            self.context.status.cursor(moved.to);
        }
        self.context.remember(epoch, readings);
        self.inserted += stored.inserted;
        crate::application::receiver::count(&stored);
        platform::kill_point!("fill-receiver.before-publish", if !stored.envelopes.is_empty());
        // Only now: what is passed on is what a crash cannot take back.
        self.context.publisher.committed(stored.envelopes);
    }

    /// A heartbeat proves that nothing is missing only where no replay can be under way any more,
    /// and a replay makes no long pauses.
    async fn note_alive(&mut self) {
        let Some(position) = &self.position else { return };
        if self.idle_since.elapsed() < Duration::from_millis(self.context.limits.alive_interval_ms) {
            return;
        }
        self.idle_since = Instant::now();
        if let Err(error) = self.context.store.mark_alive(position.written(), self.context.clock.now()).await {
            tracing::warn!(error = %platform::telemetry::Chain(&error), "liveness of the stream could not be noted");
        }
    }
}

enum StoreFailure {
    Refused(Cause),
    Stop(StopReason),
}

impl StoreFailure {
    fn reason(self) -> StopReason {
        match self {
            Self::Stop(reason) => reason,
            Self::Refused(error) => {
                tracing::error!(error = %platform::telemetry::Chain(&*error), "cursor cannot be moved");
                StopReason::StoreFailed
            }
        }
    }
}

fn take(batch: &mut Batch, item: Item) {
    match item {
        Item::Event(reading) => batch.push(*reading),
        Item::Known(position) => batch.push_known(position),
        Item::Alive => batch.alive(),
    }
}
