//! How often faults were to strike, and did.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::kind::{Call, FaultKind};
use super::rule::{FaultRule, FaultSpec};

/// Most rules that are remembered after they ended.
const RULES_MAX: usize = 200_000;
/// Most strikes that are remembered one by one.
const STRIKES_MAX: usize = 200_000;

/// One kind, or one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// How often it was to strike: as often as an operator named it, and as often as it was drawn.
    pub armed: u64,
    /// How often it really did.
    pub hits: u64,
}

/// One rule, also after it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleTally {
    /// Its number.
    pub id: u64,
    /// What it asked for.
    pub fault: FaultKind,
    /// On which call.
    pub on: Call,
    /// The order that it named.
    pub client_order_id: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One strike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Strike {
    /// The client order id that the client sent; empty where the call was about no order.
    pub key: String,
    /// Which attempt of it, from 1.
    pub attempt: u64,
    /// What struck.
    pub fault: FaultKind,
    /// The rule that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u64>,
}

/// Everything that was to strike, and struck.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    kinds: BTreeMap<FaultKind, Tally>,
    rules: BTreeMap<u64, RuleTally>,
    strikes: VecDeque<Strike>,
    /// Strikes that are no longer remembered one by one.
    forgotten: u64,
}

impl Ledger {
    pub(super) fn named(&mut self, rule: &FaultRule) {
        let armed = u64::from(rule.times.unwrap_or_default());
        self.kinds.entry(rule.fault.kind).or_default().armed += armed;
        let tally = RuleTally {
            id: rule.id,
            fault: rule.fault.kind,
            on: rule.on,
            client_order_id: rule.client_order_id.clone(),
            tally: Tally { armed, hits: 0 },
        };
        self.rules.insert(rule.id, tally);
        if self.rules.len() > RULES_MAX {
            self.rules.pop_first();
        }
    }

    /// Something was drawn that nobody had named in advance.
    pub(super) fn drawn(&mut self, kind: FaultKind, rule: Option<u64>) {
        self.kinds.entry(kind).or_default().armed += 1;
        if let Some(rule) = rule.and_then(|rule| self.rules.get_mut(&rule)) {
            rule.tally.armed += 1;
        }
    }

    pub(super) fn strike(&mut self, spec: &FaultSpec, key: &str) -> Strike {
        metrics::counter!("sim_faults_total", "fault" => spec.kind.as_str()).increment(1);
        let strike = Strike { key: key.to_owned(), attempt: spec.attempt, fault: spec.kind, rule: spec.rule };
        self.struck(strike.clone());
        strike
    }

    pub(super) fn struck(&mut self, strike: Strike) {
        self.kinds.entry(strike.fault).or_default().hits += 1;
        if let Some(rule) = strike.rule.and_then(|rule| self.rules.get_mut(&rule)) {
            rule.tally.hits += 1;
        }
        self.strikes.push_back(strike);
        if self.strikes.len() > STRIKES_MAX {
            self.strikes.pop_front();
            self.forgotten += 1;
        }
    }

    pub(super) fn kinds(&self) -> &BTreeMap<FaultKind, Tally> {
        &self.kinds
    }

    /// Rules after a number, in their order.
    pub(super) fn rules(&self, after: u64, limit: usize) -> Vec<RuleTally> {
        self.rules.range(after.saturating_add(1)..).take(limit).map(|(_, rule)| rule.clone()).collect()
    }

    /// Strikes from a place on, with the place of the first of them; older ones may be forgotten.
    pub(super) fn strikes(&self, start: u64, limit: usize) -> (u64, Vec<Strike>) {
        let start = start.max(self.forgotten);
        let skip = usize::try_from(start - self.forgotten).unwrap_or(usize::MAX);
        (start, self.strikes.iter().skip(skip).take(limit).cloned().collect())
    }
}
