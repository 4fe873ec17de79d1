//! Faults that were asked for by an operator.

use contracts::alpaca::Side;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;

use super::book::Query;
use super::kind::{Call, FaultKind};
use crate::broker::config::Probability;
use crate::broker::dice::Dice;

/// One fault with its particulars, as it is going to strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpec {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How long it takes, where it takes time, in milliseconds.
    pub delay_ms: u64,
    /// Whether the request is carried out, for kinds that leave it open.
    pub effect: bool,
    /// The rule that asked for it; none where it was drawn from the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<u64>,
    /// The attempt that it strikes, from 1.
    #[serde(default)]
    pub attempt: u64,
}

impl FaultSpec {
    /// A fault of an operator.
    #[must_use]
    pub const fn new(kind: FaultKind, delay_ms: u64, effect: bool) -> Self {
        Self { kind, delay_ms, effect, rule: None, attempt: 0 }
    }
}

/// Which orders a rule is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Orders of this symbol only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Orders of this side only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Orders of exactly this quantity only.
    #[serde(default, with = "rust_decimal::serde::str_option", skip_serializing_if = "Option::is_none")]
    pub qty: Option<Decimal>,
    /// Also later attempts of an order, not just its first. Unless said: only where the rule has a
    /// span of time or a probability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_attempt: Option<bool>,
}

/// A fault that waits for its orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// Its number.
    pub id: u64,
    /// The one order that it is for; otherwise `match` says which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// Which orders it is for.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Which call of theirs.
    pub on: Call,
    /// What goes wrong.
    pub fault: FaultSpec,
    /// How many more times; as often as it fits where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// How likely it strikes what it fits, drawn from the seed, the order and the attempt.
    #[serde(default = "certain")]
    pub probability: Probability,
    /// Not before.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub from: Option<OffsetDateTime>,
    /// Not from then on.
    #[serde(default, with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub until: Option<OffsetDateTime>,
}

fn certain() -> Probability {
    Probability::from_millionths(Probability::CERTAIN)
}

/// A rule that can never strike, or would strike without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Both targets, or none.
    #[error("exactly one of client_order_id and match is required")]
    Target,
    /// The kind does not go with the call.
    #[error("this fault cannot happen on that call")]
    Misplaced,
    /// Zero times.
    #[error("times must be at least 1")]
    Never,
    /// Nothing ends it.
    #[error("times is required where there is neither a span of time nor a probability")]
    Endless,
    /// An empty span.
    #[error("the span of time ends before it begins")]
    EmptySpan,
}

/// There are too many faults waiting already.
#[derive(Debug, thiserror::Error)]
#[error("too many pending faults")]
pub struct TooManyFaults;

impl FaultRule {
    /// One fault, once, for one order.
    #[must_use]
    pub fn once(client_order_id: &str, on: Call, fault: FaultSpec) -> Self {
        Self {
            id: 0,
            client_order_id: Some(client_order_id.to_owned()),
            selector: None,
            on,
            fault,
            times: Some(1),
            probability: certain(),
            from: None,
            until: None,
        }
    }

    /// Checks that it can strike, and ends.
    ///
    /// # Errors
    /// [`RuleError`] names the first thing that is wrong.
    pub fn check(&self) -> Result<(), RuleError> {
        if self.client_order_id.is_some() == self.selector.is_some() {
            return Err(RuleError::Target);
        }
        if !self.fault.kind.strikes(self.on) {
            return Err(RuleError::Misplaced);
        }
        if self.times == Some(0) || self.probability == Probability::default() {
            return Err(RuleError::Never);
        }
        if self.times.is_none() && !self.is_open_ended() {
            return Err(RuleError::Endless);
        }
        match (self.from, self.until) {
            (Some(from), Some(until)) if until <= from => Err(RuleError::EmptySpan),
            _ => Ok(()),
        }
    }

    /// Whether a span of time or a probability bounds it, rather than a number.
    fn is_open_ended(&self) -> bool {
        self.until.is_some() || self.probability != certain()
    }

    /// Whether it can never strike again.
    pub(super) fn is_over(&self, now: OffsetDateTime) -> bool {
        self.times == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    /// Whether it strikes this call.
    pub(super) fn strikes(&self, seed: u64, query: &Query<'_>) -> bool {
        self.on == query.call
            && !self.is_over(query.at)
            && self.from.is_none_or(|from| query.at >= from)
            && self.selector.as_ref().is_none_or(|selector| self.selects(selector, query))
            && self.is_drawn(seed, query)
    }

    fn selects(&self, selector: &Selector, query: &Query<'_>) -> bool {
        let every_attempt = selector.every_attempt.unwrap_or_else(|| self.times.is_none());
        (every_attempt || query.attempt == 1)
            && selector.symbol.as_deref().is_none_or(|symbol| symbol == query.symbol)
            && selector.side.as_ref().is_none_or(|side| side == query.side)
            && selector.qty.is_none_or(|qty| qty == query.qty)
    }

    fn is_drawn(&self, seed: u64, query: &Query<'_>) -> bool {
        self.probability == certain()
            || Dice::new(seed, self.fault.kind.as_str(), query.key, query.attempt).hits(self.probability)
    }
}
