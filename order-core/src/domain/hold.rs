//! What an open order holds: always a function of what remains, recomputed after every fact,
//! never "the old hold minus a part".

use super::order::Order;
use contracts::Side;
use contracts::money::{MoneyError, bounded, round_up_to_cent};
use rust_decimal::Decimal;

/// What we charge, and how much a market order holds above the reference price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charges {
    /// Commission in hundredths of a percent of the money traded.
    pub commission_bps: Decimal,
    /// How far above the reference price a market buy holds, in hundredths of a percent.
    pub collar_bps: Decimal,
}

const BPS: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);

impl Charges {
    /// The commission on all that an order has traded: a function of the sum, so it does not depend
    /// on how the order was split into executions.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn commission(&self, notional: Decimal) -> Result<Decimal, MoneyError> {
        let product = round_up_to_cent(notional).checked_mul(self.commission_bps).ok_or(MoneyError::OutOfRange)?;
        bounded(round_up_to_cent(product / BPS))
    }

    /// The price a market buy holds by: the reference price and the collar, up to the next cent.
    ///
    /// # Errors
    /// [`MoneyError::OutOfRange`].
    pub fn collar_price(&self, reference: Decimal) -> Result<Decimal, MoneyError> {
        let product = reference.checked_mul(BPS + self.collar_bps).ok_or(MoneyError::OutOfRange)?;
        bounded(round_up_to_cent(product / BPS))
    }
}

/// What an order holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hold {
    /// Cash, for a buy.
    pub cash: Decimal,
    /// Shares, for a sell.
    pub shares: Decimal,
}

/// What an order must hold as it stands.
///
/// # Errors
/// [`MoneyError::OutOfRange`].
pub fn required(order: &Order, charges: &Charges) -> Result<Hold, MoneyError> {
    if order.status().is_terminal() {
        return Ok(Hold::default());
    }
    let leaves = order.leaves();
    match order.terms.side() {
        Side::Sell => Ok(Hold { cash: Decimal::ZERO, shares: leaves }),
        Side::Buy => {
            let open = bounded(leaves.checked_mul(order.hold_price).ok_or(MoneyError::OutOfRange)?)?;
            let all = contracts::money::add(order.facts.executed.net_notional, open)?;
            let commission = (charges.commission(all)? - order.commission).max(Decimal::ZERO);
            Ok(Hold { cash: contracts::money::add(round_up_to_cent(open), commission)?, shares: Decimal::ZERO })
        }
    }
}
