//! What operators are shown.

use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

/// Everything that is known about some broker orders.
#[derive(Debug, Serialize)]
pub struct Story {
    /// The broker orders.
    pub broker_orders: Vec<BrokerOrderRecord>,
    /// Every fact about them, in the order of the stream.
    pub facts: Vec<FactRecord>,
    /// What was logged for them, in the order of the log.
    pub log: Vec<LogRecord>,
    /// Contradictions about them.
    pub suspects: Vec<SuspectRecord>,
    /// Whether a part has more rows than are shown.
    pub truncated: bool,
}

/// A broker's order.
#[derive(Debug, Serialize)]
pub struct BrokerOrderRecord {
    /// The broker's name.
    pub broker: String,
    /// The broker's id.
    pub broker_order_id: String,
    /// The client's key at the broker; none while it is unknown.
    pub client_order_id: Option<String>,
    /// Our order; none for an orphan or somebody else's order.
    pub order_id: Option<Uuid>,
    /// Where its events are logged.
    pub partition: i16,
    /// When its first event came.
    #[serde(with = "time::serde::rfc3339")]
    pub first_seen_at: OffsetDateTime,
}

/// One fact.
#[derive(Debug, Serialize)]
pub struct FactRecord {
    /// Our event id.
    pub event_id: Uuid,
    /// The broker's order.
    pub broker_order_id: String,
    /// `fill`, `bust`, `correct` or `state`.
    pub kind: String,
    /// Its place in the stream when it first came.
    pub position: String,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub stored_at: OffsetDateTime,
    /// SHA-256 of the bytes as they came, in hexadecimal.
    pub raw_sha256: String,
    /// How many bytes came; more than are shown where the body is cut.
    pub body_bytes: i32,
    /// The start of the bytes, with what is no text replaced.
    pub body: String,
    /// The same bytes in Base64, where they are no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// One entry of the event log.
#[derive(Debug, Serialize)]
pub struct LogRecord {
    /// Partition.
    pub partition: i16,
    /// Sequence number.
    pub seq: i64,
    /// Event id.
    pub event_id: Uuid,
    /// Type word.
    #[serde(rename = "type")]
    pub kind: String,
    /// Our order, as logged.
    pub order_id: Option<Uuid>,
    /// When it was written.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The payload.
    pub payload: Box<RawValue>,
}

/// A contradiction.
#[derive(Debug, Serialize)]
pub struct SuspectRecord {
    /// Its number.
    pub id: i64,
    /// `terms_differ`, `second_broker_order` or `filled_less`.
    pub reason: String,
    /// The broker's order.
    pub broker_order_id: String,
    /// The event that it is about.
    pub event_id: Uuid,
    /// What is stored.
    pub known: String,
    /// What came.
    pub seen: String,
    /// SHA-256 of the bytes that came, in hexadecimal.
    pub raw_sha256: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub seen_at: OffsetDateTime,
    /// When it was closed; none while it is open.
    #[serde(with = "time::serde::rfc3339::option")]
    pub closed_at: Option<OffsetDateTime>,
    /// By whom.
    pub closed_by: Option<String>,
    /// Why.
    pub closed_why: Option<String>,
    /// On what evidence.
    pub closed_evidence: Option<String>,
}

/// A parked frame.
#[derive(Debug, Serialize)]
pub struct ParkedRecord {
    /// Its number.
    pub id: i64,
    /// Why, as a word.
    pub reason: String,
    /// Why, for a person.
    pub detail: String,
    /// Its place in the stream, where it has a readable one.
    pub position: Option<String>,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub parked_at: OffsetDateTime,
    /// How often it was tried again in vain.
    pub redrives: i32,
    /// When it became an event.
    #[serde(with = "time::serde::rfc3339::option")]
    pub settled_at: Option<OffsetDateTime>,
    /// Which event it became.
    pub settled_event_id: Option<Uuid>,
    /// SHA-256 of its bytes, in hexadecimal.
    pub raw_sha256: String,
    /// The start of its bytes, with what is no text replaced.
    pub body: String,
}

/// A parked frame's bytes.
#[derive(Debug)]
pub struct ParkedFrame {
    /// The bytes.
    pub body: Vec<u8>,
    /// Whether it is settled.
    pub settled: bool,
}

/// A stretch that nobody has proven.
#[derive(Debug, Serialize)]
pub struct UnprovenRecord {
    /// Its number.
    pub id: i64,
    /// The stream.
    pub stream: String,
    /// After this position.
    pub from_cursor: String,
    /// Up to this position.
    pub to_cursor: String,
    /// Why.
    pub reason: String,
    /// When it was found.
    #[serde(with = "time::serde::rfc3339")]
    pub found_at: OffsetDateTime,
    /// When it was closed; none while it is open.
    #[serde(with = "time::serde::rfc3339::option")]
    pub closed_at: Option<OffsetDateTime>,
    /// By whom.
    pub closed_by: Option<String>,
    /// Why.
    pub closed_why: Option<String>,
    /// On what evidence.
    pub closed_evidence: Option<String>,
}
