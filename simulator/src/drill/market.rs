//! The orders that a customer of a drill thinks of, drawn from a seed.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rust_decimal::Decimal;

use super::trader::Order;
use crate::broker::universe::INSTRUMENTS;

/// Quantities are whole, or have this many decimals.
const FRACTION_SCALE: u32 = 3;

/// What kind of order comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idea {
    MarketBuy,
    LimitBuy,
    /// Far below the market, to be cancelled.
    PatientBuy,
    Sell,
    /// For more cash than there is.
    Dream,
}

/// The source of one customer's orders.
#[derive(Debug)]
pub struct Ideas {
    rng: ChaCha8Rng,
    name: String,
    count: u64,
    shares_max: i64,
    whole_shares: bool,
}

/// An order, and whether its customer will think better of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The order.
    pub order: Order,
    /// Whether it is to be cancelled soon after it was accepted.
    pub cancel: bool,
}

impl Ideas {
    /// The orders of the customer called `name`, the same for the same seed; no order is for more than `shares_max`, and
    /// none for a part of a share where that is not wanted.
    #[must_use]
    pub fn new(seed: u64, name: &str, shares_max: i64, whole_shares: bool) -> Self {
        let salt = name.bytes().fold(0_u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self { rng: ChaCha8Rng::seed_from_u64(seed ^ salt), name: name.to_owned(), count: 0, shares_max, whole_shares }
    }

    /// The next order of a customer who holds `positions`.
    pub fn next(&mut self, positions: &[(String, Decimal)]) -> Plan {
        self.count += 1;
        let idea = match self.rng.random_range(0..100) {
            0..40 => Idea::MarketBuy,
            40..60 => Idea::LimitBuy,
            60..75 => Idea::PatientBuy,
            75..97 => Idea::Sell,
            _ => Idea::Dream,
        };
        let sellable = positions.choose(&mut self.rng).cloned();
        let order = match (idea, sellable) {
            (Idea::Sell, Some((symbol, held))) => self.sell(symbol, held),
            (Idea::LimitBuy, _) => self.buy(Some(Decimal::new(105, 2))),
            (Idea::PatientBuy, _) => self.buy(Some(Decimal::new(70, 2))),
            (Idea::Dream, _) => Order { qty: Decimal::from(900_000), ..self.buy(Some(Decimal::ONE)) },
            (Idea::MarketBuy | Idea::Sell, _) => self.buy(None),
        };
        Plan { order, cancel: idea == Idea::PatientBuy || self.rng.random_ratio(1, 20) }
    }

    fn buy(&mut self, of_start: Option<Decimal>) -> Order {
        let index = self.rng.random_range(0..INSTRUMENTS.len());
        let (symbol, start_cents) =
            INSTRUMENTS.get(index).map_or(("AAPL", 10_000), |instrument| (instrument.symbol, instrument.start_cents));
        let limit_price = of_start.map(|part| (Decimal::new(start_cents, 2) * part).round_dp(2));
        self.order(symbol.to_owned(), "buy", limit_price)
    }

    fn sell(&mut self, symbol: String, held: Decimal) -> Order {
        let mut order = self.order(symbol, "sell", None);
        if held > Decimal::ZERO {
            order.qty = order.qty.min(held);
        }
        order
    }

    fn order(&mut self, symbol: String, side: &'static str, limit_price: Option<Decimal>) -> Order {
        let whole = self.rng.random_bool(0.7) || self.whole_shares;
        let qty = if whole {
            Decimal::from(self.rng.random_range(1..=self.shares_max))
        } else {
            Decimal::new(self.rng.random_range(1..=self.shares_max * 1_000), FRACTION_SCALE)
        };
        Order {
            client_order_id: format!("{}-{}", self.name, self.count),
            symbol,
            qty: qty.normalize(),
            side,
            order_type: if limit_price.is_some() { "limit" } else { "market" },
            time_in_force: if whole && self.rng.random_bool(0.3) { "gtc" } else { "day" },
            limit_price,
        }
    }

    /// A pause of up to `max_ms` milliseconds.
    pub fn pause_ms(&mut self, max_ms: u64) -> u64 {
        self.rng.random_range(0..=max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_thinks_of_the_same_orders_and_no_id_comes_twice() {
        let draw = |seed: u64| {
            let mut ideas = Ideas::new(seed, "a", 20, false);
            (0..200).map(|_| ideas.next(&[("KO".to_owned(), Decimal::from(3))]).order).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut ids: Vec<String> = draw(1).into_iter().map(|order| order.client_order_id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 200);
    }

    #[test]
    fn every_kind_of_order_comes_up_and_none_is_for_nothing() {
        let mut ideas = Ideas::new(3, "a", 20, false);
        let plans: Vec<Plan> = (0..500).map(|_| ideas.next(&[("KO".to_owned(), Decimal::from(3))])).collect();
        assert!(plans.iter().all(|plan| plan.order.qty > Decimal::ZERO));
        assert!(plans.iter().filter(|plan| plan.order.side == "sell").all(|plan| plan.order.qty <= Decimal::from(3)));
        for wanted in ["buy", "sell", "market", "limit", "day", "gtc"] {
            let has = |order: &Order| [order.side, order.order_type, order.time_in_force].contains(&wanted);
            assert!(plans.iter().any(|plan| has(&plan.order)), "{wanted}");
        }
        assert!(plans.iter().any(|plan| plan.cancel) && plans.iter().any(|plan| !plan.cancel));
    }
}
