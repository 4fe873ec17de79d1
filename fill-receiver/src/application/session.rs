//! The life of one connection.
//!
//! A reader cuts the body into frames and reads them; a writer stores what has gathered in one
//! transaction, as much as is there and no waiting for more. Between them is a queue that is bounded
//! in events and in bytes; when it is full the reader stops reading, and the broker's own limits
//! decide what happens then. What the broker drops it announces, and that is a hole.
//!
//! At a hole nothing more of the connection is stored, not even what waits in the queue: nobody
//! knows where exactly the hole lies.

use super::ports::{Cause, Chunks, EventStore, StoreError, Stored};
use super::status::StreamStatus;
use crate::domain::comment::Comment;
use crate::domain::cursor::{Cursor, CursorMove, ReaderPosition};
use crate::domain::frame::{Frame, FrameParser};
use crate::domain::intake::{Batch, BatchLimits, StopReason};
use crate::domain::reading::{BrokerProfile, Poison, PoisonReason, RawFrame, Reading, read_frame};
use crate::domain::seen::SeenFrames;
use futures_util::StreamExt;
use platform::bus::Publisher;
use platform::clock::Clock;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

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
    /// How far ahead of the clock a position may lie and still move the cursor.
    pub cursor_lead_max_ms: u64,
    /// How long the stream must be idle before heartbeats alone count as proof that it is whole, and
    /// the time between two notes of that.
    pub alive_interval_ms: u64,
    /// How often a transaction is tried again before the connection is given up.
    pub store_retries_max: u32,
    /// Wait between two such attempts.
    pub store_retry_delay_ms: u64,
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
    fn seen(&self) -> MutexGuard<'_, SeenFrames> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stored cursor before what this process wrote: the database was set back, and has forgotten
    /// what this process remembers.
    pub(super) fn forget_if_restored(&self, stored: Cursor) {
        if self.status.last_cursor().is_some_and(|written| stored < written) {
            tracing::error!(%stored, "stored cursor lies before what was written: the database was set back");
            self.seen().clear();
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
    let mut writer = Writer { context, position, idle_since: Instant::now(), events: 0, inserted: 0 };
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
    Ended { reason, events: writer.events, inserted: writer.inserted }
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
}

type Queued = (Item, Option<tokio::sync::OwnedSemaphorePermit>);

struct Reader<S> {
    context: Arc<SessionContext<S>>,
    sender: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
}

impl<S: EventStore> Reader<S> {
    /// Returns at the end of the body, or when it is stopped; at a hole it stops the writer itself.
    async fn read(self, mut chunks: Chunks, stop: Stop) -> StopReason {
        let limits = self.context.limits;
        let mut parser = FrameParser::new(limits.frame_bytes_max);
        let mut frames = Vec::new();
        let silence = Duration::from_millis(limits.silence_deadline_ms);
        loop {
            let next = tokio::select! {
                biased;
                () = stop.stopped() => return StopReason::Broken,
                next = tokio::time::timeout(silence, chunks.next()) => next,
            };
            let chunk = match next {
                Err(_elapsed) => return hole(&stop, StopReason::Silence),
                Ok(None) => return StopReason::Ended,
                Ok(Some(Err(error))) => {
                    tracing::info!(error = &*error as &dyn std::error::Error, "stream broke off");
                    return StopReason::Broken;
                }
                Ok(Some(Ok(chunk))) => chunk,
            };
            metrics::counter!("fill_receiver_bytes_total").increment(chunk.len() as u64);
            let parsed = parser.push(&chunk, &mut frames);
            for frame in frames.drain(..) {
                if !self.hand_over(frame, &stop).await {
                    return StopReason::Broken;
                }
            }
            if let Err(error) = parsed {
                tracing::error!(error = &error as &dyn std::error::Error, "stream cannot be framed");
                return hole(&stop, StopReason::BadFraming);
            }
        }
    }

    /// False when reading is over.
    async fn hand_over(&self, frame: Frame, stop: &Stop) -> bool {
        let queued: Queued = match frame {
            Frame::Data(bytes) => {
                let raw = RawFrame::new(bytes);
                let known = self.context.seen().position(&raw.sha256());
                match known {
                    Some(position) => (Item::Known(position), None),
                    None => {
                        let Some(permit) = self.reserve(raw.bytes().len(), stop).await else { return false };
                        (Item::Event(Box::new(read_frame(&self.context.profile, raw))), Some(permit))
                    }
                }
            }
            Frame::Comment(Comment::Dropped { messages }) => {
                tracing::warn!(?messages, "broker dropped messages of the stream");
                metrics::counter!("fill_receiver_dropped_messages_total").increment(messages.unwrap_or(1));
                hole(stop, StopReason::Dropped);
                return false;
            }
            Frame::Comment(Comment::ServerError) => {
                hole(stop, StopReason::ServerError);
                return false;
            }
            Frame::Comment(Comment::Heartbeat | Comment::Other) => (Item::Alive, None),
        };
        tokio::select! {
            biased;
            () = stop.stopped() => false,
            sent = self.sender.send(queued) => sent.is_ok(),
        }
    }

    async fn reserve(&self, len: usize, stop: &Stop) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let permits = u32::try_from(len).ok()?;
        tokio::select! {
            biased;
            () = stop.stopped() => None,
            permit = Arc::clone(&self.bytes).acquire_many_owned(permits) => permit.ok(),
        }
    }
}

