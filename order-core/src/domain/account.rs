//! One account's cash and shares, and the only functions that move them.

use super::journal::{Cause, Ledger, Line};
use super::update::UpdateMark;
use contracts::money::{MoneyError, add, bounded};
use contracts::{AccountId, Currency, OrderId, Symbol};
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Three buckets of one asset. Available and held are never below zero; what is missing is the
/// shortfall, above zero only while the customer owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Balance {
    /// Free to use.
    pub available: Decimal,
    /// Reserved for open orders.
    pub held: Decimal,
    /// Owed by the customer.
    pub shortfall: Decimal,
}

impl Balance {
    /// Everything together: what the customer has, negative when in debt.
    #[must_use]
    pub fn total(&self) -> Decimal {
        self.available + self.held - self.shortfall
    }
}

/// A holding of one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Position {
    /// Numbers of shares.
    pub shares: Balance,
    /// What the shares cost, for the average entry price; informative only.
    pub cost_basis: Decimal,
}

/// Whether the account may do business.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// Yes.
    Active,
    /// No more orders.
    Closed,
}

/// An account as read in one snapshot, changed by commands and facts, and written back under its
/// version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// Version that was read; every write of the account is conditional on it.
    pub version: i64,
    /// Whether it may do business.
    pub status: AccountStatus,
    /// Why an operator has stopped its new orders, if one has.
    pub halt_reason: Option<String>,
    /// Currency of its cash.
    pub currency: Currency,
    /// Its cash.
    pub cash: Balance,
    /// Its shares, at least those that the work at hand needs.
    pub positions: BTreeMap<Symbol, Position>,
    /// The last update that its owner was told.
    pub last_update: UpdateMark,
}

/// What moves: the account's cash, or a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved<'a> {
    /// Cash in the account's currency.
    Cash,
    /// Shares of a symbol.
    Shares(&'a Symbol),
}

/// For which order and why, and the lines written so far.
#[derive(Debug)]
pub struct Posting<'a> {
    /// For which order, if any.
    pub order_id: Option<OrderId>,
    /// Why.
    pub cause: Cause,
    /// Lines, in order.
    pub lines: &'a mut Vec<Line>,
}

impl Account {
    /// The balance of an asset.
    #[must_use]
    pub fn balance(&self, what: Moved<'_>) -> Balance {
        match what {
            Moved::Cash => self.cash,
            Moved::Shares(symbol) => self.positions.get(symbol).copied().unwrap_or_default().shares,
        }
    }

    /// Moves an amount between two ledgers and writes the line. Nothing for a zero amount.
    ///
    /// # Errors
    /// [`MoneyError::Negative`] when a customer's bucket would go below zero or the amount is
    /// negative, [`MoneyError::OutOfRange`]; nothing is changed then.
    pub fn transfer(
        &mut self,
        what: Moved<'_>,
        debit: Ledger,
        credit: Ledger,
        amount: Decimal,
        posting: &mut Posting<'_>,
    ) -> Result<(), MoneyError> {
        if amount.is_zero() {
            return Ok(());
        }
        if amount < Decimal::ZERO {
            return Err(MoneyError::Negative);
        }
        let mut balance = self.balance(what);
        shift(&mut balance, debit, -amount)?;
        shift(&mut balance, credit, amount)?;
        let asset = match what {
            Moved::Cash => {
                self.cash = balance;
                self.currency.to_string()
            }
            Moved::Shares(symbol) => {
                self.positions.entry(symbol.clone()).or_default().shares = balance;
                symbol.to_string()
            }
        };
        posting.lines.push(Line {
            account_id: self.id,
            order_id: posting.order_id,
            cause: posting.cause,
            asset,
            debit,
            credit,
            amount: bounded(amount)?,
        });
        Ok(())
    }

    /// Takes an amount for a fact that has already happened, so it cannot be refused: first from
    /// what is held for it, then from what is available, and the rest becomes a shortfall.
    ///
    /// # Errors
    /// [`MoneyError`] only when an amount leaves the range.
    pub fn take_for_fact(
        &mut self,
        what: Moved<'_>,
        amount: Decimal,
        held_for_it: Decimal,
        to: Ledger,
        posting: &mut Posting<'_>,
    ) -> Result<(), MoneyError> {
        let balance = self.balance(what);
        let from_held = amount.min(held_for_it).min(balance.held);
        let from_available = (amount - from_held).min(balance.available);
        self.transfer(what, Ledger::Held, to, from_held, posting)?;
        self.transfer(what, Ledger::Available, to, from_available, posting)?;
        self.transfer(what, Ledger::Shortfall, to, amount - from_held - from_available, posting)
    }

