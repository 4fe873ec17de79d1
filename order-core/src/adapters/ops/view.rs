//! Accounts and orders as operators see them: every bucket and every fact.

use crate::application::query::{AccountView, PositionView};
use crate::domain::account::{AccountStatus, Balance};
use crate::domain::facts::{BrokerEnd, Submit};
use crate::domain::order::Order;
use contracts::decimal::plain;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

fn balance(balance: &Balance) -> Value {
    json!({
        "available": plain(balance.available),
        "held": plain(balance.held),
        "shortfall": plain(balance.shortfall),
    })
}

fn time(at: OffsetDateTime) -> Option<String> {
    at.format(&Rfc3339).ok()
}

/// An account without its holdings.
pub(super) fn account_line(account: &AccountView) -> Value {
    json!({
        "account_id": account.id,
        "account_number": account.number,
        "status": if account.status == AccountStatus::Active { "active" } else { "closed" },
        "halt_reason": account.halt_reason,
        "currency": account.currency,
        "created_at": time(account.created_at),
        "cash": balance(&account.cash),
    })
}

/// An account with its cash and holdings.
pub(super) fn account(account: &AccountView, positions: &[PositionView]) -> Value {
    let positions: Vec<_> = positions
        .iter()
        .map(|view| {
            json!({
                "symbol": view.asset.symbol,
                "shares": balance(&view.position.shares),
                "cost_basis": plain(view.position.cost_basis),
            })
        })
        .collect();
    let mut view = account_line(account);
    if let Some(fields) = view.as_object_mut() {
        fields.insert("positions".to_owned(), positions.into());
    }
    view
}

/// An order with its facts.
pub(super) fn order(order: &Order) -> Value {
    let (facts, terms) = (&order.facts, &order.terms);
    json!({
        "order_id": order.id,
        "account_id": order.account_id,
        "client_order_id": order.client_order_id,
        "partition": order.partition(),
        "status": order.status().as_str(),
        "reason": order.reason,
        "terms": terms,
        "hold_price": plain(order.hold_price),
        "hold": {"cash": plain(order.hold.cash), "shares": plain(order.hold.shares)},
        "commission": plain(order.commission),
        "overfill": plain(order.overfill()),
        "broker": order.broker,
        "broker_order_id": order.broker_order_id,
        "facts": {
            "submit": Submit::as_str(facts.submit),
            "manual": facts.manual,
            "cancel_requests": facts.cancel_requests,
            "cancels_refused": facts.cancels_refused,
            "broker_end": facts.broker_end.map(BrokerEnd::as_str),
            "broker_end_quantity": facts.broker_end_quantity.map(plain),
            "executed": {
                "gross_quantity": plain(facts.executed.gross_quantity),
                "net_quantity": plain(facts.executed.net_quantity),
                "net_notional": plain(facts.executed.net_notional),
            },
        },
        "accepted_at": time(order.times.accepted),
        "updated_at": time(order.times.updated),
        "cancel_requested_at": order.times.cancel_requested.and_then(time),
        "ended_at": order.times.ended.and_then(time),
    })
}
