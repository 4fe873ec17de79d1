//! What can go wrong, when it was asked to, and how often it really did.
//!
//! A fault is asked for in three ways, whatever its kind: for single orders, named in advance
//! ([`FaultRule`] with a client order id); by a probability, drawn from the seed, the order and the
//! attempt alone (the tables of [`super::config::SimConfig`], or a rule with a probability); and for a
//! span of time (a rule with `from` and `until`). Every strike is written down.

mod book;
mod kind;
mod ledger;
mod rule;
#[cfg(test)]
mod tests;

pub(super) use book::{FaultBook, Query};
pub use kind::{Call, FaultKind, Stage};
pub use ledger::{RuleTally, Strike, Tally};
pub use rule::{FaultRule, FaultSpec, RuleError, Selector, TooManyFaults};
