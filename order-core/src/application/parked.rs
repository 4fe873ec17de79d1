//! Events that could not be understood or applied. Each parks its account, which then takes only
//! cancels, until a person has looked and tries it again.

use super::operator::Actor;
use super::query::QueryError;
use async_trait::async_trait;
use contracts::Partition;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// A parked event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParkedEvent {
    /// Whose log it is of.
    pub producer: String,
    /// Which partition.
    pub partition: i16,
    /// Its place.
    pub seq: i64,
    /// The account that it parks, where known.
    pub account_id: Option<Uuid>,
    /// The order that it is about, where known.
    pub order_id: Option<Uuid>,
    /// Whether an operator has asked for another try.
    pub retried: bool,
    /// Why it is parked.
    pub detail: String,
    /// The event as it came.
    pub envelope: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub parked_at: OffsetDateTime,
    /// How many later events of its account wait behind it.
    pub behind: i64,
}

/// Where a parked event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedPlace {
    /// Whose log.
    pub producer: String,
    /// Which partition.
    pub partition: Partition,
    /// Its place in it.
    pub seq: i64,
}

/// The operators' view of parked events.
#[async_trait]
pub trait Parked: Send + Sync + 'static {
    /// Parked events, oldest first, at most `limit`.
    async fn parked(&self, limit: i64) -> Result<Vec<ParkedEvent>, QueryError>;
    /// Lets the workers try one again, on record; false when none is parked at that place. The account
    /// stays parked until it has taken effect, and what still cannot take effect is parked again.
    async fn retry(&self, place: &ParkedPlace, actor: &Actor, now: OffsetDateTime) -> Result<bool, QueryError>;
}
