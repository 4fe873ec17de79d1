//! What the application needs of the outside: a store, a broker's dialect, a caller of it.

use super::change::Change;
use super::request::Loaded;
use super::rules::ReviewHold;
use super::wire::{WireRequest, WireResult};
use crate::domain::attempt::Attempt;
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome};
use contracts::{BrokerKey, BrokerOrderId, OrderId, OrderTerms};
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::Instant;

/// Why a transaction of the store came to nothing.
#[derive(Debug, Error)]
pub enum StoreError {
    /// It was rolled back, or never began.
    #[error("{operation} failed")]
    Failed {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The work itself was refused, or our code panicked over it: nothing was committed, and the same
    /// work would fail again.
    #[error("{operation} cannot be done")]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// Its commit failed: nobody knows whether it took effect.
    #[error("outcome of the commit of {operation} is unknown")]
    CommitUnknown {
        /// What was being done.
        operation: &'static str,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// An error before the commit.
    pub fn failed(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed { operation, source: source.into() }
    }

    /// Work that would fail again.
    pub fn refused(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Refused { operation, source: source.into() }
    }

    /// Whether the same work would fail again, whatever the infrastructure does.
    #[must_use]
    pub const fn is_deterministic(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// An error of the commit.
    pub fn commit_unknown(operation: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::CommitUnknown { operation, source: source.into() }
    }
}

/// The database's time, and when it was asked for by the local steady clock: not later, so that what
/// is measured from there is never shorter than it really is.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseMoment {
    /// The database's time.
    pub at: OffsetDateTime,
    /// Just before it was asked for.
    pub asked_at: Instant,
}

/// The requests, as the lane needs them. One call is one transaction.
pub trait LaneStore: Send + Sync + 'static {
    /// Locks up to `limit` due requests that nobody else holds, lets `decide` work out their
    /// changes at the database's time, writes them with their events, and commits. With a `hold`,
    /// new orders of accounts with a doubt that was not looked into are left.
    fn claim<F>(
        &self,
        limit: u32,
        hold: Option<ReviewHold>,
        decide: F,
    ) -> impl Future<Output = Result<u32, StoreError>> + Send
    where
        F: FnOnce(DatabaseMoment, Vec<Loaded>) -> Vec<Change> + Send;

    /// The same for requests by id; waits for those that another transaction holds. `known` are
    /// attempts that the caller has claimed: where such a one is a request's only attempt and still
    /// open, it need not be read.
    fn change<F>(
        &self,
        orders: Vec<OrderId>,
        known: HashMap<OrderId, Attempt>,
        decide: F,
    ) -> impl Future<Output = Result<(), StoreError>> + Send
    where
        F: FnOnce(OffsetDateTime, Vec<Loaded>) -> Vec<Change> + Send;
}

/// What is asked of a broker to place an order.
#[derive(Debug, Clone, Copy)]
pub struct CreateOrder<'a> {
    /// Our key.
    pub key: BrokerKey,
    /// Terms.
    pub terms: &'a OrderTerms,
    /// The time after which the broker must refuse it, where it honours one.
    pub valid_until: Option<OffsetDateTime>,
}

/// A request that the dialect cannot write.
#[derive(Debug, Error)]
#[error("the broker's dialect cannot write this request")]
pub struct DialectError(#[source] pub Box<dyn Error + Send + Sync>);

/// One broker's language. Pure.
pub trait Dialect: Send + Sync + 'static {
    /// Writes a create call.
    ///
    /// # Errors
    /// [`DialectError`] where the dialect has no words for it.
    fn create(&self, order: CreateOrder<'_>) -> Result<WireRequest, DialectError>;
    /// Writes a lookup by our key.
    fn lookup_by_key(&self, key: BrokerKey) -> WireRequest;
    /// Writes a lookup by the broker's id.
    fn lookup_by_id(&self, id: &BrokerOrderId) -> WireRequest;
    /// Writes a cancel call.
    fn cancel(&self, id: &BrokerOrderId) -> WireRequest;
    /// Reads the end of a create call for the order with this key.
    fn read_create(&self, key: BrokerKey, result: &WireResult) -> CreateOutcome;
    /// Reads the end of a lookup of the order with this key.
    fn read_lookup(&self, key: BrokerKey, result: &WireResult) -> LookupOutcome;
    /// Reads the end of a cancel call.
    fn read_cancel(&self, result: &WireResult) -> CancelOutcome;
    /// The code in an error reply, for the story; none where there is none.
    fn broker_code(&self, result: &WireResult) -> Option<i64>;
    /// Whether a reply says that our credentials are not taken.
    fn is_unauthorized(&self, result: &WireResult) -> bool;
}

/// Writes one request to the broker's socket, once, and reads the reply, within its timeout.
pub trait Caller: Send + Sync + 'static {
    /// Makes the call.
    fn call(&self, request: WireRequest) -> impl Future<Output = WireResult> + Send;
}

/// A random number for waits.
pub trait JitterSource: Send + Sync + 'static {
    /// A number from 0 to 1000.
    fn permille(&self) -> u16;
}
