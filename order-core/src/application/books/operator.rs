//! What operators do to an account: money in and out, and its halt.

use super::Books;
use crate::application::command::{CommandError, Deposit, HaltAccount, Withdrawal};
use crate::application::operator::Action;
use crate::domain::account::{Account, Moved, Posting};
use crate::domain::journal::{Cause, Ledger};
use crate::domain::refusal::Refusal;
use contracts::AccountId;
use contracts::decimal::plain;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

impl Books {
    /// Books a deposit, once.
    ///
    /// # Errors
    /// [`CommandError::ReferenceConflict`] when the reference was used for another amount.
    pub fn deposit(&mut self, command: &Deposit) -> Result<(), CommandError> {
        let amount = command.money.amount();
        let mut account = self.account_in(command)?;
        let in_batch = self.plans.get(&command.account_id).map(|plan| plan.deposits.as_slice());
        if let Some(booked) = booked(in_batch, &self.snapshot.deposits, command) {
            return if booked == amount { Ok(()) } else { Err(CommandError::ReferenceConflict) };
        }
        let mut lines = Vec::new();
        let cause = Cause { kind: "deposit", id: command.id };
        let mut posting = Posting { order_id: None, cause, lines: &mut lines };
        account.credit(Moved::Cash, amount, Ledger::Bank, &mut posting).map_err(Refusal::from)?;
        let plan = self.plan(&account);
        plan.account = account;
        plan.lines.append(&mut lines);
        plan.deposits.push((command.reference.clone(), amount));
        plan.actions.push(moved("deposit", command));
        Ok(())
    }

    /// Books a withdrawal, once: of what is available, never of what is held.
    ///
    /// # Errors
    /// [`CommandError::ReferenceConflict`] when the reference was used for another amount;
    /// [`CommandError::Refused`] when there is less than that, the account owes something, or an event of
    /// it waits for a person, since what is available is not known then.
    pub fn withdraw(&mut self, Withdrawal(command): &Withdrawal) -> Result<(), CommandError> {
        let amount = command.money.amount();
        let mut account = self.account_in(command)?;
        let in_batch = self.plans.get(&command.account_id).map(|plan| plan.withdrawals.as_slice());
        if let Some(booked) = booked(in_batch, &self.snapshot.withdrawals, command) {
            return if booked == amount { Ok(()) } else { Err(CommandError::ReferenceConflict) };
        }
        if self.snapshot.parked.contains(&account.id) {
            return Err(Refusal::Restricted("one of its broker events waits for a person".to_owned()).into());
        }
        // Cash of an account that owes shares is what they are bought back with.
        if let Some(debt) = account.debt() {
            return Err(Refusal::Restricted(debt).into());
        }
        let available = account.cash.available;
        if amount > available {
            return Err(Refusal::InsufficientCash { available, requested: amount }.into());
        }
        let mut lines = Vec::new();
        let cause = Cause { kind: "withdrawal", id: command.id };
        let mut posting = Posting { order_id: None, cause, lines: &mut lines };
        account.transfer(Moved::Cash, Ledger::Available, Ledger::Bank, amount, &mut posting).map_err(Refusal::from)?;
        let plan = self.plan(&account);
        plan.account = account;
        plan.lines.append(&mut lines);
        plan.withdrawals.push((command.reference.clone(), amount));
        plan.actions.push(moved("withdrawal", command));
        Ok(())
    }

    /// Halts an account's new orders, or lifts that. A repeat does nothing.
    ///
    /// # Errors
    /// [`CommandError::AccountNotFound`].
    pub fn halt(&mut self, command: &HaltAccount) -> Result<(), CommandError> {
        let mut account = self.account(command.account_id).ok_or(CommandError::AccountNotFound)?.clone();
        if account.halt_reason == command.halt_reason {
            return Ok(());
        }
        account.halt_reason.clone_from(&command.halt_reason);
        let plan = self.plan(&account);
        plan.account = account;
        plan.halt_changed = true;
        plan.actions.push(Action {
            actor: command.actor.clone(),
            kind: if command.halt_reason.is_some() { "halt.set" } else { "halt.lifted" },
            account_id: Some(command.account_id),
            subject: command.account_id.to_string(),
            reason: command.reason.clone(),
            terms: String::new(),
        });
        Ok(())
    }

    /// The account that an operator moves money of, in the currency of that money.
    fn account_in(&self, command: &Deposit) -> Result<Account, CommandError> {
        let account = self.account(command.account_id).ok_or(CommandError::AccountNotFound)?;
        if account.currency != command.money.currency() {
            return Err(CommandError::CurrencyMismatch);
        }
        Ok(account.clone())
    }
}

/// What was booked under a command's reference, in this batch or before.
fn booked(
    in_batch: Option<&[(String, Decimal)]>,
    stored: &BTreeMap<(AccountId, String), Decimal>,
    command: &Deposit,
) -> Option<Decimal> {
    let mut in_batch = in_batch.unwrap_or_default().iter();
    let new = in_batch.find(|(reference, _)| *reference == command.reference).map(|(_, amount)| *amount);
    new.or_else(|| stored.get(&(command.account_id, command.reference.clone())).copied())
}

fn moved(kind: &'static str, command: &Deposit) -> Action {
    Action {
        actor: command.actor.clone(),
        kind,
        account_id: Some(command.account_id),
        subject: command.reference.clone(),
        reason: None,
        terms: format!("{} {}", plain(command.money.amount()), command.money.currency()),
    }
}
