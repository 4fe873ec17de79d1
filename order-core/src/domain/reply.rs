//! Applying facts: what the gateway answered and what the broker told. Total by rule: a fact has
//! already happened, so applying it never refuses. The only error left is an amount past the range,
//! which the bounds on prices and quantities rule out for one order.

use super::account::{Account, Moved, Posting};
use super::execution::{Execution, ExecutionKind, add_up};
use super::facts::{BrokerEnd, Submit};
use super::hold::{Charges, required};
use super::journal::{Cause, Ledger, Line};
use super::order::Order;
use contracts::event::{BrokerEvent, BrokerFact, GatewayEvent, NotSentReason, ObservedOrder};
use contracts::money::MoneyError;
use contracts::{BrokerId, EventId, Side};
use rust_decimal::Decimal;
use time::OffsetDateTime;

/// Which event a fact is, when it is applied, and what we charge.
#[derive(Debug, Clone, Copy)]
pub struct FactContext {
    /// Our event's id, the cause of all that follows.
    pub event_id: EventId,
    /// What we charge.
    pub charges: Charges,
    /// Now.
    pub now: OffsetDateTime,
}

/// What applying a fact wants besides the changes to order and account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consequences {
    /// The broker ended the order without a usable count: ask it.
    pub lookup: bool,
    /// The order had ended and lives again: an alarm.
    pub reopened: bool,
    /// More was filled than ordered: an alarm.
    pub overfilled: bool,
}

/// Applies a reply of the gateway.
///
/// # Errors
/// [`MoneyError::OutOfRange`] only.
pub fn apply_gateway(
    account: &mut Account,
    order: &mut Order,
    event: &GatewayEvent,
    context: &FactContext,
    lines: &mut Vec<Line>,
) -> Result<Consequences, MoneyError> {
    let FactContext { event_id, charges, now } = *context;
    let was_terminal = order.status().is_terminal();
    let lacked_count = order.facts.end_lacks_count();
    match event {
        GatewayEvent::InDoubt { broker, .. } => {
            order.facts.raise_submit(Submit::InDoubt);
            order.broker = order.broker.take().or_else(|| broker.clone());
        }
        GatewayEvent::Acknowledged { broker, observed, .. } | GatewayEvent::Observed { broker, observed, .. } => {
            apply_observed(order, broker, observed);
        }
        GatewayEvent::Refused { message, .. } => {
            order.facts.raise_submit(Submit::Refused);
            note(order, message);
        }
        GatewayEvent::NotSent { reason: NotSentReason::CancelRequested, .. } => {
            order.facts.raise_submit(Submit::Withdrawn);
        }
        GatewayEvent::NotSent { reason: NotSentReason::Expired, .. } => order.facts.raise_submit(Submit::TimeOver),
        GatewayEvent::Manual { reason, .. } => {
            order.facts.manual = true;
            note(order, reason);
        }
        GatewayEvent::CancelRefused { request, message, .. } => {
            order.facts.cancels_refused = order.facts.cancels_refused.max(*request);
            note(order, message);
        }
        GatewayEvent::SettledAbsent { by, .. } => {
            order.facts.raise_submit(Submit::Refused);
            note(order, &format!("settled as never at the broker by {}", by.join(" and ")));
        }
    }
    let cause = Cause { kind: contracts::event::Payload::kind(event), id: event_id.as_uuid() };
    settle_hold(account, order, &charges, cause, lines)?;
    order.touch(now);
    Ok(Consequences {
        lookup: order.facts.end_lacks_count() && !lacked_count,
        reopened: was_terminal && !order.status().is_terminal(),
        overfilled: false,
    })
}

/// What a reply or a lookup showed. Its status word matters only where it is an end.
fn apply_observed(order: &mut Order, broker: &BrokerId, observed: &ObservedOrder) {
    order.facts.raise_submit(Submit::Acknowledged);
    order.broker = Some(broker.clone());
    order.broker_order_id.get_or_insert_with(|| observed.broker_order_id.clone());
    if let Some(end) = BrokerEnd::parse(&observed.status) {
        order.facts.raise_end(end, observed.cumulative_quantity);
    }
}

