//! Reading what clients are told: pages of an account's updates, in the order of their commits.

use super::hub::Head;
use super::query::QueryError;
use crate::domain::status::Status;
use crate::domain::update::{UpdateEvent, UpdateMark};
use crate::domain::update_id::UpdateId;
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, ExecutionId, OrderId, OrderTerms};
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::sync::Arc;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The execution that an update is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldExecution {
    /// The broker's id.
    pub execution_id: ExecutionId,
    /// The one that a bust or correction takes back.
    pub previous: Option<ExecutionId>,
    /// Shares, negative in a bust; none for a bust of what is not here.
    pub quantity: Option<Decimal>,
    /// Price, likewise.
    pub price: Option<Decimal>,
    /// When, by the broker's clock.
    pub at: OffsetDateTime,
    /// The account's shares after it.
    pub position_quantity: Decimal,
}

/// An update with the order as it stood then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredUpdate {
    /// Whose.
    pub account_id: AccountId,
    /// Its number and time.
    pub mark: UpdateMark,
    /// What happened.
    pub event: UpdateEvent,
    /// Ours.
    pub order_id: OrderId,
    /// The client's name for it.
    pub client_order_id: ClientOrderId,
    /// What was asked for.
    pub terms: OrderTerms,
    /// The asset's id.
    pub asset_id: Uuid,
    /// Accepted from the customer.
    pub accepted_at: OffsetDateTime,
    /// First cancel request, as far as before this update.
    pub cancel_requested_at: Option<OffsetDateTime>,
    /// The order's end, where it stood at its end.
    pub ended_at: Option<OffsetDateTime>,
    /// Where it stood.
    pub status: Status,
    /// Shares that counted.
    pub filled_quantity: Decimal,
    /// Their money.
    pub filled_notional: Decimal,
    /// The execution, where it is one.
    pub execution: Option<ToldExecution>,
}

impl StoredUpdate {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> UpdateId {
        UpdateId::new(self.account_id, self.mark)
    }
}

/// The reads that streams need.
#[async_trait]
pub trait UpdateReads: Send + Sync + 'static {
    /// The number of the last update of each account.
    async fn update_heads(&self, accounts: &[AccountId]) -> Result<Vec<(AccountId, i64)>, QueryError>;
    /// An account's updates after a number, in order, at most `limit`.
    async fn updates(&self, account: AccountId, after: i64, limit: i64) -> Result<Vec<StoredUpdate>, QueryError>;
    /// The number before an account's first update at or after a time.
    async fn update_before(&self, account: AccountId, at: OffsetDateTime) -> Result<i64, QueryError>;
    /// The time of an account's update.
    async fn update_time(&self, account: AccountId, seq: i64) -> Result<Option<OffsetDateTime>, QueryError>;
    /// Which of these keys may still be used, by the database's clock: neither revoked nor expired.
    async fn valid_keys(&self, key_ids: &[String]) -> Result<BTreeSet<String>, QueryError>;
}

/// Why a stream does not start where it was asked to.
#[derive(Debug, Error)]
pub enum StartError {
    /// No update of this account has the id.
    #[error("is not the id of an event of this account")]
    UnknownId,
    /// The read failed.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// Where a stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// With the first update at or after a time.
    At(OffsetDateTime),
    /// After an update; the id of zeros for all there are.
    After(UpdateId),
}

/// Reads pages for all streams of a process, few at once, so that they never take the connections
/// that requests need.
pub struct Pages {
    reads: Arc<dyn UpdateReads>,
    permits: Semaphore,
    len_max: i64,
}

impl Pages {
    /// At most `readers_max` reads at once, of at most `len_max` updates.
    #[must_use]
    pub fn new(reads: Arc<dyn UpdateReads>, readers_max: usize, len_max: i64) -> Self {
        Self { reads, permits: Semaphore::new(readers_max), len_max }
    }

    /// The number after which a stream starts.
    ///
    /// # Errors
    /// [`StartError`]: an id that is not one of this account's, or a failed read.
    pub async fn start(&self, account: AccountId, start: Start) -> Result<i64, StartError> {
        let _permit = self.permits.acquire().await;
        match start {
            Start::Now => {
                let heads = self.reads.update_heads(&[account]).await?;
                Ok(heads.first().map_or(0, |(_, seq)| *seq))
            }
            Start::At(at) => Ok(self.reads.update_before(account, at).await?),
            Start::After(id) if id.is_start() => Ok(0),
            Start::After(id) => {
                let at = self.reads.update_time(account, id.seq()).await?.ok_or(StartError::UnknownId)?;
                let known = UpdateId::new(account, UpdateMark { seq: id.seq(), at });
                if known == id { Ok(id.seq()) } else { Err(StartError::UnknownId) }
            }
        }
    }

    /// The next updates after a number.
    ///
    /// # Errors
    /// [`QueryError`], also where a number is missing, which the numbering under the account's
    /// version rules out.
    pub async fn after(&self, account: AccountId, seq: i64) -> Result<Vec<StoredUpdate>, QueryError> {
        let _permit = self.permits.acquire().await;
        let page = self.reads.updates(account, seq, self.len_max).await?;
        let mut expected = seq;
        for update in &page {
            expected = expected.saturating_add(1);
            if update.mark.seq != expected {
                let detail = format!("update {expected} of account {account} is missing");
                return Err(QueryError::Corrupt { what: "updates", detail });
            }
        }
        Ok(page)
    }
}

/// One stream's way through an account's updates. Nothing is kept for it but its place, so however
/// slowly it goes, it holds up nobody and loses nothing.
pub struct Follower {
    pages: Arc<Pages>,
    account: AccountId,
    head: Head,
    seq: i64,
}

impl Follower {
    /// Starts after a number.
    #[must_use]
    pub const fn new(pages: Arc<Pages>, account: AccountId, head: Head, seq: i64) -> Self {
        Self { pages, account, head, seq }
    }

    /// The number of the last update that was read.
    #[must_use]
    pub const fn seq(&self) -> i64 {
        self.seq
    }

    /// Whether there are updates that were not read yet, as far as known.
    pub fn is_behind(&mut self) -> bool {
        *self.head.borrow_and_update() > self.seq
    }

    /// Waits until there may be more. Cancelling it loses nothing.
    pub async fn changed(&mut self) {
        if self.head.changed().await.is_err() {
            std::future::pending().await
        }
    }

    /// Reads on.
    ///
    /// # Errors
    /// [`QueryError`]; the place is as it was then.
    pub async fn next(&mut self) -> Result<Vec<StoredUpdate>, QueryError> {
        let page = self.pages.after(self.account, self.seq).await?;
        if let Some(last) = page.last() {
            self.seq = last.mark.seq;
        }
        Ok(page)
    }
}
