//! The whole story of one request, for persons: what was asked, every attempt, every question, every
//! piece of evidence. Its digest is what an approval of a settlement binds.

use super::ports::StoreError;
use contracts::{EventId, OrderId};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::future::Future;
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

/// A request as a person reads it.
#[derive(Debug, Clone, Serialize)]
pub struct RequestStory {
    /// Our order.
    pub order_id: Uuid,
    /// Whose.
    pub account_id: Uuid,
    /// Which broker it is pinned to.
    pub broker: String,
    /// The key on every attempt.
    pub broker_key: String,
    /// Ticker.
    pub symbol: String,
    /// Buy or sell.
    pub side: String,
    /// Market or limit.
    pub order_type: String,
    /// Day or gtc.
    pub time_in_force: String,
    /// Ordered shares.
    #[serde(with = "rust_decimal::serde::str")]
    pub quantity: Decimal,
    /// Limit price.
    #[serde(with = "rust_decimal::serde::str_option")]
    pub limit_price: Option<Decimal>,
    /// When the customer's order was accepted.
    #[serde(with = "rfc3339")]
    pub accepted_at: OffsetDateTime,
    /// When it came here.
    #[serde(with = "rfc3339")]
    pub received_at: OffsetDateTime,
    /// Where it stands.
    pub state: String,
    /// Since when.
    #[serde(with = "rfc3339")]
    pub state_since: OffsetDateTime,
    /// Why.
    pub cause: String,
    /// When the lane looks at it next.
    #[serde(with = "rfc3339::option")]
    pub due_at: Option<OffsetDateTime>,
    /// The time after which the broker refuses it.
    #[serde(with = "rfc3339::option")]
    pub valid_until: Option<OffsetDateTime>,
    /// The broker's id.
    pub broker_order_id: Option<String>,
    /// The broker's status word when it was last seen.
    pub broker_status: Option<String>,
    /// What differs, where the broker has another order under our key.
    pub contradiction: Option<String>,
    /// Number of the newest cancel request; 0 for none.
    pub cancel_requested: i32,
    /// Number of the newest answered one.
    pub cancel_answered: i32,
}

/// An attempt as a person reads it.
#[derive(Debug, Clone, Serialize)]
pub struct AttemptStory {
    /// Its number.
    pub n: i32,
    /// Hash of its bytes.
    pub bytes_sha256: String,
    /// When it was claimed.
    #[serde(with = "rfc3339")]
    pub claimed_at: OffsetDateTime,
    /// When a missing result became unknown.
    #[serde(with = "rfc3339")]
    pub give_up_at: OffsetDateTime,
    /// Its outcome class; none while open.
    pub outcome: Option<String>,
    /// When it ended.
    #[serde(with = "rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// HTTP status.
    pub http_status: Option<i16>,
    /// The broker's code.
    pub broker_code: Option<i64>,
    /// What was seen.
    pub detail: Option<String>,
    /// How long the call took, in microseconds.
    pub duration_us: Option<i64>,
}

/// A lookup as a person reads it.
#[derive(Debug, Clone, Serialize)]
pub struct LookupStory {
    /// Its number.
    pub n: i32,
    /// By our key or by the broker's id.
    pub by: String,
    /// It began no earlier.
    #[serde(with = "rfc3339")]
    pub began_at: OffsetDateTime,
    /// When its end was recorded.
    #[serde(with = "rfc3339")]
    pub ended_at: OffsetDateTime,
    /// Its outcome class.
    pub outcome: String,
    /// HTTP status.
    pub http_status: Option<i16>,
    /// What it found.
    pub broker_order_id: Option<String>,
    /// In which status.
    pub broker_status: Option<String>,
    /// What was seen.
    pub detail: Option<String>,
}

/// A cancel call as a person reads it.
#[derive(Debug, Clone, Serialize)]
pub struct CancelStory {
    /// Its number.
    pub n: i32,
    /// Which cancel request.
    pub request: i32,
    /// When it was claimed.
    #[serde(with = "rfc3339")]
    pub claimed_at: OffsetDateTime,
    /// Its outcome class.
    pub outcome: Option<String>,
    /// When it ended.
    #[serde(with = "rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    /// HTTP status.
    pub http_status: Option<i16>,
    /// The broker's code.
    pub broker_code: Option<i64>,
    /// What was seen.
    pub detail: Option<String>,
}

