//! What a transaction writes for one request.

use super::alarm::Alarm;
use super::request::Request;
use contracts::BrokerOrderId;
use contracts::event::GatewayEvent;
use time::OffsetDateTime;

/// A new row of the attempt log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAttempt {
    /// Its number.
    pub number: i32,
    /// Hash of the bytes.
    pub bytes_hash: [u8; 32],
    /// When it is claimed.
    pub claimed_at: OffsetDateTime,
    /// Until when its bytes may leave.
    pub send_before: OffsetDateTime,
    /// When a missing result becomes an unknown outcome.
    pub give_up_at: OffsetDateTime,
}

/// A new row of the cancel log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCancelAttempt {
    /// Which cancel request it serves.
    pub request: i32,
    /// The order at the broker.
    pub broker_order_id: BrokerOrderId,
    /// When it is claimed.
    pub claimed_at: OffsetDateTime,
    /// When a missing result is given up.
    pub give_up_at: OffsetDateTime,
}

/// How a call looked from outside, for the story.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallTrace {
    /// HTTP status, where there was one.
    pub http_status: Option<u16>,
    /// The broker's code, where there was one.
    pub broker_code: Option<i64>,
    /// What was seen, in words; bounded.
    pub detail: Option<String>,
    /// From the first byte to the end.
    pub duration_us: Option<i64>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedAttempt {
    /// Which.
    pub number: i32,
    /// The word of its outcome.
    pub outcome: &'static str,
    /// How it looked.
    pub trace: CallTrace,
}

/// The end of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedLookup {
    /// Whether by our key (or by the broker's id).
    pub by_key: bool,
    /// When it was claimed: it began no earlier.
    pub began_at: OffsetDateTime,
    /// The word of its outcome.
    pub outcome: &'static str,
    /// The order that was found.
    pub found: Option<(String, String)>,
    /// How it looked.
    pub trace: CallTrace,
}

/// The end of a cancel call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedCancel {
    /// When its row was claimed, which tells it from others of the same order.
    pub claimed_at: OffsetDateTime,
    /// The word of its outcome.
    pub outcome: &'static str,
    /// How it looked.
    pub trace: CallTrace,
}

/// Everything that a transaction writes for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The request as it is to be; its version is still the one that was read.
    pub request: Request,
    /// The request as it was read.
    pub before: Request,
    /// Why its state changed; none where it did not.
    pub cause: Option<String>,
    /// Attempts that became unknown since their owner gave no result in time.
    pub expired_attempts: Vec<i32>,
    /// An attempt to insert.
    pub new_attempt: Option<NewAttempt>,
    /// A cancel call to insert.
    pub new_cancel: Option<NewCancelAttempt>,
    /// Attempts that ended.
    pub ended_attempts: Vec<EndedAttempt>,
    /// Lookups that ended.
    pub ended_lookups: Vec<EndedLookup>,
    /// Cancel calls that ended.
    pub ended_cancels: Vec<EndedCancel>,
    /// What others are told, in order.
    pub events: Vec<GatewayEvent>,
    /// What must never happen.
    pub alarms: Vec<Alarm>,
}

impl Change {
    /// Whether the request's row is to be written at all. An end of a call whose effect is known
    /// already changes only the row of the call.
    #[must_use]
    pub fn is_of_request(&self) -> bool {
        self.cause.is_some() || self.request != self.before
    }
}
