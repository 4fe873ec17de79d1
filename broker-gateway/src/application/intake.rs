//! What other processes' events mean for requests. Pure; the adapter brings rows and writes changes.

use super::alarm::Alarm;
use super::case::Case;
use super::change::Change;
use super::request::{Loaded, NewRequest};
use super::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use contracts::event::{BrokerEvent, BrokerFact, EvidenceSource, ObservedOrder, OrdersEvent};
use contracts::{OrderId, alpaca};
use std::collections::HashMap;

/// What a slice of the order server's log asks for, beside new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Cancel; the number of the cancel request.
    Cancel(i32),
    /// Tell how it stands.
    Observe,
}

/// A slice of the order server's log, sorted out.
#[derive(Debug, Clone, Default)]
pub struct OrdersBatch {
    /// New requests, in order.
    pub submits: Vec<NewRequest>,
    /// Wishes for each order, in order.
    pub wishes: HashMap<OrderId, Vec<Wish>>,
}

/// An event that names an order other than the one in its key, so it cannot be what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker key is of another order or partition")]
pub struct KeyMismatch;

impl OrdersBatch {
    /// Adds an event.
    ///
    /// # Errors
    /// [`KeyMismatch`] for a submit whose key is not the key of its order: a deterministic error.
    pub fn add(
        &mut self,
        event: OrdersEvent,
        partition: contracts::Partition,
        traceparent: Option<String>,
    ) -> Result<(), KeyMismatch> {
        match event {
            OrdersEvent::Submit { order_id, account_id, broker_key, terms, accepted_at } => {
                if broker_key.order_id() != order_id || broker_key.partition() != partition {
                    return Err(KeyMismatch);
                }
                self.submits.push(NewRequest { order_id, account_id, broker_key, terms, accepted_at, traceparent });
            }
            OrdersEvent::Cancel { order_id, request } => {
                self.wishes.entry(order_id).or_default().push(Wish::Cancel(request));
            }
            OrdersEvent::Lookup { order_id } => {
                self.wishes.entry(order_id).or_default().push(Wish::Observe);
            }
        }
        Ok(())
    }
}

/// What evidence that came before its order said about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which broker.
    pub broker: String,
    /// Of which share; none where it was not kept.
    pub symbol: Option<String>,
    /// Bought or sold; none where it was not kept.
    pub side: Option<String>,
    /// The broker's order.
    pub observed: ObservedOrder,
}

/// Applies wishes, and evidence that came before the order, to their requests.
pub fn apply_wishes(
    rules: &Rules,
    now: Now,
    loaded: Vec<Loaded>,
    wishes: &HashMap<OrderId, Vec<Wish>>,
    early: &HashMap<OrderId, Vec<Sighting>>,
    mut jitter: impl FnMut() -> Jitter,
) -> Vec<Change> {
    loaded
        .into_iter()
        .map(|loaded| {
            let order_id = loaded.0.order_id;
            // What is owed already is under way or has its time: its end takes up the rest.
            let is_busy = loaded.0.cancel.is_pending() || loaded.0.observe.is_pending();
            let is_alive = loaded.0.state.is_alive();
            let mut case = Case::new(rules, loaded, now, jitter());
            let mut alarms = Vec::new();
            for sighting in early.get(&order_id).into_iter().flatten() {
                alarms.extend(apply_early(&mut case, sighting));
            }
            for wish in wishes.get(&order_id).into_iter().flatten() {
                match wish {
                    Wish::Cancel(number) => case.cancel(*number),
                    Wish::Observe => case.observe(),
                }
            }
            let mut change = if is_alive && is_busy { case.claimed() } else { case.settled() };
            change.alarms.extend(alarms);
            change
        })
        .collect()
}

fn apply_early(case: &mut Case<'_>, sighting: &Sighting) -> Option<Alarm> {
    let request = case.request();
    if sighting.broker != request.broker.as_str() {
        return Some(Alarm::OtherBroker { broker: sighting.broker.clone() });
    }
    let is_other = sighting.symbol.as_deref().is_some_and(|symbol| symbol != request.terms.symbol().as_str())
        || sighting.side.as_deref().is_some_and(|side| side != request.terms.side().as_str());
    if is_other {
        case.contradict("symbol or side");
    } else {
        case.alive(sighting.observed.clone(), EvidenceSource::Stream);
    }
    None
}

/// Whether an event says that the order is at its end.
#[must_use]
pub fn is_terminal(event: &BrokerEvent) -> bool {
    matches!(event.fact, BrokerFact::Canceled | BrokerFact::Expired | BrokerFact::Rejected { .. })
        || alpaca::OrderStatus::from(event.order_status.as_str()).is_terminal()
}

/// Applies what the broker told to the requests that it is about.
pub fn apply_evidence(
    rules: &Rules,
    now: Now,
    loaded: Vec<Loaded>,
    evidence: &HashMap<OrderId, Vec<BrokerEvent>>,
    mut jitter: impl FnMut() -> Jitter,
) -> Vec<Change> {
    loaded
        .into_iter()
        .map(|loaded| {
            let order_id = loaded.0.order_id;
            let mut case = Case::new(rules, loaded, now, jitter());
            let mut alarms = Vec::new();
            for event in evidence.get(&order_id).into_iter().flatten() {
                alarms.extend(apply_one(&mut case, event));
            }
            let mut change = case.settled();
            change.alarms.extend(alarms);
            change
        })
        .collect()
}

fn apply_one(case: &mut Case<'_>, event: &BrokerEvent) -> Option<Alarm> {
    let request = case.request();
    if event.broker != request.broker {
        return Some(Alarm::OtherBroker { broker: event.broker.to_string() });
    }
    if event.symbol != *request.terms.symbol() || event.side != request.terms.side() {
        case.contradict("symbol or side");
        return None;
    }
    let observed = ObservedOrder {
        broker_order_id: event.broker_order_id.clone(),
        status: event.order_status.clone(),
        cumulative_quantity: event.cumulative_quantity,
    };
    case.alive(observed, EvidenceSource::Stream);
    if is_terminal(event) && request_is_of(case, event) {
        case.close();
    }
    None
}

fn request_is_of(case: &Case<'_>, event: &BrokerEvent) -> bool {
    case.request().broker_order_id.as_ref() == Some(&event.broker_order_id)
}
