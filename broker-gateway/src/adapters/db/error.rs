//! Rows that are not what they should be, and errors that are the data's fault.

use crate::application::ports::StoreError;
use contracts::{IdError, MoneyError, TermsError};
use thiserror::Error;

/// A stored row that does not fit its type. Checked when reading too: the schema is not the only
/// guard.
#[derive(Debug, Error)]
pub enum RowError {
    /// An id or word.
    #[error("stored id is not valid")]
    Id(#[from] IdError),
    /// A figure.
    #[error("stored figure is not valid")]
    Money(#[from] MoneyError),
    /// Terms.
    #[error("stored terms are not valid")]
    Terms(#[from] TermsError),
    /// A symbol.
    #[error("stored symbol is not valid")]
    Symbol(#[from] contracts::symbol::SymbolError),
    /// A partition.
    #[error("stored partition is not valid")]
    Partition(#[from] contracts::partition::PartitionError),
    /// A state.
    #[error("stored state is not valid")]
    State(#[from] crate::domain::state::UnknownState),
    /// Anything else.
    #[error("stored {what} is not valid")]
    Other {
        /// What.
        what: &'static str,
    },
    /// A conditional update did not meet the row as it was read.
    #[error("{actual} of {expected} requests were as they had been read")]
    Moved {
        /// Rows that should have been changed.
        expected: usize,
        /// Rows that were.
        actual: u64,
    },
}

/// Whether an error comes from the values themselves (SQLSTATE class 22 or 23), so that it would
/// come again.
fn is_data_error(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.code().map(|code| code.starts_with("22") || code.starts_with("23")))
        .unwrap_or(false)
}

/// Whether the work itself is at fault, so that trying it again cannot help.
pub(in crate::adapters) fn is_data_fault(error: &StoreError) -> bool {
    if error.is_deterministic() {
        return true;
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<sqlx::Error>().is_some_and(is_data_error) {
            return true;
        }
        source = inner.source();
    }
    false
}
