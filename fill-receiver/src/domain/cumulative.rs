//! Fills of a broker that shows no executions, only what is filled of an order in all.
//!
//! Each increase of the cumulative quantity and amount becomes one fill, or two where its money is no product of one
//! price: the parts come to the very amount. The id is a pure function of the broker's order and the quantity that is
//! filled after it, so that the same increase is the same fill, however often and whichever way it is told.

use super::reading::{Poison, PoisonReason};
use contracts::decimal::plain;
use contracts::ids::{BrokerOrderId, ExecutionId};
use rust_decimal::{Decimal, RoundingStrategy};

/// In front of every id that is ours and not the broker's.
pub const ID_PREFIX: &str = "cumulative:";

/// Decimals of a price, as every price of ours has at most.
const PRICE_SCALE: u32 = 4;

/// Whether a broker's events tell executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionsShown {
    /// Each with an id, a quantity and a price.
    Single,
    /// Only what is filled of the order in all.
    Cumulative(Resolution),
}

/// How fine a broker's figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Resolution {
    /// Decimals to which its average prices are rounded.
    pub average_decimals: u32,
    /// Decimals of its finest fill; none where it fills whole shares.
    pub quantity_decimals: u32,
}

/// What is filled of an order in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cumulative {
    /// Shares.
    pub quantity: Decimal,
    /// Their money.
    pub amount: Decimal,
}

/// A part of an increase, which all has one price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Shares that are filled of the order in all after it.
    pub cumulative: Decimal,
    /// Its shares.
    pub quantity: Decimal,
    /// Its price.
    pub price: Decimal,
}

/// What was known of an order before the broker was asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownOrder {
    /// The broker's id.
    pub id: String,
    /// Shares that are filled of it in all.
    pub quantity: Decimal,
    /// The least of which a person was told since it last rose.
    pub fallen_to: Option<Decimal>,
    /// Events that showed less since it was last asked for.
    pub doubts: i32,
}

impl KnownOrder {
    /// Whether that is less than is known, and than a person was told.
    #[must_use]
    pub fn falls_to(&self, shown: Decimal) -> bool {
        shown < self.fallen_to.unwrap_or(self.quantity)
    }
}

/// What figures of an order mean beside those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// They are known.
    Nothing,
    /// Fewer shares: they are older than what is known, or something was taken back. The figures do not tell which.
    Less,
    /// As many shares for other money: the broker contradicts itself.
    OtherAmount,
    /// More shares: these were filled since.
    Increase(Vec<Part>),
}

impl Cumulative {
    /// From the quantity and the average price that a broker shows. The amount is exact: the product is rounded to the
    /// decimals that an amount of its fills can have. Fills may be finer than what they come to, so how fine they are
    /// is the broker's to promise, and cannot be seen in the quantity.
    ///
    /// # Errors
    /// [`Poison`] where the average is missing, or too coarse to tell the amount.
    pub fn of(quantity: Decimal, average: Option<Decimal>, resolution: Resolution) -> Result<Self, Poison> {
        if quantity.is_zero() {
            return Ok(Self::default());
        }
        let incomplete = |text: &str| Poison::new(PoisonReason::Incomplete, text);
        let average = average.ok_or_else(|| incomplete("filled, and no average price is shown"))?;
        let coarse = |text: &str| Err(Poison::new(PoisonReason::OutOfRange, text));
        if quantity.normalize().scale() > resolution.quantity_decimals {
            return coarse("the quantity is finer than the broker's fills are to be");
        }
        let scale = PRICE_SCALE.saturating_add(resolution.quantity_decimals);
        // The average is off by half its last decimal, and the amount by so much a share: that must stay below half of
        // the amount's own last decimal.
        let tells = power(scale).and_then(|unit| quantity.checked_mul(unit)).zip(power(resolution.average_decimals));
        if !tells.is_some_and(|(units, resolution)| quantity > Decimal::ZERO && units < resolution) {
            return coarse("the average price is too coarse to tell the amount");
        }
        let amount = average.checked_mul(quantity).ok_or_else(|| {
            Poison::new(PoisonReason::OutOfRange, &format!("{quantity} shares at {average} are no amount"))
        })?;
        Ok(Self { quantity, amount: amount.round_dp_with_strategy(scale, RoundingStrategy::MidpointNearestEven) })
    }

    /// What the broker has filled since `self`, where it now shows `now`.
    #[must_use]
    pub fn change(self, now: Self) -> Change {
        if now == self {
            return Change::Nothing;
        }
        if now.quantity < self.quantity {
            return Change::Less;
        }
        if now.quantity == self.quantity {
            return Change::OtherAmount;
        }
        Change::Increase(parts(self, now))
    }
}

/// The increase at the price below its average and, for what is left of the money, one unit above it.
fn parts(before: Cumulative, now: Cumulative) -> Vec<Part> {
    let (quantity, amount) = (now.quantity - before.quantity, now.amount - before.amount);
    let unit = Decimal::new(1, PRICE_SCALE);
    let average = amount.checked_div(quantity).unwrap_or_default();
    let low = average.round_dp_with_strategy(PRICE_SCALE, RoundingStrategy::ToNegativeInfinity);
    let left = amount - low * quantity;
    // So many shares cost one unit more.
    let dearer = left.checked_div(unit).unwrap_or_default().normalize();
    let at_low = quantity - dearer;
    let first = Part { cumulative: (before.quantity + at_low).normalize(), quantity: at_low.normalize(), price: low };
    let second = Part { cumulative: now.quantity.normalize(), quantity: dearer, price: low + unit };
    [first, second].into_iter().filter(|part| !part.quantity.is_zero()).collect()
}

/// Ten to that power, where it can be held.
fn power(exponent: u32) -> Option<Decimal> {
    10_i128.checked_pow(exponent).and_then(|value| Decimal::try_from_i128_with_scale(value, 0).ok())
}

