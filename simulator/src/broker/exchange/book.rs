//! One account at the broker: its keys, its orders, its shares and its cash.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use contracts::alpaca::Side;
use rust_decimal::Decimal;

use super::Exchange;
use crate::broker::fault::Call;
use crate::broker::journal::Record;
use crate::broker::order::{Execution, ExecutionKind};
use crate::broker::profile::KeyEnforcement;

/// Most client order ids of an account that calls are counted for.
const KEYS_MAX: usize = 4_000_000;

/// How often a client order id was used, and for which orders.
#[derive(Debug, Default)]
pub(super) struct KeyEntry {
    /// Oldest first; more than one where the broker does not enforce keys.
    pub(super) orders: Vec<usize>,
    submits: u64,
    cancels: u64,
    replaces: u64,
    lookups: u64,
    lists: u64,
}

/// What an account has of one instrument.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::broker) struct Position {
    /// Shares, negative when sold short.
    pub(in crate::broker) qty: Decimal,
    /// What they cost.
    pub(in crate::broker) cost: Decimal,
}

/// The orders of one account.
#[derive(Debug)]
pub(in crate::broker) struct AccountBook {
    pub(in crate::broker) id: Arc<str>,
    pub(super) keys: HashMap<String, KeyEntry>,
    /// All orders, oldest first.
    pub(super) orders: Vec<usize>,
    pub(super) open: BTreeSet<usize>,
    pub(in crate::broker) positions: HashMap<usize, Position>,
    pub(in crate::broker) cash: Decimal,
}

impl AccountBook {
    pub(super) fn new(id: &str, cash: Decimal) -> Self {
        Self {
            id: Arc::from(id),
            keys: HashMap::new(),
            orders: Vec::new(),
            open: BTreeSet::new(),
            positions: HashMap::new(),
            cash,
        }
    }

    /// Moves shares and cash; shares that leave take their part of the cost with them.
    fn book(&mut self, instrument: usize, qty: Decimal, price: Decimal) {
        self.cash -= qty * price;
        let position = self.positions.entry(instrument).or_default();
        let grows = position.qty.is_zero() || position.qty.is_sign_positive() == qty.is_sign_positive();
        let cost = if grows { qty * price } else { qty * position.average() };
        position.qty += qty;
        position.cost = if position.qty.is_zero() { Decimal::ZERO } else { position.cost + cost };
        if position.qty.is_zero() {
            self.positions.remove(&instrument);
        }
    }
}

impl Position {
    /// What a share cost.
    pub(in crate::broker) fn average(&self) -> Decimal {
        self.cost.checked_div(self.qty).unwrap_or_default()
    }
}

impl Exchange {
    /// Counts a call with a client order id and answers its number, from 1.
    pub(super) fn count_call(&mut self, account: usize, key: &str, call: Call) -> u64 {
        if self.journal.is_kept() && !self.faults.is_quiet(&self.config, call) {
            self.journal.record(&Record::Called { account, key: key.to_owned(), call });
        }
        let Some(book) = self.accounts.get_mut(account) else { return 1 };
        if book.keys.len() >= KEYS_MAX && !book.keys.contains_key(key) {
            return 1;
        }
        let entry = book.keys.entry(key.to_owned()).or_default();
        let count = match call {
            Call::Cancel => &mut entry.cancels,
            Call::Replace => &mut entry.replaces,
            Call::Lookup => &mut entry.lookups,
            Call::List => &mut entry.lists,
            Call::Submit | Call::Stream | Call::Push => &mut entry.submits,
        };
        *count += 1;
        *count
    }

    /// The newest order under a key that can be seen, else the newest.
    pub(super) fn order_of_key(&self, account: usize, key: &str) -> Option<usize> {
        let orders = &self.accounts.get(account)?.keys.get(key)?.orders;
        let visible = orders.iter().rev().find(|index| self.orders.get(**index).is_some_and(|order| order.visible));
        visible.or(orders.last()).copied()
    }

    /// How many orders there are under a key.
    pub(super) fn orders_of_key(&self, account: usize, key: &str) -> usize {
        self.accounts.get(account).and_then(|book| book.keys.get(key)).map_or(0, |entry| entry.orders.len())
    }

    /// Whether the broker, as it promises, refuses a new order under that key.
    pub(super) fn refuses_key(&self, account: usize, key: &str) -> bool {
        let entry = self.accounts.get(account).and_then(|book| book.keys.get(key));
        let newest = entry.and_then(|entry| entry.orders.last()).and_then(|index| self.orders.get(*index));
        let Some(newest) = newest.filter(|_| self.config.key_accepted) else { return false };
        match self.config.key_enforcement {
            KeyEnforcement::Always => true,
            KeyEnforcement::Never => false,
            KeyEnforcement::Window => {
                let window = self.calendar.scaled(super::milliseconds(self.config.key_window_ms));
                self.clock < newest.terms.created_at.saturating_add(window)
            }
        }
    }

    /// Books an execution report: shares, cash, and the oracle's list.
    pub(super) fn book_execution(&mut self, index: usize, place: usize) {
        self.executions.push((index, place));
        let Some(order) = self.orders.get(index) else { return };
        let Some(execution) = order.executions.get(place) else { return };
        let sign = if order.terms.side == Side::Buy { Decimal::ONE } else { Decimal::NEGATIVE_ONE };
        let (terms, instrument) = (Arc::clone(&order.terms), order.terms.instrument());
        let taken_back: Option<Execution> =
            execution.previous.and_then(|id| order.executions.iter().find(|other| other.execution_id == id)).cloned();
        let counts = (execution.kind != ExecutionKind::Bust).then(|| execution.clone());
        let Some(account) = self.account_of(&terms).and_then(|account| self.accounts.get_mut(account)) else { return };
        if let Some(old) = taken_back {
            account.book(instrument, -old.qty * sign, old.price);
        }
        if let Some(new) = counts {
            account.book(instrument, new.qty * sign, new.price);
        }
    }

    /// Cash that open buys may still take, and shares of an instrument that open sells may.
    pub(in crate::broker) fn held(&self, account: usize, instrument: usize) -> (Decimal, Decimal) {
        let open = self.accounts.get(account).map(|book| &book.open).into_iter().flatten();
        let mut held = (Decimal::ZERO, Decimal::ZERO);
        for order in open.filter_map(|index| self.orders.get(*index)) {
            if order.terms.side == Side::Buy {
                let price = order.terms.limit_price.unwrap_or_else(|| self.path.price(order.terms.instrument()));
                held.0 += order.remaining() * price;
            } else if order.terms.instrument() == instrument {
                held.1 += order.remaining();
            }
        }
        held
    }
}
