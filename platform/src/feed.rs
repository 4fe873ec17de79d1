//! The feed: a producer's log over HTTP. It is the truth that the bus only carries copies of.

mod client;
mod server;

pub use client::{FeedClient, FeedError};
pub use server::router;

use crate::eventlog::Position;
use contracts::event::{Envelope, Producer};
use contracts::{EventId, Partition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most events of one answer.
pub const READ_LIMIT_MAX: u32 = 1_000;

/// An answer takes no further event once its payloads hold this many bytes.
pub(crate) const ANSWER_PAYLOAD_LEN_MAX: usize = 4 * 1024 * 1024;

/// Most bytes that a client reads of one answer: the payloads, the envelopes around a thousand
/// events, and one payload beyond the limit.
pub(crate) const ANSWER_LEN_MAX: usize = 8 * 1024 * 1024;

/// Newest event of every partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HeadsAnswer {
    pub(crate) producer: Producer,
    pub(crate) heads: BTreeMap<Partition, Head>,
}

/// Newest event of one partition.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) seq: i64,
    pub(crate) event_id: Option<EventId>,
}

impl From<Position> for Head {
    fn from(position: Position) -> Self {
        Self { seq: position.seq, event_id: position.event_id }
    }
}

impl From<Head> for Position {
    fn from(head: Head) -> Self {
        Self { seq: head.seq, event_id: head.event_id }
    }
}

/// Events of one partition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventsAnswer {
    pub(crate) events: Vec<Envelope>,
}

/// Why a position cannot be served. Both alarm at the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unservable {
    /// It is beyond the log's end: the log lost its tail, or is another one.
    History,
    /// The log no longer reaches back so far.
    Gone,
}

/// A refusal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RefusalBody {
    pub(crate) code: u32,
    pub(crate) message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Unservable>,
}
