//! The comparison at the end of every drill: what customers were told against what the broker really did.
//!
//! It is a pure function over what was collected, so that it can be tested by handing it a wrong world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use contracts::alpaca::{AccountEntity, OrderEntity, OrderStatus, PositionEntity};
use rust_decimal::Decimal;
use uuid::Uuid;

use super::oracle::{BrokerOrder, ReportKind};
use super::trader::{Order, Placed};

/// What one customer knows and sees.
#[derive(Clone, Debug)]
pub struct AccountView {
    /// What was deposited.
    pub deposit: Decimal,
    /// Every order that was posted, with the answer.
    pub posted: Vec<(Order, Placed)>,
    /// Every order that the API lists.
    pub orders: Vec<OrderEntity>,
    /// The account.
    pub account: AccountEntity,
    /// The positions.
    pub positions: Vec<PositionEntity>,
}

/// What kind of promise a violation breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An order or a fill is missing.
    Lost,
    /// An order or a fill is there twice.
    Duplicated,
    /// A number or a state is wrong.
    Wrong,
    /// Something is still under way, or was never answered.
    Unsettled,
}

/// The promises of the whole system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub enum Invariant {
    /// Every order answered with success exists, with the answer's terms.
    I1,
    /// One of our orders makes at most one broker order.
    I2,
    /// Every fill of the broker is in the ledger once, and reaches the account once.
    I3,
    /// The journal balances, balances are its sums, and nothing available is negative.
    I4,
    /// Holds are what open orders need; an order at its end holds nothing.
    I5,
    /// No order is called rejected, canceled or expired while the broker has it live or filled.
    I6,
    /// A definite state never comes from silence.
    I7,
    /// Events are applied in sequence, once, with no gap.
    I8,
    /// None of these: what a drill wants beside them.
    Drill,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise it breaks.
    pub invariant: Invariant,
    /// Of which of our orders.
    pub order: Option<Uuid>,
    /// What kind of promise it breaks.
    pub kind: Kind,
    /// What differs, for people.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:?}: {}", self.invariant, self.kind, self.text)
    }
}

/// How many orders ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Posted orders.
    pub orders: usize,
    /// Filled whole.
    pub filled: usize,
    /// Canceled, in part or whole.
    pub canceled: usize,
    /// Expired at the broker, in part or whole.
    pub expired: usize,
    /// Canceled or expired before anything reached the broker.
    pub unsent: usize,
    /// Refused at once, or rejected by the broker.
    pub rejected: usize,
    /// Missing orders and fills.
    pub lost: usize,
    /// Orders and fills that are there twice.
    pub duplicated: usize,
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many orders ended in which way.
    pub tally: Tally,
    /// Every difference.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Adds a difference.
    pub fn breach(&mut self, invariant: Invariant, kind: Kind, order: Option<Uuid>, text: String) {
        // One order that is lost to several comparisons is one lost order.
        let counted = order.is_some() && self.violations.iter().any(|found| (found.kind, found.order) == (kind, order));
        match kind {
            Kind::Lost if !counted => self.tally.lost += 1,
            Kind::Duplicated if !counted => self.tally.duplicated += 1,
            _ => {}
        }
        self.violations.push(Violation { invariant, kind, order, text });
    }
}

/// Compares everything. The system must be at rest: an open order is reported.
#[must_use]
pub fn compare(accounts: &[AccountView], broker: &[BrokerOrder]) -> Verdict {
    let mut verdict = Verdict::default();
    let ours = broker_by_our_id(broker, &mut verdict);
    let mut known = BTreeSet::new();
    for (index, view) in accounts.iter().enumerate() {
        known.extend(view.orders.iter().map(|order| order.id));
        compare_posted(index, view, &mut verdict);
        for order in &view.orders {
            compare_order(index, order, ours.get(&order.id).copied(), &mut verdict);
        }
        compare_books(index, view, &ours, &mut verdict);
    }
    for (id, order) in &ours {
        if !known.contains(id) {
            verdict.breach(
                Invariant::I1,
                Kind::Lost,
                Some(*id),
                format!("the broker's order {} is of order {id}, which nobody has", order.id),
            );
        }
    }
    verdict
}

