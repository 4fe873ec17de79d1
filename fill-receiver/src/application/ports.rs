//! What the application needs from the outside.

use super::push::PushName;
use super::records::{ParkedFrame, ParkedRecord, Story, SuspectRecord, UnprovenRecord};
use crate::domain::cumulative::{Cumulative, KnownOrder};
use crate::domain::cursor::{Cursor, CursorMove};
use crate::domain::reading::{RawFrame, ReadEvent, Reading};
use bytes::Bytes;
use contracts::event::Envelope;
use futures_util::stream::BoxStream;
use rust_decimal::Decimal;
use serde_json::value::RawValue;
use std::error::Error;
use std::future::Future;
use thiserror::Error;
use time::OffsetDateTime;

/// The error of an adapter, kept as the source of ours.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why the store did not do what was asked. In every case the whole transaction is undone, except
/// that an `Unavailable` commit may have happened: the caller asks again and finds it done.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The stored cursor is not what this reader last wrote: another reader moved it.
    #[error("stream cursor was moved by another reader")]
    CursorLost,
    /// The database refuses the values themselves. The same values are refused for ever.
    #[error("database refuses the values")]
    Refused(#[source] Cause),
    /// The database cannot be used now.
    #[error("database is not available")]
    Unavailable(#[source] Cause),
    /// The stream's executions were identified in another way before.
    #[error("stream was read with execution_scope = {stored} before, and is configured with {configured}")]
    ScopeChanged {
        /// What the stored events were identified with.
        stored: String,
        /// What is configured now.
        configured: &'static str,
    },
    /// A stored row is not what this program writes.
    #[error("stored row cannot be read: {0}")]
    Corrupt(String),
}

/// A stream as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredStream {
    /// The cursor.
    pub cursor: Cursor,
    /// When the stream was last known to be whole.
    pub alive_at: OffsetDateTime,
    /// Up to where it was read a second time; none before the first audit.
    pub audited: Option<Cursor>,
    /// Up to where the broker was asked for its orders.
    pub polled_to: OffsetDateTime,
}

/// A change of how far the stream was audited, made by compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditMove {
    /// What must be stored now.
    pub from: Option<Cursor>,
    /// What is stored after.
    pub to: Cursor,
}

/// A change of how far the broker was asked for its orders, made by compare-and-set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollMove {
    /// What must be stored now.
    pub from: OffsetDateTime,
    /// What is stored after.
    pub to: OffsetDateTime,
    /// How far it stays behind the database's clock at least; none where it may pass it.
    pub behind_ms: Option<i64>,
}

/// How a person ended a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// What shows it.
    pub evidence: String,
}

/// What became of an order to close a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is closed now.
    Done,
    /// It was closed before.
    Already,
    /// It is no longer what the person saw.
    Changed,
    /// There is no such record.
    Missing,
}

/// What one transaction did.
#[derive(Debug, Default)]
pub struct Stored {
    /// What was appended to the event log, by partition and sequence.
    pub envelopes: Vec<Envelope>,
    /// Frames whose bytes were stored before.
    pub known_bytes: u64,
    /// Facts that were known under other bytes.
    pub repeated: u64,
    /// Facts that are new.
    pub inserted: u64,
    /// Earlier events logged again with the order that they turned out to belong to.
    pub completed: u64,
    /// Frames parked.
    pub parked: u64,
    /// Known facts that came with other terms.
    pub terms_differ: u64,
    /// Second broker orders of one order of ours.
    pub second_orders: u64,
}

/// What became of a parked frame.
#[derive(Debug)]
pub enum Settled {
    /// It is an event now, or was one already.
    Stored(Stored),
    /// It was settled before.
    Already,
    /// There is no such frame.
    Missing,
    /// It still cannot become an event.
    Poison(String),
}

/// What became of a push.
#[derive(Debug)]
pub enum Pushed {
    /// Its events and its name are stored now.
    Stored(Box<Stored>),
    /// It was stored before, with the same body.
    Repeated,
    /// Its nonce named another body before; nothing was stored.
    NonceReused,
}