/// Applies a broker's event. `ledger` holds every execution of this order that is stored, the new
/// one included when the event is one; it is added up anew, so repeats and order do not matter.
///
/// # Errors
/// [`MoneyError::OutOfRange`] only.
pub fn apply_broker(
    account: &mut Account,
    order: &mut Order,
    event: &BrokerEvent,
    ledger: &[Execution],
    context: &FactContext,
    lines: &mut Vec<Line>,
) -> Result<Consequences, MoneyError> {
    let FactContext { event_id, charges, now } = *context;
    let was_terminal = order.status().is_terminal();
    let lacked_count = order.facts.end_lacks_count();
    order.facts.raise_submit(Submit::Live);
    order.broker.get_or_insert_with(|| event.broker.clone());
    order.broker_order_id.get_or_insert_with(|| event.broker_order_id.clone());
    match &event.fact {
        BrokerFact::Canceled => order.facts.raise_end(BrokerEnd::Canceled, event.cumulative_quantity),
        BrokerFact::Expired => order.facts.raise_end(BrokerEnd::Expired, event.cumulative_quantity),
        BrokerFact::Rejected { reason } => {
            order.facts.raise_end(BrokerEnd::Rejected, event.cumulative_quantity);
            note(order, reason);
        }
        // The stream does not say which request was refused; it answers the latest.
        BrokerFact::CancelRejected => order.facts.cancels_refused = order.facts.cancel_requests,
        BrokerFact::Live
        | BrokerFact::Fill { .. }
        | BrokerFact::Bust { .. }
        | BrokerFact::Correct { .. }
        | BrokerFact::Other => {}
    }
    let cause = Cause { kind: contracts::event::Payload::kind(event), id: event_id.as_uuid() };
    let was_overfilled = order.overfill() > Decimal::ZERO;
    settle_executions(account, order, ledger, &charges, cause, lines)?;
    settle_hold(account, order, &charges, cause, lines)?;
    order.touch(now);
    Ok(Consequences {
        lookup: order.facts.end_lacks_count() && !lacked_count,
        reopened: was_terminal && !order.status().is_terminal(),
        overfilled: order.overfill() > Decimal::ZERO && !was_overfilled,
    })
}

fn note(order: &mut Order, reason: &str) {
    if !reason.is_empty() {
        order.reason = Some(reason.chars().filter(|c| !c.is_control()).take(500).collect());
    }
}

/// The ledger row of an event, when it is an execution.
#[must_use]
pub fn execution_of(event: &BrokerEvent, event_id: EventId) -> Option<Execution> {
    let (execution_id, kind) = match &event.fact {
        BrokerFact::Fill { execution_id, quantity, price } => {
            (execution_id, ExecutionKind::Fill { quantity: *quantity, price: *price })
        }
        BrokerFact::Bust { execution_id, previous_execution_id } => {
            (execution_id, ExecutionKind::Bust { previous: previous_execution_id.clone() })
        }
        BrokerFact::Correct { execution_id, previous_execution_id, quantity, price } => (
            execution_id,
            ExecutionKind::Correct { previous: previous_execution_id.clone(), quantity: *quantity, price: *price },
        ),
        BrokerFact::Live
        | BrokerFact::Canceled
        | BrokerFact::Expired
        | BrokerFact::Rejected { .. }
        | BrokerFact::CancelRejected
        | BrokerFact::Other => return None,
    };
    Some(Execution { event_id, execution_id: execution_id.clone(), kind, at: event.at })
}

