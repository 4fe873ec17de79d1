//! What the API reads. Reads come from the same tables that writes are decided on.

use crate::domain::account::{AccountStatus, Balance, Position};
use crate::domain::asset::Asset;
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, Currency, OrderId, Side, Symbol};
use thiserror::Error;
use time::OffsetDateTime;
use uuid::Uuid;

/// Why a read failed.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The database did not answer.
    #[error("could not {what}")]
    Store {
        /// Which read, such as "read orders".
        what: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored row is not valid.
    #[error("stored {what} is not valid: {detail}")]
    Corrupt {
        /// Which kind of row.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
}

/// Which orders to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderScope {
    /// Not at their end.
    Open,
    /// At their end.
    Closed,
    /// All.
    All,
}

/// A filter on an account's orders. Orders are listed by submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderFilter {
    /// Which.
    pub scope: OrderScope,
    /// At most so many, 1 to 500.
    pub limit: i64,
    /// Only orders accepted after this time, exclusive.
    pub after: Option<OffsetDateTime>,
    /// Only orders accepted before this time, exclusive.
    pub until: Option<OffsetDateTime>,
    /// Only orders submitted before this one, exclusive.
    pub before_order_id: Option<OrderId>,
    /// Only orders submitted after this one, exclusive.
    pub after_order_id: Option<OrderId>,
    /// Oldest first.
    pub ascending: bool,
    /// Only these symbols; empty for all.
    pub symbols: Vec<Symbol>,
    /// Only this side.
    pub side: Option<Side>,
}

/// An account for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountView {
    /// Its id.
    pub id: AccountId,
    /// Its number, for people.
    pub number: String,
    /// Whether it may do business.
    pub status: AccountStatus,
    /// Why an operator has stopped its new orders, if one has. Not for customers.
    pub halt_reason: Option<String>,
    /// Currency of its cash.
    pub currency: Currency,
    /// Its cash.
    pub cash: Balance,
    /// Since when it exists.
    pub created_at: OffsetDateTime,
}

/// A holding for its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionView {
    /// The share.
    pub asset: Asset,
    /// The holding.
    pub position: Position,
}

/// The stored half of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The public half.
    pub key_id: String,
    /// Whose orders it may place.
    pub account_id: AccountId,
    /// SHA-256 of the secret half.
    pub secret_sha256: [u8; 32],
    /// Whether it ends by itself. The database says when: clocks of copies differ.
    pub ends: bool,
}

/// How many open orders are in each status, for health and metrics.
pub type StatusCounts = Vec<(String, i64)>;

/// The reads that the API and the operators need.
#[async_trait]
pub trait Queries: Send + Sync + 'static {
    /// One order of an account.
    async fn order(&self, account: AccountId, order: OrderId) -> Result<Option<Order>, QueryError>;
    /// One order of whichever account, for operators.
    async fn any_order(&self, order: OrderId) -> Result<Option<Order>, QueryError>;
    /// One order of an account by the client's name for it.
    async fn order_by_client_id(&self, account: AccountId, id: &ClientOrderId) -> Result<Option<Order>, QueryError>;
    /// An account's orders.
    async fn orders(&self, account: AccountId, filter: &OrderFilter) -> Result<Vec<Order>, QueryError>;
    /// An account.
    async fn account(&self, account: AccountId) -> Result<Option<AccountView>, QueryError>;
    /// An account's holdings that are not zero, by symbol.
    async fn positions(&self, account: AccountId) -> Result<Vec<PositionView>, QueryError>;
    /// The key of an id, unless it is revoked or has ended.
    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, QueryError>;
    /// The mark of the last change of any key, another one after each.
    async fn last_key_change(&self) -> Result<Uuid, QueryError>;
    /// Every asset, by symbol.
    async fn assets(&self) -> Result<Vec<Asset>, QueryError>;
    /// How many open orders are in each status.
    async fn status_counts(&self) -> Result<StatusCounts, QueryError>;
}

/// Upkeep that touches no balance and so needs no shard worker.
#[async_trait]
pub trait Admin: Send + Sync + 'static {
    /// Replaces the asset list with the broker's.
    async fn store_assets(&self, assets: &[Asset], now: OffsetDateTime) -> Result<(), QueryError>;
}

/// Mints what must be unpredictable: kept as a trait so that tests choose.
pub trait SecretSource: Send + Sync + 'static {
    /// 32 random bytes.
    fn secret(&self) -> [u8; 32];
    /// A random id.
    fn id(&self) -> Uuid;
}
