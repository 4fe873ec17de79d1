//! The database of the order server. All SQL of this crate lives below here.

mod actions;
mod admin;
mod at_once;
mod audit;
mod entries;
mod errors;
#[cfg(oor_without_version_check)]
mod mutant;
mod operations;
mod operators;
mod order_list;
mod parked;
mod queries;
mod read;
mod rows;
mod story;
mod transaction;
mod updates;
mod write;

pub use transaction::{PgStore, PgTransaction};

use crate::application::store::StoreError;

/// Sorts a database error by what may be concluded from it: class 22 and 23 are the data's fault.
fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |error| {
        let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned));
        let is_data = code.is_some_and(|code| code.starts_with("22") || code.starts_with("23"));
        let source = Box::new(error);
        if is_data { StoreError::Data { what, source } } else { StoreError::Failed { what, source } }
    }
}

/// A stored row that is not valid. Not the data of the command at hand, so it is not blamed on it.
fn corrupt(what: &'static str, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt { what, detail: detail.to_string() }
}
