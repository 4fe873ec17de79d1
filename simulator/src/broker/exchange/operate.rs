//! Operator calls.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Exchange;
use crate::broker::config::{ConfigError, SimConfig};
use crate::broker::fault::{FaultKind, PendingFault, TooManyFaults};
use crate::broker::journal::Record;

impl Exchange {
    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &SimConfig {
        &self.config
    }

    /// Changes the named fields of the configuration.
    ///
    /// # Errors
    /// [`ConfigError`] when the result makes no sense; nothing changes then.
    pub fn configure(&mut self, change: Value) -> Result<&SimConfig, ConfigError> {
        self.config = self.config.merged(change)?;
        self.journal.record(&Record::Config(Box::new(self.config.clone())));
        Ok(&self.config)
    }

    /// Lets a fault wait for its order.
    ///
    /// # Errors
    /// [`TooManyFaults`] when too many wait already.
    pub fn add_fault(&mut self, fault: PendingFault) -> Result<u64, TooManyFaults> {
        self.faults.add(fault)
    }

    /// Forgets the faults that still wait.
    pub fn clear_faults(&mut self) {
        self.faults.clear_pending();
    }

    /// How often each kind struck.
    #[must_use]
    pub fn fault_hits(&self) -> &BTreeMap<FaultKind, u64> {
        self.faults.hits()
    }

    /// Faults that still wait, oldest first.
    #[must_use]
    pub fn pending_faults(&self, limit: usize) -> Vec<PendingFault> {
        self.faults.pending(limit)
    }

    /// Places an order of somebody else and answers its client order id.
    pub fn foreign_order(&mut self, account_id: Option<&str>, symbol: &str) -> Option<String> {
        let account = match account_id {
            Some(account_id) => self.account(account_id)?,
            None => 0,
        };
        let subject = self.generate_key(account, "foreign");
        let index = self.place_foreign(account, symbol, &subject)?;
        self.orders.get(index).map(|order| order.terms.client_order_id.clone())
    }

    /// How many orders there are.
    #[must_use]
    pub fn orders_len(&self) -> usize {
        self.orders.len()
    }

    /// How many orders are open.
    #[must_use]
    pub fn open_len(&self) -> usize {
        self.accounts.iter().map(|account| account.open.len()).sum()
    }

    /// How many actions are on their way, not counting expiries: requests, records, parts, cancels,
    /// repeats.
    #[must_use]
    pub fn unsettled_len(&self) -> usize {
        self.schedule.len()
    }

    /// How many steps the price path took.
    #[must_use]
    pub fn price_step(&self) -> u64 {
        self.path.step()
    }
}
