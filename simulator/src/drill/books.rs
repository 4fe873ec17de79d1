//! The comparison of the three databases with the broker's truth, order by order.
//!
//! What customers see is compared beside this one; the books of each account (journal, holds, log) the order server
//! checks itself. A pure function over what was collected.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use contracts::broker_key::BrokerKey;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::check::{Invariant, Kind, Verdict};
use super::oracle::{BrokerOrder, ReportKind};
use super::records::{CoreExecution, CoreOrder, ReceiverFact, Records, Request};

/// The currency of every account of a drill.
const CURRENCY: &str = "USD";
/// In front of the ids of fills that the receiver derived from what is filled of an order in all.
const DERIVED: &str = "cumulative:";
/// Gateway states that say that the broker has no live order.
const WITHOUT_LIFE: [&str; 3] = ["refused", "not_sent", "absent"];
/// Gateway states on the way to an answer.
const UNDER_WAY: [&str; 3] = ["queued", "sending", "doubt"];

/// What the databases show beside violations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Executions of our orders that stand at the broker.
    pub fills: usize,
    /// Requests that wait for persons.
    pub manual: usize,
    /// Attempts whose sender died before it knew their outcome.
    pub attempts_open: usize,
    /// Requests that were sent more than once.
    pub resent: usize,
}

/// Compares everything. The system must be at rest.
#[must_use]
pub fn compare(records: &Records, broker: &[BrokerOrder], verdict: &mut Verdict) -> Figures {
    let ours: BTreeMap<Uuid, &BrokerOrder> = broker
        .iter()
        .filter(|order| !order.foreign)
        .filter_map(|order| Some((BrokerKey::parse(&order.client_order_id).ok()?.order_id().as_uuid(), order)))
        .collect();
    let requests: BTreeMap<Uuid, &Request> =
        records.requests.iter().map(|request| (request.order_id, request)).collect();
    for order in &records.orders {
        let (broker, request) = (ours.get(&order.id).copied(), requests.get(&order.id).copied());
        compare_end(order, broker, request, verdict);
    }
    for request in &records.requests {
        compare_request(request, ours.get(&request.order_id).copied(), verdict);
    }
    for id in ours.keys().filter(|id| !requests.contains_key(id)) {
        let text = format!("the broker has order {id}, and the gateway has no request of it");
        verdict.breach(Invariant::I2, Kind::Wrong, Some(*id), text);
    }
    compare_executions(records, &ours, verdict);
    compare_cleared(records, &ours, verdict);
    compare_logs(records, &ours, verdict);
    Figures {
        fills: ours.values().map(|order| order.executions.len()).sum(),
        manual: records.requests.iter().filter(|request| request.state == "manual").count(),
        attempts_open: records.requests.iter().filter(|request| request.attempts_open > 0).count(),
        resent: records.requests.iter().filter(|request| request.attempts_arrived > 1).count(),
    }
}

/// An order at its end holds nothing, and where it ended without the broker there is a record of why.
fn compare_end(order: &CoreOrder, broker: Option<&BrokerOrder>, request: Option<&Request>, verdict: &mut Verdict) {
    let id = Some(order.id);
    if order.closed && !(order.hold_cash.is_zero() && order.hold_shares.is_zero()) {
        let text = format!(
            "order {} is {} and holds {} and {} shares",
            order.id, order.status, order.hold_cash, order.hold_shares
        );
        verdict.breach(Invariant::I5, Kind::Wrong, id, text);
    }
    if !order.closed {
        return;
    }
    match broker {
        Some(broker) if matches!(order.status.as_str(), "canceled" | "expired" | "rejected") => {
            if !matches!(broker.status.as_str(), "canceled" | "expired" | "rejected" | "replaced" | "done_for_day") {
                let text = format!("order {} is {}, and at the broker {}", order.id, order.status, broker.status);
                verdict.breach(Invariant::I6, Kind::Wrong, id, text);
            }
        }
        Some(_) => {}
        None => {
            let never_there = request.is_none_or(|request| WITHOUT_LIFE.contains(&request.state.as_str()));
            if !never_there {
                let state = request.map_or("", |request| request.state.as_str());
                let text =
                    format!("order {} is {}, not at the broker, and {state} at the gateway", order.id, order.status);
                verdict.breach(Invariant::I7, Kind::Wrong, id, text);
            }
        }
    }
}

