//! A limit on every wait for the database. The limits that the server keeps for us (statement, lock
//! and idle timeouts) are worth nothing when the server itself is stopped or its host is gone, so
//! each call has one of ours, too.

use super::query::{AccountView, ApiKey, OrderFilter, PositionView, Queries, QueryError, StatusCounts};
use super::store::{
    Deferred, LockMode, LogPartition, LogPosition, Plan, Snapshot, Store, StoreError, Transaction, Wants,
};
use super::updates::{StoredUpdate, UpdateReads};
use crate::domain::asset::Asset;
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::event::{Envelope, Producer};
use contracts::{AccountId, BrokerId, BrokerOrderId, ClientOrderId, OrderId, Partition, Symbol};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

/// A store, or its reads, with a limit on every call.
#[derive(Debug, Clone)]
pub struct Bounded<S> {
    inner: S,
    limit: Duration,
}

impl<S> Bounded<S> {
    /// Bounds each call of `inner`. The limit should be above the server's own.
    pub const fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit }
    }
}

/// A transaction with a limit on every call.
pub struct BoundedTransaction<T> {
    inner: T,
    limit: Duration,
}

const SILENT: &str = "the database did not answer in time";

async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Failed { what, source: SILENT.into() }),
    }
}

/// The same for a call that commits: without an answer nobody knows whether it did.
async fn unless_unknown<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>> + Send,
) -> Result<T, StoreError> {
    match timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::CommitUnknown { source: SILENT.into() }),
    }
}

impl<S: Store> Store for Bounded<S> {
    type Tx = BoundedTransaction<S::Tx>;

    async fn begin(&self) -> Result<Self::Tx, StoreError> {
        let inner = within(self.limit, "begin", self.inner.begin()).await?;
        Ok(BoundedTransaction { inner, limit: self.limit })
    }

    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        within(self.limit, "load", self.inner.load(wants)).await
    }

    async fn commit_at_once(
        &self,
        plans: &[Plan],
        versions: &BTreeMap<AccountId, i64>,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        unless_unknown(self.limit, self.inner.commit_at_once(plans, versions, now)).await
    }

    async fn reserved(
        &self,
        partitions: &[Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        within(self.limit, "read reserved orders", self.inner.reserved(partitions, after, limit)).await
    }
}

macro_rules! bounded {
    ($($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        $(async fn $name(&mut self, $($arg: $type),*) -> Result<$out, StoreError> {
            within(self.limit, stringify!($name), self.inner.$name($($arg),*)).await
        })+
    };
}

type BrokerOrderKey = (BrokerId, BrokerOrderId);

impl<T: Transaction> Transaction for BoundedTransaction<T> {
    bounded! {
        claim(at: &BTreeMap<LogPartition, LogPosition>) -> BTreeSet<LogPartition>;
        winners(versions: &BTreeMap<AccountId, i64>) -> BTreeSet<AccountId>;
        lock(accounts: &BTreeSet<AccountId>, mode: LockMode) -> BTreeSet<AccountId>;
        owners(orders: &BTreeSet<OrderId>) -> BTreeMap<OrderId, (AccountId, Symbol)>;
        with_deferred(accounts: &BTreeSet<AccountId>) -> BTreeSet<AccountId>;
        load(wants: &Wants) -> Snapshot;
        bind_broker_orders(orders: &BTreeMap<BrokerOrderKey, Option<OrderId>>) -> BTreeMap<BrokerOrderKey, OrderId>;
        keep_orphans(orphans: &[(BrokerId, BrokerOrderId, Envelope)], now: OffsetDateTime) -> ();
        take_orphans(orders: &BTreeSet<BrokerOrderKey>) -> Vec<Envelope>;
        write(plans: &[Plan], now: OffsetDateTime) -> ();
        defer(events: &[Deferred], now: OffsetDateTime) -> ();
        take_deferred(partitions: &[Partition], limit: i64) -> Vec<Envelope>;
        clear_deferred(events: &[(Producer, Partition, i64)]) -> ();
        advance(moves: &BTreeMap<LogPartition, (LogPosition, LogPosition)>) -> ();
    }

    async fn rollback(self) {
        // What does not answer now is ended by the server's own limits.
        let _silent = timeout(self.limit, self.inner.rollback()).await;
    }

    async fn commit(self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        unless_unknown(self.limit, self.inner.commit(plans, now)).await
    }
}

macro_rules! bounded_queries {
    ($reads:ident: $($name:ident($($arg:ident: $type:ty),*) -> $out:ty;)+) => {
        #[async_trait]
        impl<Q: $reads> $reads for Bounded<Q> {
            $(async fn $name(&self, $($arg: $type),*) -> Result<$out, QueryError> {
                match timeout(self.limit, self.inner.$name($($arg),*)).await {
                    Ok(result) => result,
                    Err(_) => Err(QueryError::Store { what: stringify!($name), source: SILENT.into() }),
                }
            })+
        }
    };
}

bounded_queries! {
    UpdateReads:
    update_heads(accounts: &[AccountId]) -> Vec<(AccountId, i64)>;
    updates(account: AccountId, after: i64, limit: i64) -> Vec<StoredUpdate>;
    update_before(account: AccountId, at: OffsetDateTime) -> i64;
    update_time(account: AccountId, seq: i64) -> Option<OffsetDateTime>;
    valid_keys(key_ids: &[String]) -> BTreeSet<String>;
}

bounded_queries! {
    Queries:
    order(account: AccountId, order: OrderId) -> Option<Order>;
    any_order(order: OrderId) -> Option<Order>;
    order_by_client_id(account: AccountId, id: &ClientOrderId) -> Option<Order>;
    orders(account: AccountId, filter: &OrderFilter) -> Vec<Order>;
    account(account: AccountId) -> Option<AccountView>;
    positions(account: AccountId) -> Vec<PositionView>;
    api_key(key_id: &str) -> Option<ApiKey>;
    last_key_change() -> Uuid;
    assets() -> Vec<Asset>;
    status_counts() -> StatusCounts;
}
