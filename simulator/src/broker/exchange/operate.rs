//! Operator calls.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use time::OffsetDateTime;

use super::Exchange;
use crate::broker::config::{ConfigError, SimConfig};
use crate::broker::fault::{FaultKind, FaultRule, RuleTally, Strike, Tally, TooManyFaults};
use crate::broker::journal::Record;
use crate::broker::schedule::Action;

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
        let config = self.config.merged(change)?;
        let before = std::mem::replace(&mut self.config, config);
        self.resume_trading(&before.halted);
        self.journal.record(&Record::Config(Box::new(self.config.clone())));
        Ok(&self.config)
    }

    /// Lets a fault wait for its orders, and answers its number. It must have been checked.
    ///
    /// # Errors
    /// [`TooManyFaults`] when too many wait already.
    pub fn add_fault(&mut self, rule: FaultRule) -> Result<u64, TooManyFaults> {
        let rule = self.faults.add(rule, self.clock)?;
        let id = rule.id;
        self.journal.record(&Record::Rule(Box::new(rule)));
        Ok(id)
    }

    /// Forgets the faults that still wait.
    pub fn clear_faults(&mut self) {
        self.faults.clear_pending();
        self.journal.record(&Record::RulesCleared);
    }

    /// How often each kind was to strike, and did.
    #[must_use]
    pub fn fault_tallies(&self) -> &BTreeMap<FaultKind, Tally> {
        self.faults.tallies()
    }

    /// The rules after a number, also those that ended.
    #[must_use]
    pub fn fault_rules(&self, after: u64, limit: usize) -> Vec<RuleTally> {
        self.faults.rules(after, limit)
    }

    /// The strikes from a place on, with the place of the first.
    #[must_use]
    pub fn strikes(&self, start: u64, limit: usize) -> (u64, Vec<Strike>) {
        self.faults.strikes(start, limit)
    }

    /// Faults that still wait, oldest first.
    #[must_use]
    pub fn pending_faults(&self, limit: usize) -> Vec<FaultRule> {
        self.faults.pending(self.clock, limit)
    }

    /// The time as it is now.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.clock
    }

    /// Whether the broker answers nobody.
    #[must_use]
    pub fn is_in_maintenance(&self) -> bool {
        let daily = || {
            let span = self.config.maintenance_daily?;
            Some(span.holds(self.calendar.exchange_time(self.clock).ok()?))
        };
        self.config.maintenance || daily().unwrap_or(false)
    }

    /// Market orders of symbols that were halted and are not any more trade on.
    fn resume_trading(&mut self, halted: &BTreeSet<String>) {
        let lifted = |symbol: &String| halted.contains(symbol) && !self.config.halted.contains(symbol);
        let open = self.accounts.iter().flat_map(|account| account.open.iter().copied());
        let waiting: Vec<usize> = open
            .filter(|index| {
                let order = self.orders.get(*index);
                order
                    .is_some_and(|order| order.live && order.terms.limit_price.is_none() && lifted(&order.terms.symbol))
            })
            .collect();
        for index in waiting {
            self.schedule.plan(self.clock, Action::NextPart(index));
        }
    }

    /// Places an order of somebody else and answers its client order id.
    pub fn foreign_order(&mut self, account_id: Option<&str>, symbol: &str) -> Option<String> {
        let account = match account_id {
            Some(account_id) => self.account(account_id)?,
            None => 0,
        };
        let subject = format!("foreign {}", self.orders.len());
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
