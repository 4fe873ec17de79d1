//! Into which parts an order is filled.

use rust_decimal::Decimal;

use super::dice::Dice;

/// Decimals of the smallest part of a share.
const SCALE: u32 = 9;

/// Nano-shares in a share.
const NANOS: u64 = 1_000_000_000;

/// At most `count` random parts that add up to `qty`: whole shares of a whole quantity, else
/// nano-shares.
pub(super) fn random(qty: Decimal, count: u64, dice: &mut Dice) -> Vec<Decimal> {
    let Some((units, unit_scale)) = units(qty) else { return vec![qty] };
    let mut cuts: Vec<u64> = (1..count.min(units)).map(|_| dice.between(1, units - 1)).collect();
    cuts.push(units);
    cuts.sort_unstable();
    cuts.dedup();
    let mut parts = Vec::with_capacity(cuts.len());
    let mut start = 0;
    for cut in cuts {
        parts.push(decimal(cut - start, unit_scale));
        start = cut;
    }
    parts
}

/// Two parts of the same size, and the rest where there is one.
pub(super) fn identical(qty: Decimal) -> Vec<Decimal> {
    let Some((units, unit_scale)) = units(qty) else { return vec![qty] };
    let half = units / 2;
    if half == 0 {
        return vec![qty];
    }
    let mut parts = vec![decimal(half, unit_scale); 2];
    if units % 2 == 1 {
        parts.push(decimal(1, unit_scale));
    }
    parts
}

/// Half of a quantity, in its units; all of it where it has but one.
pub(super) fn half(qty: Decimal) -> Decimal {
    identical(qty).first().copied().unwrap_or(qty)
}

/// A quantity as a number of units, and the decimals of a unit.
fn units(qty: Decimal) -> Option<(u64, u32)> {
    let mut nanos = qty;
    nanos.rescale(SCALE);
    let nanos = u64::try_from(nanos.mantissa()).ok()?;
    if nanos % NANOS == 0 { Some((nanos / NANOS, 0)) } else { Some((nanos, SCALE)) }
}

fn decimal(units: u64, scale: u32) -> Decimal {
    Decimal::from_i128_with_scale(i128::from(units), scale).normalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_are_positive_and_add_up(nanos in 1_u64..1_000_000_000_000, count in 1_u64..5, seed: u64) {
            let qty = decimal(nanos, SCALE);
            let parts = random(qty, count, &mut Dice::new(seed, "split", "k", 0));
            prop_assert!(parts.len() as u64 <= count);
            prop_assert!(parts.iter().all(|part| *part > Decimal::ZERO));
            prop_assert_eq!(parts.iter().sum::<Decimal>(), qty);
            let twins = identical(qty);
            prop_assert_eq!(twins.iter().sum::<Decimal>(), qty);
            prop_assert!(twins.len() == 1 || twins[0] == twins[1]);
        }

        #[test]
        fn whole_quantities_split_into_whole_shares(qty in 1_i64..1_000_000, seed: u64) {
            let parts = random(Decimal::from(qty), 4, &mut Dice::new(seed, "split", "k", 0));
            prop_assert!(parts.iter().all(|part| part.fract().is_zero()));
        }
    }
}
