//! The fill receiver of a story: what it has stored, its connection, and the production rules between.

use super::broker::Broker;
use contracts::event::{BrokerEvent, Envelope, Payload, Producer};
use contracts::{EventId, Partition};
use fill_receiver::domain::binding::Binding;
use fill_receiver::domain::cumulative::ExecutionsShown;
use fill_receiver::domain::cursor::{Cursor, ReaderPosition, ResumeFacts};
use fill_receiver::domain::identity::ExecutionScope;
use fill_receiver::domain::intake::{Batch, BatchLimits, StopReason};
use fill_receiver::domain::reading::{BrokerProfile, RawFrame, read_frame};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use time::OffsetDateTime;
use uuid::Uuid;

const OVERLAP_MS: u64 = 120_000;
const LIMITS: BatchLimits = BatchLimits { events_max: 8, bytes_max: 64 * 1024 };

/// A connection to the broker's stream.
#[derive(Debug)]
struct Connection {
    /// Frames that the broker replays first.
    replay: VecDeque<usize>,
    /// The next live frame.
    next: usize,
    reader: ReaderPosition,
    batch: Batch,
}

/// The receiver.
#[derive(Debug)]
pub(super) struct Receiver {
    profile: BrokerProfile,
    cursor: Cursor,
    alive_at: OffsetDateTime,
    known: BTreeSet<EventId>,
    /// Its log, by partition.
    pub(super) log: BTreeMap<Partition, Vec<Envelope>>,
    connection: Option<Connection>,
    /// Identity by position, which is wrong.
    dedup_by_cursor: bool,
    /// Going on after the broker has said that it dropped messages, which is wrong.
    ignores_drops: bool,
}

impl Receiver {
    /// Nothing received yet.
    #[must_use]
    pub(super) fn new(now: OffsetDateTime, dedup_by_cursor: bool, ignores_drops: bool) -> Self {
        Self {
            profile: BrokerProfile {
                broker: crate::broker_id(),
                execution_scope: ExecutionScope::Broker,
                executions: ExecutionsShown::Single,
            },
            cursor: Cursor::at(now),
            alive_at: now,
            known: BTreeSet::new(),
            log: BTreeMap::new(),
            connection: None,
            dedup_by_cursor,
            ignores_drops,
        }
    }

    /// Whether it is connected.
    #[must_use]
    pub(super) const fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Connects where the production rule says.
    pub(super) fn connect(&mut self, broker: &Broker, now: OffsetDateTime) {
        let facts = ResumeFacts {
            cursor: self.cursor,
            alive_at: self.alive_at,
            now,
            overlap_ms: OVERLAP_MS,
            replay_window_ms: None,
        };
        let Some(since) = facts.candidates().first().copied() else { return };
        let mut replay: Vec<usize> = (0..broker.stream.len())
            .filter(|n| broker.stream.get(*n).is_some_and(|frame| frame.position >= since))
            .collect();
        replay.sort_by_key(|n| broker.stream.get(*n).map(|frame| frame.position));
        self.connection = Some(Connection {
            replay: replay.into(),
            next: broker.stream.len(),
            reader: ReaderPosition::start(self.cursor),
            batch: Batch::new(LIMITS),
        });
    }

    /// Whether the connection has something to bring.
    #[must_use]
    pub(super) fn has_frames(&self, broker: &Broker) -> bool {
        self.connection.as_ref().is_some_and(|c| !c.replay.is_empty() || c.next < broker.stream.len())
    }

    /// Whether something waits for its transaction.
    #[must_use]
    pub(super) fn has_batch(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.batch.is_empty())
    }

    fn next_frame(&mut self, broker: &Broker) -> Option<usize> {
        let connection = self.connection.as_mut()?;
        connection.replay.pop_front().or_else(|| {
            let next = connection.next;
            (next < broker.stream.len()).then(|| {
                connection.next += 1;
                next
            })
        })
    }

    /// A frame arrives.
    pub(super) fn deliver(&mut self, broker: &Broker) {
        if self.connection.as_ref().is_some_and(|connection| connection.batch.is_full()) {
            return;
        }
        let Some(frame) = self.next_frame(broker).and_then(|n| broker.stream.get(n)) else { return };
        let reading = read_frame(&self.profile, RawFrame::new(frame.bytes.clone()));
        if let Some(connection) = self.connection.as_mut() {
            connection.batch.push(reading);
        }
    }

    /// The broker throws some frames away and says so.
    pub(super) fn drop_frames(&mut self, broker: &Broker, count: usize, now: OffsetDateTime) {
        for _ in 0..count {
            self.next_frame(broker);
        }
        if let Some(connection) = self.connection.as_mut()
            && !self.ignores_drops
        {
            connection.batch.stop(StopReason::Dropped);
            // The writer ends, and with it the connection.
            self.commit(now);
        }
    }

    /// One transaction: bytes, events, log and cursor.
    pub(super) fn commit(&mut self, now: OffsetDateTime) {
        let Some(mut connection) = self.connection.take() else { return };
        let batch = std::mem::replace(&mut connection.batch, Batch::new(LIMITS));
        let stopped = batch.stopped();
        let positions: Vec<Cursor> = batch.positions().collect();
        if let Ok(moved) = connection.reader.plan(positions, now, 60_000)
            && moved.from == self.cursor
        {
            for reading in batch.into_readings() {
                let Ok(read) = reading.outcome else { continue };
                let id = match (self.dedup_by_cursor, reading.position) {
                    (true, Some(position)) => {
                        EventId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, position.to_string().as_bytes()))
                    }
                    _ => read.event_id,
                };
                if self.known.insert(id) {
                    self.append(id, &read.event, now);
                }
            }
            self.cursor = moved.to;
            self.alive_at = now;
            connection.reader.committed(moved);
        }
        if stopped.is_none() {
            self.connection = Some(connection);
        }
    }

    /// It dies, or its connection breaks, with all that was not committed.
    pub(super) fn die(&mut self) {
        self.connection = None;
    }

    fn append(&mut self, id: EventId, event: &BrokerEvent, now: OffsetDateTime) {
        let binding = Binding::of(&event.broker, &event.broker_order_id, event.broker_client_order_id.as_deref());
        let log = self.log.entry(binding.partition).or_default();
        let Ok(payload) = serde_json::value::to_raw_value(event) else { return };
        log.push(Envelope {
            id,
            producer: Producer::FillReceiver,
            partition: binding.partition,
            seq: i64::try_from(log.len()).unwrap_or(i64::MAX).saturating_add(1),
            prev_id: log.last().map(|last| last.id),
            kind: event.kind().to_owned(),
            version: BrokerEvent::VERSION,
            account_id: None,
            order_id: event.order_id,
            at: now,
            traceparent: None,
            payload,
        });
    }
}
