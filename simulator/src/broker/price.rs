//! Prices: a seeded random walk on whole cents, the same for the same seed and step, or recorded bars.

use rust_decimal::Decimal;

use super::bars::Bars;
use super::dice::Dice;
use super::universe::INSTRUMENTS;

/// A step moves a price by at most this part of it (1/1000), and by one cent at least.
const STEP_DIVISOR: i64 = 1_000;

/// All prices at one step.
#[derive(Debug)]
pub(super) struct PricePath {
    step: u64,
    walks: Vec<Walk>,
    bars: Bars,
}

#[derive(Debug)]
struct Walk {
    dice: Dice,
    cents: i64,
    low: i64,
    high: i64,
    /// Recorded prices are those of before the splits.
    recorded: Option<Decimal>,
    split: Decimal,
}

impl PricePath {
    /// Symbols that have bars follow them; the others walk.
    pub(super) fn new(seed: u64, bars: Bars) -> Self {
        let walks = INSTRUMENTS
            .iter()
            .enumerate()
            .map(|(index, instrument)| Walk {
                dice: Dice::new(seed, "price", instrument.symbol, 0),
                cents: instrument.start_cents,
                low: instrument.start_cents / 2,
                high: instrument.start_cents * 2,
                recorded: bars.price(index, 0),
                split: Decimal::ONE,
            })
            .collect();
        Self { step: 0, walks, bars }
    }

    /// How many steps were taken.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// Moves every price once.
    pub(super) fn advance(&mut self) {
        self.step += 1;
        for (index, walk) in self.walks.iter_mut().enumerate() {
            let reach = (walk.cents / STEP_DIVISOR).max(1);
            walk.cents = (walk.cents + walk.dice.swing(reach)).clamp(walk.low, walk.high);
            walk.recorded = self.bars.price(index, self.step).or(walk.recorded);
        }
    }

    /// The price of an instrument now.
    pub(super) fn price(&self, instrument: usize) -> Decimal {
        let Some(walk) = self.walks.get(instrument) else { return Decimal::ZERO };
        let price = walk.recorded.unwrap_or_else(|| Decimal::new(walk.cents, 2));
        if walk.split == Decimal::ONE {
            return price;
        }
        (price * walk.split).round_dp(2).max(Decimal::new(1, 2))
    }

    /// A share became `to` / `from` shares.
    pub(super) fn split(&mut self, instrument: usize, to: u32, from: u32) {
        if let Some(walk) = self.walks.get_mut(instrument) {
            walk.split = walk.split * Decimal::from(from) / Decimal::from(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_path_within_its_band() {
        let path = |seed| PricePath::new(seed, Bars::default());
        let (mut one, mut same, mut other) = (path(5), path(5), path(6));
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

    #[test]
    fn recorded_prices_come_in_their_order_and_the_last_one_stays() {
        let text = "symbol,timestamp,open,high,low,close,volume\n\
                    KO,2026-07-01T13:30:00Z,60.00,61.00,59.50,60.50,100\n\
                    KO,2026-07-01T13:31:00Z,60.50,60.75,60.25,60.25,100\n";
        let mut path = PricePath::new(1, Bars::parse(text).unwrap());
        let (ko, _) = crate::broker::universe::find("KO").unwrap();
        let mut seen = vec![path.price(ko)];
        for _ in 0..9 {
            path.advance();
            seen.push(path.price(ko));
        }
        // Up: over the low to the high. Down: over the high to the low.
        let told = [6_000, 5_950, 6_100, 6_050, 6_050, 6_075, 6_025, 6_025, 6_025, 6_025];
        assert_eq!(seen, told.map(|cents| Decimal::new(cents, 2)));
        path.split(ko, 4, 1);
        assert_eq!(path.price(ko), Decimal::new(1_506, 2));
    }
}