/// The names of pushes, beside the events.
pub trait PushStore: Send + Sync + 'static {
    /// Stores a push in one transaction: its name, bytes, facts and log. Moves no cursor.
    fn store_push(
        &self,
        name: &PushName,
        readings: &[Reading],
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Pushed, StoreError>> + Send;

    /// Removes at most `rows` names that were stored before a moment; answers how many.
    fn prune_pushes(&self, before: OffsetDateTime, rows: i64) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// The events, the cursor and the log, in one database.
pub trait EventStore: Send + Sync + 'static {
    /// Reads the stream's row, making it with `first` where there is none.
    fn open_stream(
        &self,
        first: Cursor,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<StoredStream, StoreError>> + Send;

    /// Stores frames in one transaction: bytes, facts, log, and the cursor's move. Whoever is not
    /// the reader of the stream moves no cursor.
    fn store(
        &self,
        readings: &[Reading],
        moved: Option<CursorMove>,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Notes that the stream is whole up to now, if the cursor still stands at `cursor`.
    fn mark_alive(&self, cursor: Cursor, now: OffsetDateTime) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Records a stretch that the broker would not replay, and moves the cursor beyond it.
    fn record_unproven(
        &self,
        moved: CursorMove,
        range: (Cursor, Cursor),
        reason: &str,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Notes how far the stream was audited; with a reason, that the stretch could not be, which makes
    /// it an unproven range. [`StoreError::CursorLost`] when another copy has moved it.
    fn record_audited(
        &self,
        moved: AuditMove,
        refused: Option<&str>,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes or renews the lease of the stream. False when another copy holds it.
    fn claim_lease(&self) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Gives the lease up, if this copy holds it.
    fn release_lease(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What is filled of each order in all, where a broker tells no executions.
pub trait FigureStore: Send + Sync + 'static {
    /// Orders of which more may be filled, and those of which an event showed less than is known, after an id of the
    /// broker, in the order of the ids.
    fn open_orders(&self, after: &str, limit: i64) -> impl Future<Output = Result<Vec<KnownOrder>, StoreError>> + Send;

    /// Those orders of which less is shown than is known, and than a person was told.
    fn shown_less(
        &self,
        shown: &[(String, Decimal)],
        limit: i64,
    ) -> impl Future<Output = Result<Vec<KnownOrder>, StoreError>> + Send;

    /// Compares what the broker showed when it was asked for an order with what was known before it was asked, and
    /// still is. Less than that is a suspect; answers whether it is a new one. Nothing is booked.
    fn compare_asked(
        &self,
        known: &KnownOrder,
        shown: Cumulative,
        raw: &RawFrame,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Notes how far the broker was asked, and answers that as it is stored. [`StoreError::CursorLost`] when another
    /// copy has moved it.
    fn record_polled(&self, moved: PollMove) -> impl Future<Output = Result<OffsetDateTime, StoreError>> + Send;
}

/// What operators look at and settle.
pub trait RecordStore: Send + Sync + 'static {
    /// Everything about the broker orders that an execution id, a broker order id or an order id of
    /// ours leads to. Where execution ids are unique only within an account, `account/execution id`.
    fn story(&self, key: &str) -> impl Future<Output = Result<Option<Story>, StoreError>> + Send;

    /// Parked frames after an id, oldest first.
    fn parked(
        &self,
        after: i64,
        limit: i64,
        settled: bool,
    ) -> impl Future<Output = Result<Vec<ParkedRecord>, StoreError>> + Send;

    /// One parked frame with its bytes.
    fn parked_frame(&self, id: i64) -> impl Future<Output = Result<Option<ParkedFrame>, StoreError>> + Send;

    /// Stores the event of a parked frame, without touching any cursor.
    fn settle_parked(
        &self,
        id: i64,
        raw: &RawFrame,
        event: &ReadEvent,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Settled, StoreError>> + Send;

    /// Notes that a parked frame was tried again in vain.
    fn parked_again(&self, id: i64, detail: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Contradictions after an id, oldest first.
    fn suspects(
        &self,
        after: i64,
        limit: i64,
        closed: bool,
    ) -> impl Future<Output = Result<Vec<SuspectRecord>, StoreError>> + Send;

    /// Closes a contradiction.
    fn close_suspect(
        &self,
        id: i64,
        closing: &Closing,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Closed, StoreError>> + Send;

    /// Stretches that nobody has proven, after an id, oldest first.
    fn unproven(
        &self,
        after: i64,
        limit: i64,
        closed: bool,
    ) -> impl Future<Output = Result<Vec<UnprovenRecord>, StoreError>> + Send;

    /// Closes a stretch, if it is still from and to where the person saw it.
    fn close_unproven(
        &self,
        id: i64,
        seen: (&str, &str),
        closing: &Closing,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Closed, StoreError>> + Send;

    /// Asks the database whether it is there.
    fn ping(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How many of each are open: parked frames, suspects, unproven stretches.
    fn open_counts(&self) -> impl Future<Output = Result<OpenCounts, StoreError>> + Send;
}

/// What waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenCounts {
    /// Parked frames.
    pub parked: i64,
    /// Suspects.
    pub suspects: i64,
    /// Unproven stretches.
    pub unproven: i64,
}

/// Why a connection to the broker's stream did not come about.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The broker does not replay from there (400, 410, 416 or 422).
    #[error("broker does not replay from there (status {status}): {body}")]
    ReplayRefused {
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        body: String,
    },
    /// The broker answered with another status.
    #[error("broker refused the stream (status {status}): {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The start of what it said.
        body: String,
    },
    /// The answer is no event stream.
    #[error("answer is not an event stream but {content_type}")]
    NotAStream {
        /// The content type.
        content_type: String,
    },
    /// No answer in time.
    #[error("broker did not answer in time")]
    Deadline,
    /// No answer.
    #[error("could not reach the broker")]
    Failed(#[source] Cause),
}

/// The body of an event stream, in the pieces in which it arrives.
pub type Chunks = BoxStream<'static, Result<Bytes, Cause>>;

/// A broker's event stream.
pub trait EventSource: Send + Sync + 'static {
    /// Connects and asks for everything after a position; without an end, or up to one.
    fn connect(
        &self,
        since: Cursor,
        until: Option<Cursor>,
    ) -> impl Future<Output = Result<Chunks, ConnectError>> + Send;
}

/// One order of an answer, not read yet: what is wrong with it is nothing to its neighbours.
pub type OrderText = Box<RawValue>;

/// A broker's orders, as it shows them when it is asked.
pub trait OrderSource: Send + Sync + 'static {
    /// The account that they are of.
    fn account_id(&self) -> &str;

    /// The first page of orders, in any status, that were placed after a moment, oldest first.
    fn placed_after(&self, after: OffsetDateTime) -> impl Future<Output = Result<Vec<OrderText>, ConnectError>> + Send;

    /// One order; none where the broker does not find it.
    fn order(&self, broker_order_id: &str) -> impl Future<Output = Result<Option<OrderText>, ConnectError>> + Send;
}