fn broker_by_our_id<'a>(broker: &'a [BrokerOrder], verdict: &mut Verdict) -> BTreeMap<Uuid, &'a BrokerOrder> {
    let mut ours = BTreeMap::new();
    for order in broker.iter().filter(|order| !order.foreign) {
        let Some(id) = order.our_id() else {
            verdict.breach(
                Invariant::I2,
                Kind::Wrong,
                None,
                format!("the broker has an order with the key {:?}", order.client_order_id),
            );
            continue;
        };
        if let Some(first) = ours.insert(id, order) {
            verdict.breach(
                Invariant::I2,
                Kind::Duplicated,
                Some(id),
                format!("order {id} is at the broker as {} and {}", first.id, order.id),
            );
        }
        let unique: BTreeSet<Uuid> = order.executions.iter().map(|execution| execution.execution_id).collect();
        if unique.len() != order.executions.len() {
            verdict.breach(
                Invariant::I3,
                Kind::Wrong,
                Some(id),
                format!("the oracle lists an execution of {id} twice"),
            );
        }
    }
    ours
}

/// Every answer of success has its order with the answer's terms, no refused order exists, and no two orders have one
/// client order id.
fn compare_posted(index: usize, view: &AccountView, verdict: &mut Verdict) {
    let mut listed: HashMap<&str, &OrderEntity> = HashMap::new();
    for order in &view.orders {
        if let Some(first) = listed.insert(&order.client_order_id, order) {
            let text = format!("account {index}: {} is orders {} and {}", order.client_order_id, first.id, order.id);
            verdict.breach(Invariant::I1, Kind::Duplicated, Some(order.id), text);
        }
    }
    let mut posted = BTreeSet::new();
    for (order, placed) in &view.posted {
        verdict.tally.orders += 1;
        posted.insert(order.client_order_id.as_str());
        let name = format!("account {index}: {}", order.client_order_id);
        match (placed, listed.get(order.client_order_id.as_str())) {
            (Placed::Accepted(id), None) => {
                verdict.breach(Invariant::I1, Kind::Lost, Some(*id), format!("{name} was accepted as {id} and is gone"))
            }
            (Placed::Accepted(id), Some(found)) if found.id != *id => {
                verdict.breach(
                    Invariant::I1,
                    Kind::Duplicated,
                    Some(*id),
                    format!("{name} was accepted as {id} and is listed as {}", found.id),
                );
            }
            (Placed::Accepted(_), Some(found)) if !same_terms(order, found) => {
                verdict.breach(
                    Invariant::I1,
                    Kind::Wrong,
                    Some(found.id),
                    format!("{name} was accepted with other terms than {}", found.id),
                );
            }
            (Placed::Refused { status, .. }, Some(found)) => {
                verdict.breach(
                    Invariant::I1,
                    Kind::Wrong,
                    Some(found.id),
                    format!("{name} was refused with {status} and exists as {}", found.id),
                );
            }
            (Placed::Unknown(why), _) => {
                verdict.breach(Invariant::I1, Kind::Unsettled, None, format!("{name} was never answered: {why}"))
            }
            (Placed::Refused { .. }, None) => verdict.tally.rejected += 1,
            (Placed::Accepted(_), Some(_)) => {}
        }
    }
    for order in view.orders.iter().filter(|order| !posted.contains(order.client_order_id.as_str())) {
        verdict.breach(
            Invariant::I1,
            Kind::Wrong,
            Some(order.id),
            format!("account {index}: nobody posted {}", order.client_order_id),
        );
    }
}

fn same_terms(order: &Order, found: &OrderEntity) -> bool {
    order.symbol == found.symbol
        && Some(order.qty) == found.qty
        && order.side == found.side.as_str()
        && order.order_type == found.order_type.as_str()
        && order.time_in_force == found.time_in_force.as_str()
        && order.limit_price == found.limit_price
}