    /// Credits an amount: a shortfall is repaid first.
    ///
    /// # Errors
    /// [`MoneyError`] only when an amount leaves the range.
    pub fn credit(
        &mut self,
        what: Moved<'_>,
        amount: Decimal,
        from: Ledger,
        posting: &mut Posting<'_>,
    ) -> Result<(), MoneyError> {
        let repaid = amount.min(self.balance(what).shortfall);
        self.transfer(what, from, Ledger::Shortfall, repaid, posting)?;
        self.transfer(what, from, Ledger::Available, amount - repaid, posting)
    }

    /// Why the account may not open new positions, if so.
    #[must_use]
    pub fn restriction(&self) -> Option<String> {
        if self.status == AccountStatus::Closed {
            return Some("it is closed".to_owned());
        }
        self.debt()
    }

    /// What the account owes, in cash or shares, if anything. Until that is repaid its cash stays.
    #[must_use]
    pub fn debt(&self) -> Option<String> {
        if self.cash.shortfall > Decimal::ZERO {
            return Some(format!("it owes {} {}", self.cash.shortfall.normalize(), self.currency));
        }
        self.positions
            .iter()
            .find(|(_, position)| position.shares.shortfall > Decimal::ZERO)
            .map(|(symbol, position)| format!("it owes {} shares of {symbol}", position.shares.shortfall.normalize()))
    }
}

fn shift(balance: &mut Balance, ledger: Ledger, amount: Decimal) -> Result<(), MoneyError> {
    let (bucket, change) = match ledger {
        Ledger::Available => (&mut balance.available, amount),
        Ledger::Held => (&mut balance.held, amount),
        // A debit of the shortfall ledger is more debt.
        Ledger::Shortfall => (&mut balance.shortfall, -amount),
        Ledger::Clearing | Ledger::Fees | Ledger::Bank => return Ok(()),
    };
    let next = add(*bucket, change)?;
    if next < Decimal::ZERO {
        return Err(MoneyError::Negative);
    }
    *bucket = next;
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use uuid::Uuid;

    pub(crate) fn account(cash: i64) -> Account {
        Account {
            id: AccountId::new(Uuid::from_u128(1)),
            version: 1,
            status: AccountStatus::Active,
            halt_reason: None,
            currency: Currency::USD,
            cash: Balance { available: Decimal::from(cash), ..Balance::default() },
            positions: BTreeMap::new(),
            last_update: UpdateMark::START,
        }
    }

    fn posting(lines: &mut Vec<Line>) -> Posting<'_> {
        Posting { order_id: None, cause: Cause { kind: "test", id: Uuid::nil() }, lines }
    }

    #[test]
    fn a_fact_takes_the_hold_then_available_then_shortfall() {
        let mut a = account(100);
        let mut lines = Vec::new();
        let mut p = posting(&mut lines);
        a.transfer(Moved::Cash, Ledger::Available, Ledger::Held, Decimal::from(40), &mut p).unwrap();
        a.take_for_fact(Moved::Cash, Decimal::from(150), Decimal::from(40), Ledger::Clearing, &mut p).unwrap();
        assert_eq!(a.cash, Balance { available: Decimal::ZERO, held: Decimal::ZERO, shortfall: Decimal::from(50) });
        assert!(a.restriction().is_some());
        a.credit(Moved::Cash, Decimal::from(70), Ledger::Bank, &mut p).unwrap();
        assert_eq!(a.cash, Balance { available: Decimal::from(20), held: Decimal::ZERO, shortfall: Decimal::ZERO });
        assert_eq!(a.restriction(), None);
    }

    #[test]
    fn a_transfer_below_zero_changes_nothing() {
        let mut a = account(10);
        let before = a.clone();
        let mut lines = Vec::new();
        let refused =
            a.transfer(Moved::Cash, Ledger::Available, Ledger::Held, Decimal::from(11), &mut posting(&mut lines));
        assert_eq!(refused, Err(MoneyError::Negative));
        assert_eq!((a, lines.len()), (before, 0));
    }

    #[test]
    fn a_fact_never_takes_what_is_held_for_other_orders() {
        let mut a = account(100);
        let mut lines = Vec::new();
        let mut p = posting(&mut lines);
        a.transfer(Moved::Cash, Ledger::Available, Ledger::Held, Decimal::from(90), &mut p).unwrap();
        a.take_for_fact(Moved::Cash, Decimal::from(50), Decimal::from(20), Ledger::Clearing, &mut p).unwrap();
        assert_eq!(a.cash.held, Decimal::from(70));
        assert_eq!(a.cash.shortfall, Decimal::from(20));
    }
}
