//! Commands as they enter, and what a caller may conclude from each answer.

use super::operator::Actor;
use crate::domain::order::Order;
use crate::domain::refusal::Refusal;
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, Money, OrderId, OrderTerms};
use thiserror::Error;
use uuid::Uuid;

/// A new order of a customer, valid in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceOrder {
    /// Whose.
    pub account_id: AccountId,
    /// Minted when the request entered and kept over every retry inside.
    pub order_id: OrderId,
    /// The client's name for it, or one minted at entry.
    pub client_order_id: ClientOrderId,
    /// Whether the client gave the name. Only then is a refusal stored and replayed.
    pub client_order_id_given: bool,
    /// What is asked for.
    pub terms: OrderTerms,
}

/// The answer to a placed order, after commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The order as it stands.
    pub order: Order,
    /// Whether it was there already: same client order id, same terms.
    pub replayed: bool,
}

/// A deposit by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deposit {
    /// Minted at entry; what the journal names as the cause.
    pub id: Uuid,
    /// To whom.
    pub account_id: AccountId,
    /// How much; above zero, in the account's currency.
    pub money: Money,
    /// The operator's name for it, unique per account: a repeat does nothing.
    pub reference: String,
    /// Who books it.
    pub actor: Actor,
}

/// A withdrawal by an operator. The same terms as a deposit, in the other direction, under
/// references of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal(pub Deposit);

/// Halts an account's new orders, or lifts that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HaltAccount {
    /// Which.
    pub account_id: AccountId,
    /// Why it is halted; none lifts the halt.
    pub halt_reason: Option<String>,
    /// Why it is done, for the record.
    pub reason: Option<String>,
    /// Who.
    pub actor: Actor,
}

/// Why a command has no result. The variant says what the caller may do next.
#[derive(Debug, Error)]
pub enum CommandError {
    /// Decided and refused: nothing happened. Sending it again decides it again.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Proven not taken, nothing happened: it may be sent again.
    #[error("not taken: {reason}")]
    NotTaken {
        /// Why, for the client.
        reason: &'static str,
    },
    /// It may have happened: ask for the order by its id or by the client order id before sending
    /// anything again.
    #[error("the outcome of order {order_id} is not known")]
    Unknown {
        /// The order that may exist.
        order_id: OrderId,
    },
    /// It may have happened, and a repeat with the same terms does nothing more.
    #[error("the outcome is not known: send the same again")]
    UnknownRepeatable,
    /// A reference that was used for another amount.
    #[error("reference was used for another amount")]
    ReferenceConflict,
    /// Money of another currency than the account's.
    #[error("the account has another currency")]
    CurrencyMismatch,
    /// No such account.
    #[error("account not found")]
    AccountNotFound,
    /// The database failed before anything could have happened.
    #[error("the store is not available")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The commands that the API and the operators give. Each is decided by the account's shard worker,
/// in a task that outlives the caller; the answer comes after the commit.
#[async_trait]
pub trait Commands: Send + Sync + 'static {
    /// Places an order.
    async fn place(&self, command: PlaceOrder) -> Result<Placed, CommandError>;
    /// Asks for an order's cancel. Success means that the request is on record, not that the order
    /// is canceled.
    async fn cancel(&self, account_id: AccountId, order_id: OrderId) -> Result<(), CommandError>;
    /// Books a deposit.
    async fn deposit(&self, command: Deposit) -> Result<(), CommandError>;
    /// Books a withdrawal.
    async fn withdraw(&self, command: Withdrawal) -> Result<(), CommandError>;
    /// Halts an account, or lifts that. In effect in every copy once it is answered: whoever read the
    /// account before loses its version.
    async fn halt(&self, command: HaltAccount) -> Result<(), CommandError>;
}
