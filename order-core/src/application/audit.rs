//! The invariants of this process's own books, checked in one snapshot.

use super::query::QueryError;
use async_trait::async_trait;
use serde::Serialize;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which, such as `balance_is_journal_sum`.
    pub invariant: &'static str,
    /// Where, with the figures.
    pub detail: String,
}

/// Checks the books. An empty answer is the only good one.
#[async_trait]
pub trait Audit: Send + Sync + 'static {
    /// Every violation found, at most a few hundred.
    async fn audit(&self) -> Result<Vec<Violation>, QueryError>;
}