/// Evidence from the broker's stream as a person reads it.
#[derive(Debug, Clone, Serialize)]
pub struct EvidenceStory {
    /// The event in the fill receiver's log.
    pub event_id: Uuid,
    /// Which broker.
    pub broker: String,
    /// The broker's id of the order.
    pub broker_order_id: String,
    /// The broker's word.
    pub event: String,
    /// The broker's status word.
    pub order_status: String,
    /// When, by the broker's clock.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// What it changed here.
    pub effect: String,
}

/// A way into or out of doubt.
#[derive(Debug, Clone, Serialize)]
pub struct TransitionStory {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// Why: the evidence.
    pub cause: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
}

/// An approval of a settlement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Approval {
    /// Who.
    pub person: String,
    /// The evidence that the person saw.
    pub evidence_digest: String,
    /// The broker's order that it is to be bound to; none: the broker never had it.
    pub broker_order_id: Option<String>,
    /// When.
    #[serde(with = "rfc3339")]
    pub approved_at: OffsetDateTime,
}

/// An event of this process's log.
#[derive(Debug, Clone, Serialize)]
pub struct LogStory {
    /// Partition of the log.
    pub partition: i16,
    /// Its place.
    pub seq: i64,
    /// Its id.
    pub event_id: Uuid,
    /// Type word.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was written.
    #[serde(with = "rfc3339")]
    pub at: OffsetDateTime,
    /// What it says.
    pub payload: Box<RawValue>,
}

/// The whole story.
#[derive(Debug, Clone, Serialize)]
pub struct Dossier {
    /// Digest of everything below but approvals: what an approval binds.
    pub evidence_digest: String,
    /// Whether a part has more rows than are shown; then these are not all.
    pub truncated: bool,
    /// The request.
    pub request: RequestStory,
    /// Every attempt.
    pub attempts: Vec<AttemptStory>,
    /// Every lookup.
    pub lookups: Vec<LookupStory>,
    /// Every cancel call.
    pub cancels: Vec<CancelStory>,
    /// Evidence from the stream.
    pub evidence: Vec<EvidenceStory>,
    /// Ways into and out of doubt.
    pub transitions: Vec<TransitionStory>,
    /// Approvals of a settlement.
    pub approvals: Vec<Approval>,
}

impl Dossier {
    /// Computes the digest from the parts that are evidence: any new row changes it.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        let parts = serde_json::json!({
            "order_id": self.request.order_id,
            "state": self.request.state,
            "broker_order_id": self.request.broker_order_id,
            "contradiction": self.request.contradiction,
            "cancel_requested": self.request.cancel_requested,
            "attempts": self.attempts,
            "lookups": self.lookups,
            "cancels": self.cancels,
            "evidence": self.evidence,
        });
        self.evidence_digest = hex::encode(Sha256::digest(parts.to_string().as_bytes()));
        self
    }
}

/// A request that is waiting for evidence or for persons.
#[derive(Debug, Clone, Serialize)]
pub struct Unsettled {
    /// For how long it has been in its state, in seconds.
    pub age_s: i64,
    /// Its story with its digest.
    #[serde(flatten)]
    pub dossier: Dossier,
}

/// Reads stories.
pub trait DossierStore: Send + Sync + 'static {
    /// The story of one request.
    fn dossier(&self, order_id: OrderId) -> impl Future<Output = Result<Option<Dossier>, StoreError>> + Send;

    /// Which order an event of this process's log is about.
    fn order_of_event(&self, event_id: EventId) -> impl Future<Output = Result<Option<OrderId>, StoreError>> + Send;

    /// What was logged about an order, in the order of the log.
    fn log(&self, order_id: OrderId) -> impl Future<Output = Result<Vec<LogStory>, StoreError>> + Send;

    /// Requests in doubt or in the hands of persons, oldest first.
    fn unsettled(&self, limit: u32) -> impl Future<Output = Result<Vec<Unsettled>, StoreError>> + Send;
}
