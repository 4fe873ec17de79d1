//! Resting limit orders of one symbol, in price-time order.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use contracts::alpaca::Side;
use rust_decimal::Decimal;

/// Limit orders that wait for their price.
#[derive(Debug, Default)]
pub(super) struct Resting {
    buys: BTreeSet<(Decimal, usize)>,
    sells: BTreeSet<(Decimal, usize)>,
}

impl Resting {
    pub(super) fn insert(&mut self, side: &Side, limit: Decimal, order: usize) {
        self.side(side).insert((limit, order));
    }

    pub(super) fn remove(&mut self, side: &Side, limit: Decimal, order: usize) {
        self.side(side).remove(&(limit, order));
    }

    /// Orders that trade at a price: the best limit first, the older first at the same limit.
    pub(super) fn crossing(&self, price: Decimal) -> Vec<usize> {
        let mut buys: Vec<_> = self.buys.range((price, 0)..).copied().collect();
        buys.sort_by_key(|(limit, order)| (Reverse(*limit), *order));
        let sells = self.sells.range(..=(price, usize::MAX)).copied();
        buys.into_iter().chain(sells).map(|(_, order)| order).collect()
    }

    fn side(&mut self, side: &Side) -> &mut BTreeSet<(Decimal, usize)> {
        if *side == Side::Buy { &mut self.buys } else { &mut self.sells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_price_first_then_the_older() {
        let mut resting = Resting::default();
        for (order, side, limit) in
            [(0, Side::Buy, 100), (1, Side::Buy, 102), (2, Side::Buy, 102), (3, Side::Sell, 99), (4, Side::Sell, 103)]
        {
            resting.insert(&side, Decimal::from(limit), order);
        }
        assert_eq!(resting.crossing(Decimal::from(101)), [1, 2, 3]);
        assert_eq!(resting.crossing(Decimal::from(100)), [1, 2, 0, 3]);
        resting.remove(&Side::Buy, Decimal::from(102), 1);
        assert_eq!(resting.crossing(Decimal::from(104)), [3, 4]);
    }
}
