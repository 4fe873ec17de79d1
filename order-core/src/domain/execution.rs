//! The fill ledger of one order: a set keyed by execution, signed by what voids or replaces what.

use contracts::money::{MoneyError, bounded};
use contracts::{EventId, ExecutionId, Price, Quantity};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// What kind of row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionKind {
    /// Shares were traded.
    Fill {
        /// How many.
        quantity: Quantity,
        /// At what price.
        price: Price,
    },
    /// Another row is replaced by these figures.
    Correct {
        /// The row that is replaced; it may not be here yet.
        previous: ExecutionId,
        /// How many.
        quantity: Quantity,
        /// At what price.
        price: Price,
    },
    /// Another row is void.
    Bust {
        /// The row that is void; it may not be here yet.
        previous: ExecutionId,
    },
}

/// One row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Our event's id: a pure function of the broker's identity of it.
    pub event_id: EventId,
    /// The broker's id.
    pub execution_id: ExecutionId,
    /// What it says.
    pub kind: ExecutionKind,
    /// When, by the broker's clock.
    pub at: OffsetDateTime,
}

impl Execution {
    fn figures(&self) -> Option<(Quantity, Price)> {
        match self.kind {
            ExecutionKind::Fill { quantity, price } | ExecutionKind::Correct { quantity, price, .. } => {
                Some((quantity, price))
            }
            ExecutionKind::Bust { .. } => None,
        }
    }

    fn previous(&self) -> Option<&ExecutionId> {
        match &self.kind {
            ExecutionKind::Fill { .. } => None,
            ExecutionKind::Correct { previous, .. } | ExecutionKind::Bust { previous } => Some(previous),
        }
    }
}

/// What the ledger adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Executed {
    /// Shares that were ever executed. A bust does not give leaves back, so this ignores busts.
    pub gross_quantity: Decimal,
    /// Shares that count: without busted ones, corrected ones at their last figures.
    pub net_quantity: Decimal,
    /// Their exact money.
    pub net_notional: Decimal,
}

/// Adds the ledger up. A set function: the order of the rows does not matter, nor do repeats.
///
/// # Errors
/// [`MoneyError::OutOfRange`] when the sum leaves the range of amounts.
pub fn add_up<'a>(rows: impl Iterator<Item = &'a Execution> + Clone) -> Result<Executed, MoneyError> {
    let by_id: BTreeMap<&ExecutionId, &Execution> =
        rows.clone().filter(|row| row.figures().is_some()).map(|row| (&row.execution_id, row)).collect();
    let replaced: BTreeSet<&ExecutionId> = by_id.values().filter_map(|row| row.previous()).collect();
    let busted: BTreeSet<&ExecutionId> =
        rows.filter(|row| row.figures().is_none()).filter_map(Execution::previous).collect();
    let mut sum = Executed::default();
    for (id, row) in &by_id {
        let Some((quantity, price)) = row.figures() else { continue };
        if replaced.contains(id) {
            continue;
        }
        sum.gross_quantity = bounded(sum.gross_quantity + quantity.value())?;
        if !chain_is_busted(row, &by_id, &busted) {
            sum.net_quantity = bounded(sum.net_quantity + quantity.value())?;
            sum.net_notional = contracts::money::add(sum.net_notional, price.times(quantity.value())?)?;
        }
    }
    Ok(sum)
}

/// A bust of any figure of a corrected execution voids the execution. Bounded by the number of
/// rows, so that a ring of corrections cannot hold us up.
fn chain_is_busted(
    row: &Execution,
    by_id: &BTreeMap<&ExecutionId, &Execution>,
    busted: &BTreeSet<&ExecutionId>,
) -> bool {
    let mut id = &row.execution_id;
    for _ in 0..=by_id.len() {
        if busted.contains(id) {
            return true;
        }
        match by_id.get(id).and_then(|row| row.previous()) {
            Some(previous) => id = previous,
            None => return false,
        }
    }
    false
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use uuid::Uuid;

    pub(crate) fn row(id: &str, kind: ExecutionKind) -> Execution {
        Execution {
            event_id: EventId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())),
            execution_id: ExecutionId::new(id).unwrap(),
            kind,
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    pub(crate) fn fill(id: &str, quantity: &str, price: &str) -> Execution {
        row(
            id,
            ExecutionKind::Fill { quantity: Quantity::parse(quantity).unwrap(), price: Price::parse(price).unwrap() },
        )
    }

    fn correct(id: &str, previous: &str, quantity: &str, price: &str) -> Execution {
        let previous = ExecutionId::new(previous).unwrap();
        let (quantity, price) = (Quantity::parse(quantity).unwrap(), Price::parse(price).unwrap());
        row(id, ExecutionKind::Correct { previous, quantity, price })
    }

    fn bust(id: &str, previous: &str) -> Execution {
        row(id, ExecutionKind::Bust { previous: ExecutionId::new(previous).unwrap() })
    }

    #[test]
    fn a_bust_before_its_fill_ends_like_a_bust_after_it() {
        let (f, b) = (fill("e1", "10", "5"), bust("b1", "e1"));
        let one = add_up([&f, &b].into_iter()).unwrap();
        assert_eq!(one, add_up([&b, &f].into_iter()).unwrap());
        assert_eq!(
            (one.gross_quantity, one.net_quantity, one.net_notional),
            (Decimal::TEN, Decimal::ZERO, Decimal::ZERO)
        );
        assert_eq!(add_up([&b].into_iter()).unwrap(), Executed::default());
    }

    #[test]
    fn a_correction_of_an_unseen_fill_counts_once_when_the_fill_arrives() {
        let (f, c) = (fill("e1", "10", "5"), correct("c1", "e1", "8", "6"));
        let early = add_up([&c].into_iter()).unwrap();
        assert_eq!(early, add_up([&f, &c].into_iter()).unwrap());
        assert_eq!(early.net_notional, Decimal::from(48));
    }

    #[test]
    fn a_bust_of_a_corrected_fill_voids_all_of_it() {
        let rows = [fill("e1", "10", "5"), correct("c1", "e1", "8", "6"), bust("b1", "e1")];
        assert_eq!(add_up(rows.iter()).unwrap().net_quantity, Decimal::ZERO);
    }

    #[test]
    fn repeats_do_not_count_twice_and_identical_partials_do() {
        let (one, two) = (fill("e1", "5", "10"), fill("e2", "5", "10"));
        assert_eq!(add_up([&one, &one, &two].into_iter()).unwrap().net_quantity, Decimal::TEN);
    }

    #[test]
    fn a_ring_of_corrections_ends() {
        let rows = [correct("c1", "c2", "1", "1"), correct("c2", "c1", "1", "1")];
        assert_eq!(add_up(rows.iter()).unwrap(), Executed::default());
    }
}
