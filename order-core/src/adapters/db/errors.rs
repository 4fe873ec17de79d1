//! Errors of reads that no batch depends on.

use crate::application::query::QueryError;

/// A read that the database did not answer.
pub(super) fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> QueryError {
    move |source| QueryError::Store { what, source: Box::new(source) }
}

/// A stored row that is not valid.
pub(super) fn corrupt(what: &'static str, detail: impl std::fmt::Display) -> QueryError {
    QueryError::Corrupt { what, detail: detail.to_string() }
}