fn compare_request(request: &Request, broker: Option<&BrokerOrder>, verdict: &mut Verdict) {
    let (id, state) = (Some(request.order_id), request.state.as_str());
    let order = request.order_id;
    if request.keys > 1 || request.contents > 1 {
        let text = format!(
            "order {order}: {} attempts under {} keys with {} contents",
            request.attempts, request.keys, request.contents
        );
        verdict.breach(Invariant::I2, Kind::Wrong, id, text);
    }
    if let Some(contradiction) = &request.contradiction {
        verdict.breach(Invariant::I2, Kind::Wrong, id, format!("order {order}: {contradiction}"));
    }
    if let (Some(known), Some(broker)) = (&request.broker_order_id, broker)
        && *known != broker.id.to_string()
    {
        let text = format!("order {order} is {known} at the gateway and {} at the broker", broker.id);
        verdict.breach(Invariant::I2, Kind::Wrong, id, text);
    }
    if request.broker_order_id.is_some() && broker.is_none() {
        let text = format!("order {order} is a broker order at the gateway, and the broker never had it");
        verdict.breach(Invariant::I2, Kind::Lost, id, text);
    }
    if UNDER_WAY.contains(&state) {
        verdict.breach(Invariant::I7, Kind::Unsettled, id, format!("order {order} is {state} at the gateway"));
    }
    if !WITHOUT_LIFE.contains(&state) {
        return;
    }
    if let Some(broker) = broker.filter(|broker| broker.status != "rejected") {
        let text = format!("order {order} is {state} at the gateway, and at the broker {}", broker.status);
        verdict.breach(Invariant::I6, Kind::Wrong, id, text);
    }
    if request.attempts_arrived > 0 && !request.none_since && !request.heard_of && request.persons < 2 {
        let text = format!(
            "order {order} is {state}, {} of {} attempts may have arrived, and nothing is known of them",
            request.attempts_arrived, request.attempts
        );
        verdict.breach(Invariant::I7, Kind::Wrong, id, text);
    }
}

/// One execution as both sides write it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Told {
    kind: &'static str,
    execution_id: String,
    previous: Option<String>,
    /// Quantity and price; none of a bust.
    figures: Option<(Decimal, Decimal)>,
}

fn told_by_ledger(row: &CoreExecution) -> Told {
    let kind = match row.kind.as_str() {
        "fill" => "fill",
        "correct" => "correct",
        _ => "bust",
    };
    let figures = row.quantity.zip(row.price).map(|(quantity, price)| (quantity.normalize(), price.normalize()));
    Told { kind, execution_id: row.execution_id.clone(), previous: row.previous_execution_id.clone(), figures }
}

fn told_by_broker(order: &BrokerOrder) -> impl Iterator<Item = Told> + '_ {
    order.reports.iter().map(|report| {
        let execution = &report.execution;
        let figures = Some((execution.qty.normalize(), execution.price.normalize()));
        let (kind, figures) = match report.kind {
            ReportKind::Trade => ("fill", figures),
            ReportKind::Correct => ("correct", figures),
            ReportKind::Bust => ("bust", None),
        };
        let previous = report.previous.map(|id| id.to_string());
        Told { kind, execution_id: execution.execution_id.to_string(), previous, figures }
    })
}

/// Every execution of the broker is in the receiver's events and in the ledger, once, with its figures, and no other.
fn compare_executions(records: &Records, ours: &BTreeMap<Uuid, &BrokerOrder>, verdict: &mut Verdict) {
    let mut ledger: BTreeMap<Uuid, Vec<&CoreExecution>> = BTreeMap::new();
    for row in &records.executions {
        ledger.entry(row.order_id).or_default().push(row);
    }
    let orders: BTreeSet<Uuid> = ours.keys().chain(ledger.keys()).copied().collect();
    for id in orders {
        let rows = ledger.get(&id).map(Vec::as_slice).unwrap_or_default();
        if rows.iter().any(|row| row.execution_id.starts_with(DERIVED)) {
            compare_derived(id, rows, ours.get(&id).copied(), verdict);
            continue;
        }
        let mut missing: Vec<Told> = ours.get(&id).map(|order| told_by_broker(order).collect()).unwrap_or_default();
        for row in rows.iter().copied() {
            let told = told_by_ledger(row);
            if let Some(place) = missing.iter().position(|other| *other == told) {
                drop(missing.swap_remove(place));
                continue;
            }
            // One of that name is told with other figures; or it is there already.
            let namesake = |other: &Told| (&other.execution_id, other.kind) == (&told.execution_id, told.kind);
            let kind = match missing.iter().position(namesake) {
                Some(place) => {
                    drop(missing.swap_remove(place));
                    Kind::Wrong
                }
                None => Kind::Duplicated,
            };
            let text = format!("order {id}: the ledger has {told:?}, which the broker does not tell");
            verdict.breach(Invariant::I3, kind, Some(id), text);
        }
        for told in missing {
            verdict.breach(Invariant::I3, Kind::Lost, Some(id), format!("order {id}: the ledger lacks {told:?}"));
        }
    }
    let applied: BTreeMap<Uuid, Uuid> = records.executions.iter().map(|row| (row.event_id, row.order_id)).collect();
    let broker_ids: BTreeMap<String, Uuid> = ours.iter().map(|(id, order)| (order.id.to_string(), *id)).collect();
    // A broker that takes no key shows none: there the receiver never learns whose order it is.
    let order_of = |fact: &ReceiverFact| fact.order_id.or_else(|| broker_ids.get(&fact.broker_order_id).copied());
    let received: BTreeMap<Uuid, Option<Uuid>> =
        records.facts.iter().map(|fact| (fact.event_id, order_of(fact))).collect();
    for (event, order) in &applied {
        if received.get(event) != Some(&Some(*order)) {
            let text = format!("order {order}: event {event} is in the ledger and not in the receiver's events");
            verdict.breach(Invariant::I3, Kind::Wrong, Some(*order), text);
        }
    }
    for (event, order) in received.iter().filter_map(|(event, order)| Some((event, (*order)?))) {
        if !applied.contains_key(event) {
            let text = format!("order {order}: event {event} of the receiver is not in the ledger");
            verdict.breach(Invariant::I3, Kind::Lost, Some(order), text);
        }
    }
}