/// Posts the difference between what the ledger adds up to now and what was posted before.
fn settle_executions(
    account: &mut Account,
    order: &mut Order,
    ledger: &[Execution],
    charges: &Charges,
    cause: Cause,
    lines: &mut Vec<Line>,
) -> Result<(), MoneyError> {
    let before = order.facts.executed;
    let after = add_up(ledger.iter())?;
    order.facts.executed = after;
    let shares = after.net_quantity - before.net_quantity;
    let money = after.net_notional - before.net_notional;
    let commission = charges.commission(after.net_notional)?;
    let fee = commission - order.commission;
    order.commission = commission;
    let symbol = order.terms.symbol().clone();
    let mut posting = Posting { order_id: Some(order.id), cause, lines };
    // Signed by the customer's view: a buy pays money and gets shares, a sell the other way round.
    let (cash_change, share_change) = match order.terms.side() {
        Side::Buy => (-money, shares),
        Side::Sell => (money, -shares),
    };
    move_for_fact(account, Moved::Shares(&symbol), share_change, order.hold.shares, Ledger::Clearing, &mut posting)?;
    let used = move_for_fact(account, Moved::Cash, cash_change, order.hold.cash, Ledger::Clearing, &mut posting)?;
    let left = order.hold.cash - used;
    let used_for_fee = move_for_fact(account, Moved::Cash, -fee, left, Ledger::Fees, &mut posting)?;
    order.hold.cash = left - used_for_fee;
    if share_change < Decimal::ZERO {
        order.hold.shares -= order.hold.shares.min(-share_change);
    }
    update_cost(account, order, share_change, cash_change);
    Ok(())
}

/// Moves a signed amount between the customer and the house; returns how much of the order's own
/// hold it used.
fn move_for_fact(
    account: &mut Account,
    what: Moved<'_>,
    change: Decimal,
    held_for_it: Decimal,
    house: Ledger,
    posting: &mut Posting<'_>,
) -> Result<Decimal, MoneyError> {
    if change >= Decimal::ZERO {
        account.credit(what, change, house, posting)?;
        return Ok(Decimal::ZERO);
    }
    let used = (-change).min(held_for_it).min(account.balance(what).held);
    account.take_for_fact(what, -change, held_for_it, house, posting)?;
    Ok(used)
}

/// Average-cost method; informative, so a product past the range leaves the old figure.
fn update_cost(account: &mut Account, order: &Order, share_change: Decimal, cash_change: Decimal) {
    let Some(position) = account.positions.get_mut(order.terms.symbol()) else { return };
    let now = position.shares.total();
    if share_change > Decimal::ZERO {
        position.cost_basis -= cash_change.min(Decimal::ZERO);
    } else if share_change < Decimal::ZERO {
        let before = now - share_change;
        let kept = if before > Decimal::ZERO { (now / before).max(Decimal::ZERO) } else { Decimal::ZERO };
        position.cost_basis = position.cost_basis.checked_mul(kept).unwrap_or(position.cost_basis);
    }
    position.cost_basis = position.cost_basis.round_dp(4);
}

/// Brings the order's hold to what it must be: gives back what is too much, and takes again what is
/// missing (an order that lives again, a fill above the collar), as a shortfall where the customer
/// has it no more.
///
/// # Errors
/// [`MoneyError::OutOfRange`] only.
pub fn settle_hold(
    account: &mut Account,
    order: &mut Order,
    charges: &Charges,
    cause: Cause,
    lines: &mut Vec<Line>,
) -> Result<(), MoneyError> {
    let want = required(order, charges)?;
    let symbol = order.terms.symbol().clone();
    let mut posting = Posting { order_id: Some(order.id), cause, lines };
    adjust(account, Moved::Cash, order.hold.cash, want.cash, &mut posting)?;
    adjust(account, Moved::Shares(&symbol), order.hold.shares, want.shares, &mut posting)?;
    order.hold = want;
    Ok(())
}

fn adjust(
    account: &mut Account,
    what: Moved<'_>,
    have: Decimal,
    want: Decimal,
    posting: &mut Posting<'_>,
) -> Result<(), MoneyError> {
    if have >= want {
        account.credit(what, have - want, Ledger::Held, posting)
    } else {
        account.take_for_fact(what, want - have, Decimal::ZERO, Ledger::Held, posting)
    }
}
