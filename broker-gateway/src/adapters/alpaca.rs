//! The Alpaca Broker API dialect. Pure: writes requests, reads replies, puts every end of a call
//! into exactly one outcome class.
//!
//! A refusal counts only when it is the broker's own: a JSON body whose eight-digit code belongs to
//! its status. A bare 401 or 403 (a proxy, a gateway, a wrong key) may come from somebody who does
//! not know what the broker did, so it is an unknown outcome: the order stays in doubt until the
//! broker can be asked again, and is sent again once the key is right. The same holds for a 422
//! without such a code, and for a 404, which on a create call says nothing about the order.

mod market;
mod read;

use crate::application::ports::{CreateOrder, Dialect, DialectError};
use crate::application::wire::{Verb, WireRequest, WireResult};
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome};
use contracts::alpaca::{OrderRequest, OrderType, Side, TimeInForce};
use contracts::{BrokerKey, BrokerOrderId, OrderTerms};
use std::fmt::Write;

/// The dialect, for one omnibus account at the broker.
#[derive(Debug, Clone)]
pub struct Alpaca {
    /// Path of the account's orders.
    orders: String,
    rate_limited_is_unprocessed: bool,
    shows_key: bool,
}

impl Alpaca {
    /// The dialect for one account. `rate_limited_is_unprocessed` is the profile's word on 429.
    #[must_use]
    pub fn new(account_id: &str, rate_limited_is_unprocessed: bool) -> Self {
        let orders = format!("/v1/trading/accounts/{}/orders", segment(account_id));
        Self { orders, rate_limited_is_unprocessed, shows_key: true }
    }

    /// The dialect of a broker that takes no key of ours: an order in an answer cannot be told by its
    /// key, so it is taken for the one that the call was about. Its terms are compared all the same.
    #[must_use]
    pub fn without_keys(self) -> Self {
        Self { shows_key: false, ..self }
    }

    /// The key that an order in an answer must show.
    fn shown(&self, key: BrokerKey) -> Option<BrokerKey> {
        self.shows_key.then_some(key)
    }

    fn order(&self, verb: Verb, id: &BrokerOrderId) -> WireRequest {
        WireRequest { verb, target: format!("{}/{}", self.orders, segment(id.as_str())), body: None, traceparent: None }
    }
}

impl Dialect for Alpaca {
    fn create(&self, order: CreateOrder<'_>) -> Result<WireRequest, DialectError> {
        let body = serde_json::to_string(&body(order)).map_err(|error| DialectError(error.into()))?;
        Ok(WireRequest { verb: Verb::Post, target: self.orders.clone(), body: Some(body), traceparent: None })
    }

    fn lookup_by_key(&self, key: BrokerKey) -> WireRequest {
        let target = format!("{}:by_client_order_id?client_order_id={key}", self.orders);
        WireRequest { verb: Verb::Get, target, body: None, traceparent: None }
    }

    fn lookup_by_id(&self, id: &BrokerOrderId) -> WireRequest {
        self.order(Verb::Get, id)
    }

    fn cancel(&self, id: &BrokerOrderId) -> WireRequest {
        self.order(Verb::Delete, id)
    }

    fn read_create(&self, key: BrokerKey, result: &WireResult) -> CreateOutcome {
        read::create(self.shown(key), result, self.rate_limited_is_unprocessed)
    }

    fn read_lookup(&self, key: BrokerKey, result: &WireResult) -> LookupOutcome {
        read::lookup(self.shown(key), result)
    }

    fn read_cancel(&self, result: &WireResult) -> CancelOutcome {
        read::cancel(result)
    }

    fn broker_code(&self, result: &WireResult) -> Option<i64> {
        read::broker_code(result)
    }

    fn is_unauthorized(&self, result: &WireResult) -> bool {
        read::is_unauthorized(result)
    }
}

fn body(order: CreateOrder<'_>) -> OrderRequest {
    let terms: &OrderTerms = order.terms;
    OrderRequest {
        symbol: terms.symbol().to_string(),
        qty: terms.quantity().value(),
        side: Side::from(terms.side().as_str()),
        order_type: OrderType::from(terms.order_type().as_str()),
        time_in_force: TimeInForce::from(terms.time_in_force().as_str()),
        limit_price: terms.limit_price().map(|price| price.value()),
        client_order_id: order.key.to_string(),
        extended_hours: false,
        valid_until: order.valid_until,
    }
}

/// A text as one segment of a path.
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
