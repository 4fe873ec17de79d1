//! An order as a broker shows it, and whether it is the one that we asked for.

use contracts::event::ObservedOrder;
use contracts::{BrokerOrderId, OrderTerms};
use rust_decimal::Decimal;

/// An order in a broker's reply, in our own words. Terms are plain words and figures, since a
/// broker may show what we never ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenOrder {
    /// The broker's id.
    pub broker_order_id: BrokerOrderId,
    /// The key that the broker holds for it.
    pub key: String,
    /// The broker's own status word.
    pub status: String,
    /// Whether that word means that nothing more can happen.
    pub is_terminal: bool,
    /// Shares filled so far.
    pub cumulative_quantity: Decimal,
    /// What is traded.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: String,
    /// `market`, `limit`, …
    pub order_type: String,
    /// `day`, `gtc`, …
    pub time_in_force: String,
    /// Ordered shares; none for an order of an amount of money.
    pub quantity: Option<Decimal>,
    /// The limit, where it has one.
    pub limit_price: Option<Decimal>,
}

impl SeenOrder {
    /// The first field in which it differs from what we asked for; none when it is our order.
    #[must_use]
    pub fn difference(&self, terms: &OrderTerms) -> Option<&'static str> {
        if self.symbol != terms.symbol().as_str() {
            Some("symbol")
        } else if self.side != terms.side().as_str() {
            Some("side")
        } else if self.order_type != terms.order_type().as_str() {
            Some("order_type")
        } else if self.time_in_force != terms.time_in_force().as_str() {
            Some("time_in_force")
        } else if self.quantity != Some(terms.quantity().value()) {
            Some("quantity")
        } else if self.limit_price != terms.limit_price().map(|price| price.value()) {
            Some("limit_price")
        } else {
            None
        }
    }

    /// What other processes are told of it.
    #[must_use]
    pub fn observed(&self) -> ObservedOrder {
        ObservedOrder {
            broker_order_id: self.broker_order_id.clone(),
            status: self.status.clone(),
            cumulative_quantity: Some(self.cumulative_quantity),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use contracts::{OrderType, Price, Quantity, Side, Symbol, TimeInForce};

    pub(crate) fn terms() -> OrderTerms {
        OrderTerms::new(
            Symbol::new("AAPL").unwrap(),
            Side::Buy,
            OrderType::Limit,
            TimeInForce::Day,
            Quantity::parse("2").unwrap(),
            Some(Price::parse("10.50").unwrap()),
        )
        .unwrap()
    }

    pub(crate) fn seen() -> SeenOrder {
        SeenOrder {
            broker_order_id: BrokerOrderId::new("b-1").unwrap(),
            key: "key".to_owned(),
            status: "new".to_owned(),
            is_terminal: false,
            cumulative_quantity: Decimal::ZERO,
            symbol: "AAPL".to_owned(),
            side: "buy".to_owned(),
            order_type: "limit".to_owned(),
            time_in_force: "day".to_owned(),
            quantity: Some(Decimal::new(200, 2)),
            limit_price: Some(Decimal::new(105, 1)),
        }
    }

    #[test]
    fn terms_are_compared_by_value_and_every_difference_is_found() {
        assert_eq!(seen().difference(&terms()), None);
        let cases = [
            (SeenOrder { symbol: "MSFT".to_owned(), ..seen() }, "symbol"),
            (SeenOrder { side: "sell".to_owned(), ..seen() }, "side"),
            (SeenOrder { order_type: "market".to_owned(), ..seen() }, "order_type"),
            (SeenOrder { time_in_force: "gtc".to_owned(), ..seen() }, "time_in_force"),
            (SeenOrder { quantity: None, ..seen() }, "quantity"),
            (SeenOrder { quantity: Some(Decimal::new(3, 0)), ..seen() }, "quantity"),
            (SeenOrder { limit_price: None, ..seen() }, "limit_price"),
        ];
        for (order, field) in cases {
            assert_eq!(order.difference(&terms()), Some(field));
        }
    }
}
