//! The faults that wait, and which of them strike a call.

use std::collections::{BTreeMap, HashMap};

use contracts::alpaca::Side;
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::kind::{Call, FaultKind, Stage};
use super::ledger::{Ledger, RuleTally, Strike, Tally};
use super::rule::{FaultRule, FaultSpec, TooManyFaults};
use crate::broker::config::SimConfig;
use crate::broker::dice::Dice;

/// Most faults that can wait for their order.
const PENDING_MAX: usize = 100_000;
/// Most of them that are not bound to one client order id: they are tried one by one.
const PENDING_MATCHES_MAX: usize = 1_000;

/// What is known of a call when its faults are drawn.
#[derive(Debug)]
pub(in crate::broker) struct Query<'a> {
    pub(in crate::broker) call: Call,
    pub(in crate::broker) key: &'a str,
    pub(in crate::broker) symbol: &'a str,
    pub(in crate::broker) side: &'a Side,
    pub(in crate::broker) qty: Decimal,
    /// 1 for the first call of its kind with this key.
    pub(in crate::broker) attempt: u64,
    pub(in crate::broker) at: OffsetDateTime,
}

/// Pending faults, and the tally of those that struck.
#[derive(Debug, Default)]
pub(in crate::broker) struct FaultBook {
    next_id: u64,
    by_key: HashMap<String, Vec<FaultRule>>,
    by_key_len: usize,
    matches: Vec<FaultRule>,
    ledger: Ledger,
}

impl FaultBook {
    /// Adds a rule and answers it with its number.
    pub(in crate::broker) fn add(
        &mut self,
        mut rule: FaultRule,
        now: OffsetDateTime,
    ) -> Result<FaultRule, TooManyFaults> {
        if self.by_key_len >= PENDING_MAX || self.matches.len() >= PENDING_MATCHES_MAX {
            self.forget_ended(now);
        }
        let full = if rule.client_order_id.is_some() {
            self.by_key_len >= PENDING_MAX
        } else {
            self.matches.len() >= PENDING_MATCHES_MAX
        };
        if full {
            return Err(TooManyFaults);
        }
        rule.id = self.next_id + 1;
        self.restore(rule.clone());
        Ok(rule)
    }

    /// Adds a rule under the number that it has.
    pub(in crate::broker) fn restore(&mut self, rule: FaultRule) {
        self.next_id = self.next_id.max(rule.id);
        self.ledger.named(&rule);
        match &rule.client_order_id {
            Some(key) => {
                self.by_key_len += 1;
                self.by_key.entry(key.clone()).or_default().push(rule);
            }
            None => self.matches.push(rule),
        }
    }

    fn forget_ended(&mut self, now: OffsetDateTime) {
        self.matches.retain(|rule| !rule.is_over(now));
        for list in self.by_key.values_mut() {
            list.retain(|rule| !rule.is_over(now));
        }
        self.by_key.retain(|_, list| !list.is_empty());
        self.by_key_len = self.by_key.values().map(Vec::len).sum();
    }

    pub(in crate::broker) fn clear_pending(&mut self) {
        self.by_key.clear();
        self.by_key_len = 0;
        self.matches.clear();
    }

    /// Writes a strike down.
    pub(in crate::broker) fn strike(&mut self, spec: &FaultSpec, key: &str) -> Strike {
        self.ledger.strike(spec, key)
    }

    /// A strike that was written down before.
    pub(in crate::broker) fn struck(&mut self, strike: Strike) {
        self.ledger.struck(strike);
    }

    /// What was drawn before the last start, from a rule or from the configuration.
    pub(in crate::broker) fn restore_drawn(&mut self, kind: FaultKind, rule: Option<u64>) {
        let Some(id) = rule else { return self.ledger.drawn(kind, None) };
        let lists = std::iter::once(&mut self.matches).chain(self.by_key.values_mut());
        let found = lists.flatten().find(|rule| rule.id == id);
        if let Some(rule) = found {
            match &mut rule.times {
                Some(times) => *times = times.saturating_sub(1),
                None => self.ledger.drawn(kind, Some(id)),
            }
        }
    }

    /// How often each kind was to strike, and did.
    pub(in crate::broker) fn tallies(&self) -> &BTreeMap<FaultKind, Tally> {
        self.ledger.kinds()
    }

    pub(in crate::broker) fn rules(&self, after: u64, limit: usize) -> Vec<RuleTally> {
        self.ledger.rules(after, limit)
    }

    pub(in crate::broker) fn strikes(&self, start: u64, limit: usize) -> (u64, Vec<Strike>) {
        self.ledger.strikes(start, limit)
    }