fn hole(stop: &Stop, reason: StopReason) -> StopReason {
    stop.set(reason);
    reason
}

struct Writer<'a, S> {
    context: &'a SessionContext<S>,
    position: Option<ReaderPosition>,
    idle_since: Instant,
    events: u64,
    inserted: u64,
}

impl<S: EventStore> Writer<'_, S> {
    async fn write(&mut self, mut queue: mpsc::Receiver<Queued>, stop: &Stop) -> StopReason {
        loop {
            let batch = self.gather(&mut queue, stop).await;
            let (stopped, alive) = (batch.stopped(), batch.is_alive());
            if alive && self.position.is_some() {
                self.context.status.alive(self.context.clock.now());
                self.context.status.caught_up(queue.is_empty());
            }
            if batch.is_empty() {
                if alive {
                    self.note_alive().await;
                }
            } else if let Err(reason) = self.store(batch, stop).await {
                return reason;
            }
            if let Some(reason) = stopped {
                return reason;
            }
        }
    }

    /// What is there, and at least one item; no waiting for more.
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

    async fn store(&mut self, batch: Batch, stop: &Stop) -> Result<(), StopReason> {
        let count = batch.len();
        let positions: Vec<Cursor> = batch.positions().collect();
        let readings = batch.into_readings();
        metrics::histogram!("fill_receiver_batch_events").record(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        match self.commit(&readings, &positions, stop).await {
            Err(StoreFailure::Refused(error)) => {
                tracing::warn!(error = &*error as &dyn std::error::Error, events = count, "batch is stored one by one");
                for reading in readings {
                    self.store_alone(reading, stop).await?;
                }
                // The positions of events that were stored already count too.
                self.commit(&[], &positions, stop).await.map_err(StoreFailure::reason)?;
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
    async fn store_alone(&mut self, mut reading: Reading, stop: &Stop) -> Result<(), StopReason> {
        let positions: Vec<Cursor> = reading.position.into_iter().collect();
        for _ in 0..2 {
            match self.commit(std::slice::from_ref(&reading), &positions, stop).await {
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

    /// One transaction, tried again for as long as it is worth keeping the connection.
    async fn commit(&mut self, readings: &[Reading], positions: &[Cursor], stop: &Stop) -> Result<(), StoreFailure> {
        let mut attempt = 0;
        loop {
            let now = self.context.clock.now();
            let moved = self.plan(positions, now)?;
            if readings.is_empty() && moved.is_none_or(CursorMove::is_still) {
                return Ok(());
            }
            let started = Instant::now();
            match self.context.store.store(readings, moved, now).await {
                Ok(stored) => {
                    metrics::histogram!("fill_receiver_store_seconds").record(started.elapsed());
                    self.committed(readings, moved, stored);
                    return Ok(());
                }
                Err(StoreError::CursorLost) => {
                    self.position.iter_mut().for_each(ReaderPosition::stop);
                    return Err(StoreFailure::Stop(StopReason::CursorLost));
                }
                Err(StoreError::Refused(error)) => return Err(StoreFailure::Refused(error)),
                Err(error) => {
                    metrics::counter!("fill_receiver_store_errors_total").increment(1);
                    tracing::warn!(error = &error as &dyn std::error::Error, attempt, "events could not be stored");
                }
            }
            attempt += 1;
            if attempt > self.context.limits.store_retries_max {
                return Err(StoreFailure::Stop(StopReason::StoreFailed));
            }
            tokio::select! {
                () = stop.stopped() => return Err(StoreFailure::Stop(stop.reason().unwrap_or(StopReason::Shutdown))),
                () = tokio::time::sleep(Duration::from_millis(self.context.limits.store_retry_delay_ms)) => {}
            }
        }
    }

    fn plan(&self, positions: &[Cursor], now: OffsetDateTime) -> Result<Option<CursorMove>, StoreFailure> {
        let Some(position) = &self.position else { return Ok(None) };
        let planned = position.plan(positions.iter().copied(), now, self.context.limits.cursor_lead_max_ms);
        planned.map(Some).map_err(|_stopped| StoreFailure::Stop(StopReason::CursorLost))
    }

    fn committed(&mut self, readings: &[Reading], moved: Option<CursorMove>, stored: Stored) {
        if let (Some(position), Some(moved)) = (&mut self.position, moved) {
            position.committed(moved);
            self.context.status.cursor(moved.to);
        }
        {
            let mut seen = self.context.seen();
            for reading in readings {
                seen.insert(reading.raw.sha256(), reading.position);
            }
        }
        self.inserted += stored.inserted;
        super::receiver::count(&stored);
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
            tracing::warn!(error = &error as &dyn std::error::Error, "liveness of the stream could not be noted");
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
                tracing::error!(error = &*error as &dyn std::error::Error, "cursor cannot be moved");
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