/// Derived fills have no namesakes at the broker: they come to its shares and its money.
fn compare_derived(id: Uuid, rows: &[&CoreExecution], broker: Option<&BrokerOrder>, verdict: &mut Verdict) {
    let executions = broker.map_or(&[][..], |order| &order.executions);
    let true_shares: Decimal = executions.iter().map(|execution| execution.qty).sum();
    let true_money: Decimal = executions.iter().map(|execution| execution.qty * execution.price).sum();
    let figures = || rows.iter().filter_map(|row| row.quantity.zip(row.price));
    let shares: Decimal = figures().map(|(quantity, _)| quantity).sum();
    let money: Decimal = figures().map(|(quantity, price)| quantity * price).sum();
    let odd = rows.iter().any(|row| row.kind != "fill" || !row.execution_id.starts_with(DERIVED));
    let kind = match shares.cmp(&true_shares) {
        Ordering::Less => Kind::Lost,
        Ordering::Greater => Kind::Duplicated,
        Ordering::Equal if odd || money != true_money => Kind::Wrong,
        Ordering::Equal => return,
    };
    let text =
        format!("order {id}: {shares} shares for {money} in the ledger, {true_shares} for {true_money} at the broker");
    verdict.breach(Invariant::I3, kind, Some(id), text);
}

/// What each order moved in its account is what its executions at the broker come to, in cash and in shares.
fn compare_cleared(records: &Records, ours: &BTreeMap<Uuid, &BrokerOrder>, verdict: &mut Verdict) {
    let mut moved: BTreeMap<Uuid, BTreeMap<&str, Decimal>> = BTreeMap::new();
    for line in &records.cleared {
        *moved.entry(line.order_id).or_default().entry(&line.asset).or_default() += line.amount;
    }
    for order in &records.orders {
        let executions = ours.get(&order.id).map_or(&[][..], |order| &order.executions);
        let quantity: Decimal = executions.iter().map(|execution| execution.qty).sum();
        let notional: Decimal = executions.iter().map(|execution| execution.qty * execution.price).sum();
        let (cash, shares) = if order.side == "buy" { (notional, -quantity) } else { (-notional, quantity) };
        let of = |asset: &str| moved.get(&order.id).and_then(|assets| assets.get(asset)).copied().unwrap_or_default();
        let (moved_cash, moved_shares) = (of(CURRENCY), of(&order.symbol));
        if (moved_cash, moved_shares) != (cash, shares) {
            let text = format!(
                "order {}: the journal moved {moved_cash} and {moved_shares} shares, by the broker's executions {cash} \
                 and {shares}",
                order.id
            );
            verdict.breach(Invariant::I3, Kind::Wrong, Some(order.id), text);
        }
        if (order.net_quantity, order.net_notional) != (quantity, notional) {
            let text = format!(
                "order {}: executed {} for {}, by the broker {quantity} for {notional}",
                order.id, order.net_quantity, order.net_notional
            );
            verdict.breach(Invariant::I3, Kind::Wrong, Some(order.id), text);
        }
    }
}

/// Every log was applied to its end, and nothing of ours waits or was put aside.
fn compare_logs(records: &Records, ours: &BTreeMap<Uuid, &BrokerOrder>, verdict: &mut Verdict) {
    for position in records.positions.iter().filter(|position| position.applied != position.head) {
        let kind = if position.applied < position.head { Kind::Unsettled } else { Kind::Wrong };
        let text = format!(
            "{} applied {}/{} up to {} of {}",
            position.consumer, position.producer, position.partition, position.applied, position.head
        );
        verdict.breach(Invariant::I8, kind, None, text);
    }
    let broker_ids: BTreeMap<String, Uuid> = ours.iter().map(|(id, order)| (order.id.to_string(), *id)).collect();
    for left in &records.left {
        let order = left.order_id.or_else(|| broker_ids.get(left.broker_order_id.as_ref()?).copied());
        // An orphan of somebody else's order is where it belongs.
        if order.is_some() || left.broker_order_id.is_none() {
            verdict.breach(Invariant::I8, Kind::Unsettled, order, format!("{}: {}", left.place, left.detail));
        }
    }
}

#[cfg(test)]
mod tests;
