//! The fill ledger of one order: a set keyed by execution, signed by what voids or replaces what.

use contracts::money::{MoneyError, bounded};
use contracts::{EventId, ExecutionId, Price, Quantity};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;

/// What kind of row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
/// An execution and its corrections are one chain. What was ever executed is the largest figure of
/// the chain, since neither a bust nor a correction downward gives leaves back; what counts is its
/// last figure, and nothing when any of the chain was busted.
///
/// # Errors
/// [`MoneyError::OutOfRange`] when the sum leaves the range of amounts.
pub fn add_up<'a>(rows: impl Iterator<Item = &'a Execution>) -> Result<Executed, MoneyError> {
    let rows: BTreeMap<EventId, &Execution> = rows.map(|row| (row.event_id, row)).collect();
    let roots = Roots::of(rows.values().copied());
    let mut chains: BTreeMap<&ExecutionId, Vec<&Execution>> = BTreeMap::new();
    let mut busted: BTreeSet<&ExecutionId> = BTreeSet::new();
    for row in rows.values().copied() {
        match (&row.kind, row.previous()) {
            (ExecutionKind::Bust { .. }, Some(previous)) => {
                busted.insert(roots.root(previous));
            }
            _ => chains.entry(roots.root(&row.execution_id)).or_default().push(row),
        }
    }
    let mut sum = Executed::default();
    for (root, chain) in chains {
        let figures = || chain.iter().filter_map(|row| row.figures());
        let most = figures().map(|(quantity, _)| quantity.value()).max().unwrap_or_default();
        sum.gross_quantity = bounded(sum.gross_quantity + most)?;
        let Some((quantity, price)) = last(&chain).and_then(Execution::figures) else { continue };
        if !busted.contains(root) {
            sum.net_quantity = bounded(sum.net_quantity + quantity.value())?;
            sum.net_notional = contracts::money::add(sum.net_notional, price.times(quantity.value())?)?;
        }
    }
    Ok(sum)
}

/// The row of a chain that no other corrects. Of several (two corrections of one row, or a ring) the
/// latest by the broker's clock.
fn last<'a>(chain: &[&'a Execution]) -> Option<&'a Execution> {
    let is_corrected = |row: &Execution| {
        chain.iter().any(|other| {
            let same_id = other.execution_id == row.execution_id;
            other.event_id != row.event_id
                && other.previous() == Some(&row.execution_id)
                // A correction may carry the id of what it corrects; it does not correct itself.
                && !(same_id && row.previous().is_some())
        })
    };
    let key = |row: &&&Execution| (row.at, row.event_id);
    chain.iter().filter(|row| !is_corrected(row)).max_by_key(key).or_else(|| chain.iter().max_by_key(key)).copied()
}

/// Which execution each correction goes back to.
struct Roots<'a>(BTreeMap<&'a ExecutionId, &'a ExecutionId>);

impl<'a> Roots<'a> {
    fn of(rows: impl Iterator<Item = &'a Execution>) -> Self {
        let corrections = rows.filter(|row| row.figures().is_some());
        let links = corrections.filter_map(|row| Some((&row.execution_id, row.previous()?)));
        Self(links.filter(|(id, previous)| id != previous).collect())
    }

    /// Bounded by the number of links, so that a ring of corrections cannot hold us up; a ring's
    /// root is its smallest id.
    fn root(&self, id: &'a ExecutionId) -> &'a ExecutionId {
        let (mut at, mut smallest) = (id, id);
        for _ in 0..=self.0.len() {
            match self.0.get(at) {
                Some(previous) => at = previous,
                None => return at,
            }
            smallest = smallest.min(at);
        }
        smallest
    }
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
        let both = add_up([&f, &c].into_iter()).unwrap();
        assert_eq!((early.net_quantity, early.net_notional), (both.net_quantity, both.net_notional));
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
    fn a_ring_of_corrections_ends_and_counts_once() {
        let rows = [correct("c1", "c2", "1", "1"), correct("c2", "c1", "1", "1")];
        assert_eq!(add_up(rows.iter()).unwrap().net_quantity, Decimal::ONE);
    }

    #[test]
    fn a_correction_downward_gives_no_leaves_back() {
        let rows = [fill("e1", "10", "5"), correct("c1", "e1", "8", "5")];
        let sum = add_up(rows.iter()).unwrap();
        assert_eq!((sum.gross_quantity, sum.net_quantity), (Decimal::TEN, Decimal::from(8)));
    }

    #[test]
    fn a_correction_under_the_same_id_replaces_the_fill_and_never_erases_it() {
        let f = fill("e1", "10", "5");
        let mut c = correct("e1", "e1", "8", "5");
        c.event_id = EventId::new(Uuid::from_u128(77));
        for rows in [vec![&f, &c], vec![&c, &f], vec![&c]] {
            assert_eq!(add_up(rows.into_iter()).unwrap().net_quantity, Decimal::from(8));
        }
    }
}
