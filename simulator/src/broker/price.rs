//! Seeded price paths: a random walk on whole cents, the same for the same seed and step.

use rust_decimal::Decimal;

use super::dice::Dice;
use super::universe::INSTRUMENTS;

/// A step moves a price by at most this part of it (1/1000), and by one cent at least.
const STEP_DIVISOR: i64 = 1_000;

/// All prices at one step.
#[derive(Debug)]
pub(super) struct PricePath {
    step: u64,
    walks: Vec<Walk>,
}

#[derive(Debug)]
struct Walk {
    dice: Dice,
    cents: i64,
    low: i64,
    high: i64,
}

impl PricePath {
    pub(super) fn new(seed: u64) -> Self {
        let walks = INSTRUMENTS
            .iter()
            .map(|instrument| Walk {
                dice: Dice::new(seed, "price", instrument.symbol, 0),
                cents: instrument.start_cents,
                low: instrument.start_cents / 2,
                high: instrument.start_cents * 2,
            })
            .collect();
        Self { step: 0, walks }
    }

    /// How many steps were taken.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Moves every price once.
    pub(super) fn advance(&mut self) {
        self.step += 1;
        for walk in &mut self.walks {
            let reach = (walk.cents / STEP_DIVISOR).max(1);
            walk.cents = (walk.cents + walk.dice.swing(reach)).clamp(walk.low, walk.high);
        }
    }

    /// The price of an instrument now.
    pub(super) fn price(&self, instrument: usize) -> Decimal {
        self.walks.get(instrument).map_or(Decimal::ZERO, |walk| Decimal::new(walk.cents, 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_path_within_its_band() {
        let (mut one, mut same, mut other) = (PricePath::new(5), PricePath::new(5), PricePath::new(6));
        let mut differs = false;
        for _ in 0..2_000 {
            one.advance();
            same.advance();
            other.advance();
            for (index, instrument) in INSTRUMENTS.iter().enumerate() {
                let price = one.price(index);
                assert_eq!(price, same.price(index));
                differs |= price != other.price(index);
                assert!(price >= Decimal::new(instrument.start_cents / 2, 2));
                assert!(price.scale() <= 2);
            }
        }
        assert!(differs);
    }
}
