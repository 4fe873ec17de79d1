//! Replacing an order's terms: a new order takes the place of the old one.

use std::sync::Arc;

use contracts::alpaca::{ApiError, OrderRequest, OrderStatus, OrderType, TimeInForce, TradeEventKind, codes, number};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Exchange;
use super::cancel::order_not_found;
use super::submit::{check_price, unknown_account};
use crate::broker::dice::Dice;
use crate::broker::fault::{Call, FaultKind, FaultSpec, Stage};
use crate::broker::journal::Record;
use crate::broker::order::Terms;
use crate::broker::reply::Reply;
use crate::broker::schedule::Action;

/// Body of a replacement. What is absent stays as it is.
#[derive(Debug, Default, Deserialize)]
struct Replacement {
    qty: Option<Box<RawValue>>,
    time_in_force: Option<TimeInForce>,
    limit_price: Option<Box<RawValue>>,
    client_order_id: Option<String>,
}

impl Exchange {
    /// `PATCH` of an order. `qty` is the new total; the new order is for what is not filled of it.
    pub fn replace(&mut self, account_id: &str, order_id: Uuid, body: &[u8]) -> Reply {
        let Some(account) = self.account(account_id) else { return unknown_account() };
        let Some(index) = self.visible_order(account_id, order_id) else { return order_not_found() };
        let Some(terms) = self.orders.get(index).map(|order| Arc::clone(&order.terms)) else {
            return order_not_found();
        };
        let attempt = self.count_call(account, terms.key(), Call::Replace);
        let fault = self.draw_request(&self.query(&terms, Call::Replace, attempt));
        self.under_fault(fault, terms.key(), |exchange| {
            exchange.request_replace(account, index, body, attempt).unwrap_or_else(|reply| reply)
        })
    }

    fn request_replace(&mut self, account: usize, index: usize, body: &[u8], attempt: u64) -> Result<Reply, Reply> {
        let Some(order) = self.orders.get(index) else { return Err(order_not_found()) };
        if !matches!(order.now.status, OrderStatus::New | OrderStatus::PartiallyFilled) {
            let message = format!("cannot replace order in {} state", order.now.status);
            return Err(Reply::error(422, codes::UNPROCESSABLE, message));
        }
        let old = Arc::clone(&order.terms);
        let request = self.replacement(account, index, body)?;
        if self.refuses_key(account, &request.client_order_id) {
            return Err(Reply::json(422, &ApiError::duplicate_client_order_id()));
        }
        let faults = self.draw_all(&self.query(&old, Call::Replace, attempt), Stage::Replace);
        let fault = faults.first().copied();
        let Ok(mut terms) = self.terms(account, &request, Vec::new(), self.clock) else {
            return Err(Reply::error(500, codes::INTERNAL, "the market calendar has no session"));
        };
        terms.replaces = Some(old.id);
        let by = self.insert(terms);
        let at = self.clock;
        if let Some(order) = self.orders.get_mut(index) {
            order.change(at, |now| now.status = OrderStatus::PendingReplace);
            let snapshot = Box::new(order.now.clone());
            self.journal.record(&Record::Change { order: index, snapshot });
        }
        if let Some(order) = self.orders.get_mut(by) {
            order.visible = true;
        }
        let reply = self.orders.get(by).map_or_else(Reply::hang_up, |order| Reply::json(200, &order.entity()));
        let delay_ms = self.config.cancel_delay_ms.max(fault.map_or(0, |fault| fault.delay_ms));
        if delay_ms == 0 {
            self.finish_replace(index, by, fault);
        } else {
            self.plan(delay_ms, Action::FinishReplace { order: index, by, fault });
        }
        Ok(reply)
    }

    /// The terms of the new order, as a request of its own.
    fn replacement(&self, account: usize, index: usize, body: &[u8]) -> Result<OrderRequest, Reply> {
        let invalid = |message: String| Reply::error(422, codes::INVALID_REQUEST, message);
        let change: Replacement = serde_json::from_slice(if body.is_empty() { b"{}" } else { body })
            .map_err(|error| invalid(format!("cannot read the replacement: {error}")))?;
        let Some(order) = self.orders.get(index) else { return Err(order_not_found()) };
        let old = &order.terms;
        let qty = decimal(change.qty.as_deref()).map_err(&invalid)?.unwrap_or(old.qty);
        let limit_price = decimal(change.limit_price.as_deref()).map_err(&invalid)?.or(old.limit_price);
        if let Some(price) = limit_price {
            check_price(price)?;
        }
        if limit_price.is_some() && old.order_type == OrderType::Market {
            return Err(invalid("market orders must not have a limit_price".to_owned()));
        }
        if qty <= order.traded || (qty != old.qty && !qty.fract().is_zero()) {
            return Err(Reply::error(422, codes::UNPROCESSABLE, "qty must be whole and above what is filled"));
        }
        let time_in_force = change.time_in_force.unwrap_or_else(|| old.time_in_force.clone());
        if !matches!(time_in_force, TimeInForce::Day | TimeInForce::Gtc) {
            return Err(invalid("invalid time_in_force".to_owned()));
        }
        let named = change.client_order_id.filter(|key| !key.is_empty());
        let number = self.orders_of_key(account, old.key()) as u64;
        let made = || Dice::new(self.config.seed, "replacement", &old.id.to_string(), number).uuid().to_string();
        Ok(OrderRequest {
            symbol: old.symbol.clone(),
            qty: qty - order.traded,
            side: old.side.clone(),
            order_type: old.order_type.clone(),
            time_in_force,
            limit_price,
            client_order_id: named.unwrap_or_else(made),
            extended_hours: false,
            valid_until: None,
        })
    }

    /// The replacement takes effect, unless the old order ended first or a fault is in its way.
    pub(super) fn finish_replace(&mut self, index: usize, by: usize, fault: Option<FaultSpec>) {
        let Some(old) = self.orders.get(index).map(|order| Arc::clone(&order.terms)) else { return };
        if let Some(fault) = fault {
            self.strike(&fault, old.key());
            if fault.kind == FaultKind::FillBeforeReplace {
                let remaining = self.orders.get(index).map_or(Decimal::ZERO, |order| order.remaining());
                self.execute(index, remaining, self.trade_price(index));
            }
        }
        if self.is_open(index) && self.is_open(by) && fault.is_none() {
            self.hand_over(index, by, &old);
            return;
        }
        self.work_on(index);
        self.emit(index, TradeEventKind::OrderReplaceRejected, None);
        self.reject_replacement(by);
    }

    /// A replacement that came to nothing ends, unless it was cancelled before.
    pub(super) fn reject_replacement(&mut self, by: usize) {
        if self.is_open(by) {
            self.end(by, OrderStatus::Rejected);
            self.emit(by, TradeEventKind::Rejected, None);
        }
    }

    fn hand_over(&mut self, index: usize, by: usize, old: &Terms) {
        let (at, new_id) = (self.clock, self.orders.get(by).map(|order| order.terms.id));
        if let Some(order) = self.orders.get_mut(index) {
            order.change(at, |now| {
                now.status = OrderStatus::Replaced;
                now.replaced_at = Some(at);
                now.replaced_by = new_id;
            });
        }
        self.close(index);
        tracing::debug!(old = %old.id, "an order was replaced");
        self.emit(index, TradeEventKind::Replaced, None);
        self.acknowledge(by);
        self.begin_trading(by);
    }
}

/// Reads a number from its literal text.
fn decimal(raw: Option<&RawValue>) -> Result<Option<Decimal>, String> {
    let Some(text) = raw.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    number::parse(text.trim_matches('"')).map(Some).map_err(|error| error.to_string())
}