/// One order against the broker's.
fn compare_order(index: usize, order: &OrderEntity, broker: Option<&BrokerOrder>, verdict: &mut Verdict) {
    let name = format!("account {index}: order {} ({})", order.id, order.status.as_str());
    let filled = broker.map_or(Decimal::ZERO, executed);
    if order.filled_qty < filled {
        verdict.breach(
            Invariant::I3,
            Kind::Lost,
            Some(order.id),
            format!("{name}: filled {} of the broker's {filled}", order.filled_qty),
        );
    } else if order.filled_qty > filled {
        verdict.breach(
            Invariant::I3,
            Kind::Duplicated,
            Some(order.id),
            format!("{name}: filled {}, the broker has {filled}", order.filled_qty),
        );
    }
    let status = broker.map(|order| order.status.as_str());
    match (&order.status, status) {
        (OrderStatus::Filled, Some("filled")) => verdict.tally.filled += 1,
        // Its last trade was told after its end: all of it was traded, whatever the broker goes on calling it.
        (OrderStatus::Filled, Some("canceled" | "expired")) if broker.is_some_and(is_traded_whole) => {
            verdict.tally.filled += 1;
        }
        (OrderStatus::Canceled, Some("canceled")) => verdict.tally.canceled += 1,
        (OrderStatus::Expired, Some("expired")) => verdict.tally.expired += 1,
        // Nothing at the broker: whether the gateway knows that, and from whom, its records are asked.
        (OrderStatus::Canceled | OrderStatus::Expired, None) => verdict.tally.unsent += 1,
        (OrderStatus::Rejected, None | Some("rejected")) => verdict.tally.rejected += 1,
        (ours, None) if ours.is_terminal() => {
            verdict.breach(Invariant::I6, Kind::Wrong, Some(order.id), format!("{name}: the broker never had it"));
        }
        (ours, Some(theirs)) if ours.is_terminal() => {
            verdict.breach(
                Invariant::I6,
                Kind::Wrong,
                Some(order.id),
                format!("{name}: the broker has it as {theirs}"),
            );
        }
        (_, theirs) => {
            verdict.breach(
                Invariant::I7,
                Kind::Unsettled,
                Some(order.id),
                format!("{name}: open; the broker has it as {}", theirs.unwrap_or("nothing")),
            );
        }
    }
    if let Some(broker) = broker {
        let same = broker.symbol == order.symbol
            && Some(broker.qty) == order.qty
            && broker.side == order.side.as_str()
            && broker.limit_price == order.limit_price;
        if !same {
            verdict.breach(Invariant::I2, Kind::Wrong, Some(order.id), format!("{name}: the broker has other terms"));
        }
    }
}

/// Whether as much was ever traded as was ordered.
fn is_traded_whole(order: &BrokerOrder) -> bool {
    let trades = order.reports.iter().filter(|report| report.kind == ReportKind::Trade);
    trades.map(|report| report.execution.qty).sum::<Decimal>() >= order.qty
}

fn executed(order: &BrokerOrder) -> Decimal {
    order.executions.iter().map(|execution| execution.qty).sum()
}

/// Cash, buying power and positions against deposits and the broker's executions.
fn compare_books(index: usize, view: &AccountView, ours: &BTreeMap<Uuid, &BrokerOrder>, verdict: &mut Verdict) {
    let mut cash = view.deposit;
    let mut shares: BTreeMap<&str, Decimal> = BTreeMap::new();
    for order in view.orders.iter().filter_map(|order| ours.get(&order.id)) {
        let sign = if order.side == "buy" { Decimal::ONE } else { Decimal::NEGATIVE_ONE };
        for execution in &order.executions {
            cash -= sign * execution.qty * execution.price;
            *shares.entry(order.symbol.as_str()).or_default() += sign * execution.qty;
        }
    }
    if view.account.cash != cash {
        let text = format!("account {index}: cash {}, by the broker's executions {cash}", view.account.cash);
        verdict.breach(Invariant::I3, Kind::Wrong, None, text);
    }
    let open = view.orders.iter().any(|order| !order.status.is_terminal());
    // Owed money is no buying power.
    if !open && view.account.buying_power != cash.max(Decimal::ZERO) {
        let text = format!(
            "account {index}: buying power {} beside cash {cash}, with no open order",
            view.account.buying_power
        );
        verdict.breach(Invariant::I5, Kind::Wrong, None, text);
    }
    shares.retain(|_, qty| !qty.is_zero());
    let mut held: BTreeMap<&str, Decimal> = BTreeMap::new();
    for position in &view.positions {
        if held.insert(&position.symbol, position.qty).is_some() {
            verdict.breach(
                Invariant::I3,
                Kind::Wrong,
                None,
                format!("account {index}: two positions in {}", position.symbol),
            );
        }
        if !open && position.qty_available.is_some_and(|available| available != position.qty.max(Decimal::ZERO)) {
            let text = format!("account {index}: shares of {} are held with no open order", position.symbol);
            verdict.breach(Invariant::I5, Kind::Wrong, None, text);
        }
    }
    if held != shares {
        let text = format!("account {index}: positions {held:?}, by the broker's executions {shares:?}");
        verdict.breach(Invariant::I3, Kind::Wrong, None, text);
    }
}

#[cfg(test)]
mod tests;
