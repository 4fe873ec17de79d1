//! Something that happened to an order, as the event stream tells it.

use std::sync::Arc;

use contracts::alpaca::{TradeEvent, TradeEventKind};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;
use ulid::Ulid;
use uuid::Uuid;

use super::order::{Execution, Snapshot, Terms};

/// What happened, not yet in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fact {
    pub(super) order: usize,
    pub(super) kind: TradeEventKind,
    #[serde(with = "rfc3339")]
    pub(super) at: OffsetDateTime,
    /// The order after it.
    pub(super) snapshot: Snapshot,
    pub(super) execution: Option<Execution>,
    /// Execution id of an event that is no fill; the dialect gives one to every event.
    pub(super) event_uuid: Uuid,
    pub(super) position_qty: Option<Decimal>,
    pub(super) shown: Shown,
    /// How much of its execution is shown.
    #[serde(default)]
    pub(super) detail: Detail,
}

/// How much of an execution an event shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Detail {
    /// All of it.
    #[default]
    Whole,
    /// All of it, under another id.
    Renamed(Uuid),
    /// All but the id.
    NoId,
    /// Nothing of it: only the order's cumulative figures.
    Cumulative,
}

/// Which streams show an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Shown {
    /// Every stream.
    #[default]
    Always,
    /// Replays; a live stream tells that it dropped something.
    DroppedLive,
    /// Replays; a live stream tells nothing.
    LostLive,
}

/// A fact in the stream.
#[derive(Debug)]
pub(super) struct StoredEvent {
    pub(super) event_id: Ulid,
    /// When it was put there; never goes backwards.
    pub(super) at: OffsetDateTime,
    /// Its place among the events of its order, from 1.
    pub(super) number: u64,
    pub(super) terms: Arc<Terms>,
    pub(super) fact: Fact,
}

impl StoredEvent {
    /// As the dialect shows it.
    pub(super) fn entity(&self) -> TradeEvent {
        let detail = self.fact.detail;
        let execution = self.fact.execution.as_ref().filter(|_| detail != Detail::Cumulative);
        let execution_id = match (detail, execution) {
            (Detail::Cumulative | Detail::NoId, _) => None,
            (Detail::Renamed(id), Some(_)) => Some(id),
            (_, Some(execution)) => Some(execution.execution_id),
            (_, None) => Some(self.fact.event_uuid),
        };
        TradeEvent {
            account_id: self.terms.account_id.to_string(),
            at: Some(self.at),
            event: self.fact.kind.clone(),
            event_id: self.event_id.to_string(),
            execution_id: execution_id.map(|id| id.to_string()),
            order: self.fact.snapshot.entity(&self.terms),
            timestamp: Some(self.fact.at),
            price: execution.map(|execution| execution.price),
            qty: execution.map(|execution| execution.qty),
            position_qty: self.fact.position_qty.filter(|_| detail != Detail::Cumulative),
            previous_execution_id: execution.and_then(|execution| execution.previous).map(|id| id.to_string()),
        }
    }
}
