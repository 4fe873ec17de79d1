//! Which orders a load consists of: each has a number, from which everything about it follows.

use rust_decimal::Decimal;

use crate::broker::universe::INSTRUMENTS;
use crate::drill::trader::{Order, Trader};

/// Limit prices lie this far above the price at which the instrument starts, so that the broker fills them at once.
const LIMIT_OF_START: Decimal = Decimal::from_parts(105, 0, 0, false, 2);
/// Orders are for 1 to this many shares.
const SHARES_MAX: u64 = 10;
/// A large odd number: its multiples spread over the accounts without a pattern.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
const SPREAD_SHIFT: u32 = 33;

/// The accounts of a load and the orders that they post.
#[derive(Debug)]
pub struct OrderBook {
    traders: Vec<Trader>,
    run: String,
}

impl OrderBook {
    /// The orders of these accounts. `run` begins each client order id.
    #[must_use]
    pub fn new(traders: Vec<Trader>, run: String) -> Self {
        Self { traders, run }
    }

    /// The accounts.
    #[must_use]
    pub fn traders(&self) -> &[Trader] {
        &self.traders
    }

    /// The account and the terms of the order with a number; none where there is no account.
    #[must_use]
    pub fn order(&self, number: u64) -> Option<(&Trader, Order)> {
        let spread = number.wrapping_mul(SPREAD) >> SPREAD_SHIFT;
        let index = usize::try_from(spread).ok()?.checked_rem(self.traders.len())?;
        let trader = self.traders.get(index)?;
        let count = u64::try_from(INSTRUMENTS.len()).ok()?;
        let instrument = INSTRUMENTS.get(usize::try_from(number % count).ok()?)?;
        let order = Order {
            client_order_id: format!("{}-{number}", self.run),
            symbol: instrument.symbol.to_owned(),
            qty: Decimal::from(number % SHARES_MAX + 1),
            side: "buy",
            order_type: "limit",
            time_in_force: "day",
            limit_price: Some((Decimal::new(instrument.start_cents, 2) * LIMIT_OF_START).round_dp(2)),
        };
        Some((trader, order))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::stack::ApiKey;

    fn book(accounts: usize) -> OrderBook {
        let trader = |index| {
            let key = ApiKey { key_id: "k".to_owned(), secret_key: "s".to_owned() };
            Trader::new(index, Decimal::ONE, key, "http://127.0.0.1:1".to_owned(), reqwest::Client::new())
        };
        platform::tls::install_crypto_provider();
        OrderBook::new((0..accounts).map(trader).collect(), "r".to_owned())
    }

    #[test]
    fn every_number_is_another_order_and_every_account_gets_its_share() {
        let book = book(100);
        let orders: Vec<_> = (0..10_000).filter_map(|number| book.order(number)).collect();
        let ids: BTreeSet<_> = orders.iter().map(|(_, order)| order.client_order_id.clone()).collect();
        assert_eq!(ids.len(), 10_000);
        for index in 0..100 {
            let share = orders.iter().filter(|(trader, _)| trader.index == index).count();
            assert!((50..200).contains(&share), "account {index} has {share} of 10000 orders");
        }
    }

    #[test]
    fn a_number_always_means_the_same_order() {
        let book = book(7);
        assert_eq!(book.order(41).map(|(_, order)| order), book.order(41).map(|(_, order)| order));
        assert!(OrderBook::new(Vec::new(), String::new()).order(1).is_none());
    }
}