    /// Some of the pending faults, oldest first.
    pub(in crate::broker) fn pending(&self, now: OffsetDateTime, limit: usize) -> Vec<FaultRule> {
        let all = self.by_key.values().flatten().chain(&self.matches).filter(|rule| !rule.is_over(now));
        let mut pending: Vec<_> = all.take(limit).cloned().collect();
        pending.sort_by_key(|rule| rule.id);
        pending
    }

    /// The one request fault that strikes this call, if any: one asked for, else one drawn.
    pub(in crate::broker) fn draw_request(&mut self, config: &SimConfig, query: &Query<'_>) -> Option<FaultSpec> {
        if let Some(spec) = self.take(config.seed, query, |kind| kind.stage() == Stage::Request) {
            return Some(spec);
        }
        let table = config.table(query.call);
        if table.is_empty() {
            return None;
        }
        let mut dice = Dice::new(config.seed, query.call.as_str(), query.key, query.attempt);
        let draw = dice.millionth();
        let mut upper = 0;
        for (kind, probability) in table.iter().filter(|(kind, _)| kind.stage() == Stage::Request) {
            upper += probability.millionths();
            if draw < upper {
                self.ledger.drawn(*kind, None);
                return Some(drawn(*kind, config, query, &mut dice));
            }
        }
        None
    }

    /// Whether nothing can strike such a call.
    pub(in crate::broker) fn is_quiet(&self, config: &SimConfig, call: Call) -> bool {
        self.by_key_len == 0 && self.matches.is_empty() && config.table(call).is_empty()
    }

    /// All faults of a stage that strike, each drawn on its own.
    pub(in crate::broker) fn draw_all(
        &mut self,
        config: &SimConfig,
        query: &Query<'_>,
        stage: Stage,
    ) -> Vec<FaultSpec> {
        let mut specs: Vec<FaultSpec> = Vec::new();
        if self.is_quiet(config, query.call) {
            return specs;
        }
        if self.by_key_len > 0 || !self.matches.is_empty() {
            for kind in FaultKind::ALL.iter().filter(|kind| kind.stage() == stage) {
                specs.extend(self.take(config.seed, query, |other| other == *kind));
            }
        }
        let named = specs.len();
        let mut dice = Dice::new(config.seed, stage_word(stage), query.key, query.attempt);
        for (kind, probability) in config.table(query.call).iter().filter(|(kind, _)| kind.stage() == stage) {
            let hit = dice.hits(*probability);
            let spec = drawn(*kind, config, query, &mut dice);
            if hit && !specs.iter().take(named).any(|other| other.kind == *kind) {
                self.ledger.drawn(*kind, None);
                specs.push(spec);
            }
        }
        specs.sort_by_key(|spec| spec.kind);
        specs
    }

    /// Takes the oldest pending fault of such a kind that this call is the one for.
    fn take(&mut self, seed: u64, query: &Query<'_>, wanted: impl Fn(FaultKind) -> bool) -> Option<FaultSpec> {
        let strikes = |rule: &FaultRule| wanted(rule.fault.kind) && rule.strikes(seed, query);
        if self.by_key_len > 0
            && let Some(list) = self.by_key.get_mut(query.key)
            && let Some((spec, ended)) = take_from(list, query, strikes, &mut self.ledger)
        {
            self.by_key_len -= usize::from(ended);
            if list.is_empty() {
                self.by_key.remove(query.key);
            }
            return Some(spec);
        }
        take_from(&mut self.matches, query, strikes, &mut self.ledger).map(|(spec, _)| spec)
    }
}

/// Promises and what becomes of an order are different questions about the same call.
const fn stage_word(stage: Stage) -> &'static str {
    match stage {
        Stage::Promise => "promise",
        Stage::Stream => "event",
        Stage::Push => "push",
        Stage::Replace => "replacement",
        Stage::Request | Stage::Execution | Stage::Cancel => "behaviour",
    }
}

fn drawn(kind: FaultKind, config: &SimConfig, query: &Query<'_>, dice: &mut Dice) -> FaultSpec {
    let delay_ms = dice.between(config.fault_delay_min_ms, config.fault_delay_max_ms);
    FaultSpec { kind, delay_ms, effect: dice.coin(), rule: None, attempt: query.attempt }
}

/// The first fault in a list that strikes, and whether that was its last time.
fn take_from(
    list: &mut Vec<FaultRule>,
    query: &Query<'_>,
    strikes: impl Fn(&FaultRule) -> bool,
    ledger: &mut Ledger,
) -> Option<(FaultSpec, bool)> {
    let index = list.iter().position(strikes)?;
    let rule = list.get_mut(index)?;
    let spec = FaultSpec { rule: Some(rule.id), attempt: query.attempt, ..rule.fault };
    match &mut rule.times {
        Some(times) => *times = times.saturating_sub(1),
        None => ledger.drawn(spec.kind, spec.rule),
    }
    let ended = rule.times == Some(0);
    if ended {
        list.remove(index);
    }
    Some((spec, ended))
}
