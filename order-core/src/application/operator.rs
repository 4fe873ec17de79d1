//! What operators may do besides moving money, and the record of everything that they did.

use super::query::{AccountView, ApiKey, QueryError};
use async_trait::async_trait;
use contracts::{AccountId, Currency, Symbol};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Who acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The person, as far as known: with the shared credential it is what the request said.
    pub name: String,
    /// Whose credential it was.
    pub credential: String,
}

/// What an operator did, for the record that is written in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Who.
    pub actor: Actor,
    /// What, such as `halt.set`.
    pub kind: &'static str,
    /// With which account, if with one.
    pub account_id: Option<AccountId>,
    /// With what: a symbol, a key id, a reference.
    pub subject: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// The figures, such as an amount. Never a secret.
    pub terms: String,
}

/// An action as it is on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionRecord {
    /// Its number; later actions have higher ones.
    pub id: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who.
    pub operator: String,
    /// Whose credential it was.
    pub credential: String,
    /// What.
    pub action: String,
    /// With which account.
    pub account_id: Option<Uuid>,
    /// With what.
    pub subject: String,
    /// Why.
    pub reason: Option<String>,
    /// The figures.
    pub terms: String,
}

/// An account to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRequest {
    /// Its id.
    pub id: AccountId,
    /// Currency of its cash.
    pub currency: Currency,
    /// Who makes it.
    pub actor: Actor,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccountMade {
    /// It is new, under this number.
    New(String),
    /// It was there, under this number.
    Known(String),
    /// The id stands for an account in another currency.
    OtherCurrency(Currency),
}

/// A key without its secret, and without the secret's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyRecord {
    /// Its public half.
    pub key_id: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
}

/// A key that takes another's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRotation {
    /// The key that ends.
    pub old: String,
    /// How long it goes on; zero ends it at once.
    pub overlap: Duration,
    /// The one in its place.
    pub new: ApiKey,
}

/// A halt that is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltRecord {
    /// Of which symbol; none for the whole market.
    pub symbol: Option<Symbol>,
    /// Why.
    pub reason: String,
    /// Who.
    pub operator: String,
    /// Since when.
    pub at: OffsetDateTime,
}

/// What became of a request to halt symbols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltOutcome {
    /// It is as asked.
    Done,
    /// It was so before.
    Already,
    /// More symbols are halted than the list takes.
    TooMany,
}

/// Which actions to list, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionFilter {
    /// Only with this account.
    pub account_id: Option<AccountId>,
    /// Only before this one.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// Operators' work that moves no balance, each step in one transaction with its record.
#[async_trait]
pub trait Operations: Send + Sync + 'static {
    /// Makes an account with no cash.
    async fn make_account(&self, account: &AccountRequest, now: OffsetDateTime) -> Result<AccountMade, QueryError>;
    /// Accounts by id, after one, at most `limit`.
    async fn accounts(&self, after: Option<AccountId>, limit: i64) -> Result<Vec<AccountView>, QueryError>;
    /// Stores a new key.
    async fn issue_key(&self, key: &ApiKey, action: &Action, now: OffsetDateTime) -> Result<(), QueryError>;
    /// An account's keys by key id, after one, at most `limit`.
    async fn keys(&self, account: AccountId, after: Option<&str>, limit: i64) -> Result<Vec<KeyRecord>, QueryError>;
    /// Puts a key in another's place, and answers when that one ends, by the database's clock; nothing
    /// when it is not valid any more.
    async fn rotate_key(
        &self,
        rotation: &KeyRotation,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, QueryError>;
    /// Ends a key now; false when there is none of that id in the account. A repeat does nothing.
    async fn revoke_key(
        &self,
        account: AccountId,
        key_id: &str,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<bool, QueryError>;
    /// Halts a symbol, or with none the whole market.
    async fn halt(
        &self,
        symbol: Option<&Symbol>,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<HaltOutcome, QueryError>;
    /// Lifts such a halt.
    async fn lift(
        &self,
        symbol: Option<&Symbol>,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<HaltOutcome, QueryError>;
    /// The halts of symbols and of the market.
    async fn halts(&self) -> Result<Vec<HaltRecord>, QueryError>;
    /// What operators did.
    async fn actions(&self, filter: ActionFilter) -> Result<Vec<ActionRecord>, QueryError>;
}
