//! The invariants of this process's own books, checked in one snapshot.

use super::query::QueryError;
use async_trait::async_trait;
use platform::invariants::{Check, Finding};
use serde::Serialize;
use uuid::Uuid;

/// What is checked, and which invariant of the system it belongs to.
pub const CHECKS: &[Check] = &[
    Check { invariant: "I3", name: "order_executed_is_ledger_sum" },
    Check { invariant: "I4", name: "balance_is_journal_sum" },
    Check { invariant: "I4", name: "journal_replay_never_overspends" },
    Check { invariant: "I5", name: "held_is_what_orders_hold" },
    Check { invariant: "I7", name: "doubt_ends_by_evidence" },
    Check { invariant: "I8", name: "nothing_is_parked" },
    platform::invariants::LOG_GAPLESS,
    Check { invariant: "I8", name: "updates_are_gapless" },
];

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which, such as `balance_is_journal_sum`.
    pub invariant: &'static str,
    /// Where, with the figures.
    pub detail: String,
    /// The account, where it is one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<Uuid>,
}

/// Checks the books. An empty answer is the only good one.
#[async_trait]
pub trait Audit: Send + Sync + 'static {
    /// Every violation found, at most a few hundred.
    async fn audit(&self) -> Result<Vec<Violation>, QueryError>;
}

/// A violation as a finding; none for one that no check is of.
#[must_use]
pub fn finding(violation: Violation) -> Option<Finding> {
    let check = CHECKS.iter().find(|check| check.name == violation.invariant)?;
    Some(Finding { check: *check, subject: violation.account_id, detail: violation.detail })
}

/// What a check of everything found. A look at some accounts must not take back what it did not see,
/// so what is no account's stands under an id that none has.
#[must_use]
pub fn findings_of_all(violations: Vec<Violation>) -> Vec<Finding> {
    let found = violations.into_iter().filter_map(finding);
    found.map(|finding| Finding { subject: finding.subject.or(Some(Uuid::max())), ..finding }).collect()
}