/// The id of the fill after which so much is filled of the order.
///
/// # Errors
/// [`Poison`] where the broker's id of the order leaves no room.
pub fn execution_id(order: &BrokerOrderId, cumulative: Decimal) -> Result<ExecutionId, Poison> {
    ExecutionId::new(format!("{ID_PREFIX}{order}:{}", plain(cumulative)))
        .map_err(|error| Poison::new(PoisonReason::OutOfRange, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(quantity: &str, amount: &str) -> Cumulative {
        Cumulative { quantity: quantity.parse().unwrap(), amount: amount.parse().unwrap() }
    }

    const fn fine(average_decimals: u32, quantity_decimals: u32) -> Resolution {
        Resolution { average_decimals, quantity_decimals }
    }

    fn part(cumulative: &str, quantity: &str, price: &str) -> Part {
        let number = |text: &str| text.parse().unwrap();
        Part { cumulative: number(cumulative), quantity: number(quantity), price: number(price) }
    }

    #[test]
    fn an_increase_is_a_fill_and_a_repeated_or_older_figure_is_none() {
        let known = filled("3", "30.03");
        assert_eq!(known.change(known), Change::Nothing);
        assert_eq!(known.change(filled("2", "20")), Change::Less);
        assert_eq!(known.change(filled("3", "30.04")), Change::OtherAmount);
        assert_eq!(known.change(filled("5", "50.05")), Change::Increase(vec![part("5", "2", "10.01")]));
    }

    #[test]
    fn each_fall_is_told_once() {
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        let known = |fallen_to| KnownOrder { id: "b-1".to_owned(), quantity: number("5"), fallen_to, doubts: 0 };
        assert!(known(None).falls_to(number("4.5")) && known(None).falls_to(number("0")));
        assert!(!known(None).falls_to(number("5.0")) && !known(None).falls_to(number("6")));
        let told = known(Some(number("3")));
        assert!(!told.falls_to(number("3")) && !told.falls_to(number("4")));
        assert!(told.falls_to(number("2")));
    }

    #[test]
    fn identical_partials_are_two_fills() {
        let order = BrokerOrderId::new("b-1").unwrap();
        let first = filled("0", "0").change(filled("2", "20"));
        let second = filled("2", "20").change(filled("4", "40"));
        assert_eq!(first, Change::Increase(vec![part("2", "2", "10")]));
        assert_eq!(second, Change::Increase(vec![part("4", "2", "10")]));
        let id = |cumulative: i64| execution_id(&order, Decimal::from(cumulative)).unwrap();
        assert_ne!(id(2), id(4));
        assert_eq!(execution_id(&order, Decimal::new(200, 2)).unwrap(), id(2));
    }

    #[test]
    fn fills_that_were_missed_come_to_the_very_amount_in_two_parts() {
        // Two at 10.01 and one at 10.03 were never told apart.
        let change = Cumulative::default().change(filled("3", "30.05"));
        assert_eq!(change, Change::Increase(vec![part("1", "1", "10.0166"), part("3", "2", "10.0167")]));
    }

    #[test]
    fn an_average_that_cannot_tell_the_amount_is_refused_and_not_rounded() {
        let average = Some("187.123333333".parse().unwrap());
        assert_eq!(Cumulative::of(Decimal::from(3), average, fine(9, 0)).unwrap(), filled("3", "561.37"));
        for (quantity, average, resolution) in [
            ("3", None, fine(9, 0)),
            ("100000", average, fine(9, 0)),
            ("3", average, fine(4, 0)),
            // Its fills may be finer than the three shares that they came to.
            ("3", average, fine(9, 9)),
            ("3.5", average, fine(9, 0)),
        ] {
            Cumulative::of(quantity.parse().unwrap(), average, resolution).unwrap_err();
        }
        assert_eq!(Cumulative::of(Decimal::ZERO, None, fine(9, 0)), Ok(Cumulative::default()));
        let half = Cumulative::of("3.5".parse().unwrap(), average, fine(9, 1)).unwrap();
        assert_eq!(half.amount, "654.93167".parse().unwrap());
    }

    proptest! {
        /// The broker rounds its average to nine decimals, and any of its figures may be missed.
        #[test]
        fn whatever_is_seen_of_the_figures_the_fills_come_to_the_broker_s_own(
            fills in prop::collection::vec((1u32..2_000, 1u32..9_000_000, any::<bool>()), 1..12),
        ) {
            let (mut truth, mut known) = (Cumulative::default(), Cumulative::default());
            let mut booked = Cumulative::default();
            let last = fills.len() - 1;
            for (place, (quantity, price, is_seen)) in fills.into_iter().enumerate() {
                let quantity = Decimal::from(quantity);
                truth.quantity += quantity;
                truth.amount += quantity * Decimal::new(price.into(), 4);
                if !is_seen && place < last {
                    continue;
                }
                let average = (truth.amount / truth.quantity)
                    .round_dp_with_strategy(9, RoundingStrategy::MidpointNearestEven);
                let now = Cumulative::of(truth.quantity, Some(average), fine(9, 0)).unwrap();
                prop_assert_eq!(now, truth);
                let Change::Increase(parts) = known.change(now) else { panic!("no increase") };
                prop_assert!(parts.len() <= 2 && parts.iter().all(|part| part.quantity > Decimal::ZERO));
                prop_assert!(parts.iter().all(|part| part.price.scale() <= PRICE_SCALE));
                for part in parts {
                    booked.quantity += part.quantity;
                    booked.amount += part.quantity * part.price;
                    prop_assert_eq!(part.cumulative, booked.quantity);
                }
                known = now;
            }
            prop_assert_eq!(booked, truth);
        }
    }
}
