//! What the shard workers need of the database. One transaction type serves commands, facts and
//! operators, so that there is one road on which an account is written.

use super::operator::Action;
use crate::domain::account::Account;
use crate::domain::execution::Execution;
use crate::domain::journal::{Cause, Line};
use crate::domain::order::Order;
use crate::domain::status::Status;
use crate::domain::update::Update;
use contracts::event::{Envelope, OrdersEvent, Producer};
use contracts::{AccountId, BrokerId, BrokerOrderId, ClientOrderId, EventId, OrderId, Partition, Symbol};
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use thiserror::Error;
use time::OffsetDateTime;

/// Why the store did not do what it was asked. The variant says what may be concluded.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nothing was committed and nothing will be: it may be tried again.
    #[error("could not {what}")]
    Failed {
        /// Which step, such as "read accounts".
        what: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The data itself was refused (SQLSTATE class 22 or 23). Nothing was committed; the same data
    /// will be refused again.
    #[error("the database refused the data in {what}")]
    Data {
        /// Which step.
        what: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored row is not valid. Nothing was committed; the same rows will fail again, so whoever
    /// meets it is taken apart until the one row stands alone.
    #[error("a stored row is not valid in {what}: {detail}")]
    Corrupt {
        /// Which step.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Our own code panicked over the data. Nothing was committed; the same data will do it again.
    #[error("a defect in {what}: {detail}")]
    Defect {
        /// Which step.
        what: &'static str,
        /// The panic's message.
        detail: String,
    },
    /// The commit was sent and not confirmed: it may or may not have happened.
    #[error("the commit was not confirmed")]
    CommitUnknown {
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Whether the same work will fail the same way again, whatever the infrastructure does.
    #[must_use]
    pub const fn is_deterministic(&self) -> bool {
        matches!(self, Self::Data { .. } | Self::Corrupt { .. } | Self::Defect { .. })
    }
}

/// What a batch needs to read.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// These accounts.
    pub accounts: BTreeSet<AccountId>,
    /// These holdings of theirs (holdings in debt come along by themselves).
    pub positions: BTreeSet<(AccountId, Symbol)>,
    /// Orders and refusals under these names.
    pub client_ids: BTreeSet<(AccountId, ClientOrderId)>,
    /// These orders.
    pub orders: BTreeSet<OrderId>,
    /// The executions of these orders.
    pub executions: BTreeSet<OrderId>,
    /// These deposits.
    pub deposits: BTreeSet<(AccountId, String)>,
    /// These withdrawals.
    pub withdrawals: BTreeSet<(AccountId, String)>,
}

/// A refusal that is given again for the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRefusal {
    /// Whose.
    pub account_id: AccountId,
    /// The client's name for the request.
    pub client_order_id: ClientOrderId,
    /// Hash of its terms.
    pub terms_hash: [u8; 32],
    /// HTTP status of the answer.
    pub status: u16,
    /// Code of the answer.
    pub code: u32,
    /// Message of the answer.
    pub message: String,
    /// When it was refused.
    pub at: OffsetDateTime,
}

/// What was read. Account rows are read before everything else, so a later change of anything of an
/// account shows as a lost version.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Accounts with the wanted holdings.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Accounts with an event that could not be understood; they take only cancels.
    pub parked: BTreeSet<AccountId>,
    /// Orders, by id.
    pub orders: BTreeMap<OrderId, Order>,
    /// Refusals by name.
    pub refusals: BTreeMap<(AccountId, ClientOrderId), StoredRefusal>,
    /// Executions, by order.
    pub executions: BTreeMap<OrderId, Vec<Execution>>,
    /// Deposits that were booked.
    pub deposits: BTreeMap<(AccountId, String), Decimal>,
    /// Withdrawals that were booked.
    pub withdrawals: BTreeMap<(AccountId, String), Decimal>,
    /// What is halted for everybody, of what was asked about.
    pub halts: Halts,
}

/// Halts that are not of one account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Halts {
    /// No new orders at all.
    pub market: bool,
    /// None of these symbols.
    pub symbols: BTreeSet<Symbol>,
}

/// A step of an order: a change of its status, or an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Which order.
    pub order_id: OrderId,
    /// From; none for a new order.
    pub from: Option<Status>,
    /// To.
    pub to: Status,
    /// Why. Never absent.
    pub cause: Cause,
    /// What the order's owner is told of it.
    pub update: Option<Update>,
}

/// Everything that one batch changes of one account.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The account as it shall be. Its version is still the one that was read.
    pub account: Account,
    /// Orders to insert.
    pub new_orders: BTreeMap<OrderId, Order>,
    /// Orders to update.
    pub changed_orders: BTreeMap<OrderId, Order>,
    /// Holdings to write.
    pub changed_positions: BTreeSet<Symbol>,
    /// Executions to insert.
    pub executions: Vec<(OrderId, Execution)>,
    /// Journal lines to append.
    pub lines: Vec<Line>,
    /// Steps of orders to append.
    pub transitions: Vec<Transition>,
    /// Events for the gateway.
    pub events: Vec<OrdersEvent>,
    /// Refusals to keep.
    pub refusals: Vec<StoredRefusal>,
    /// Deposits to keep: reference and amount.
    pub deposits: Vec<(String, Decimal)>,
    /// Withdrawals to keep: reference and amount.
    pub withdrawals: Vec<(String, Decimal)>,
    /// Whether the account's halt is to be written.
    pub halt_changed: bool,
    /// What operators did.
    pub actions: Vec<Action>,
}

impl Plan {
    /// No change yet.
    #[must_use]
    pub fn new(account: Account) -> Self {
        Self {
            account,
            new_orders: BTreeMap::new(),
            changed_orders: BTreeMap::new(),
            changed_positions: BTreeSet::new(),
            executions: Vec::new(),
            lines: Vec::new(),
            transitions: Vec::new(),
            events: Vec::new(),
            refusals: Vec::new(),
            deposits: Vec::new(),
            withdrawals: Vec::new(),
            halt_changed: false,
            actions: Vec::new(),
        }
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.new_orders.is_empty()
            && self.changed_orders.is_empty()
            && self.executions.is_empty()
            && self.lines.is_empty()
            && self.events.is_empty()
            && self.refusals.is_empty()
            && self.deposits.is_empty()
            && self.withdrawals.is_empty()
            && !self.halt_changed
    }
}

/// Why an event waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferReason {
    /// Another writer has the account.
    Busy,
    /// An earlier event of the account waits.
    Behind,
    /// It cannot be understood or applied: a person has to look.
    Poison,
}

impl DeferReason {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Behind => "behind",
            Self::Poison => "poison",
        }
    }
}

/// An event that waits.
#[derive(Debug, Clone)]
pub struct Deferred {
    /// The event.
    pub envelope: Envelope,
    /// Its account, as far as known.
    pub account_id: Option<AccountId>,
    /// Its order, as far as known.
    pub order_id: Option<OrderId>,
    /// Why it waits.
    pub reason: DeferReason,
    /// Details for the operator.
    pub detail: String,
}

/// One partition of a producer's log.
pub type LogPartition = (Producer, Partition);

/// A place in a producer's log: sequence number and event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LogPosition {
    /// 0 before the first.
    pub seq: i64,
    /// None at 0.
    pub event_id: Option<EventId>,
}

/// Which accounts a batch may write, and how they are locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Take those that nobody holds, leave the others.
    SkipBusy,
    /// Wait for each, up to the connection's lock timeout.
    Wait,
}

/// An open transaction. Dropping it rolls back.
pub trait Transaction: Send {
    /// Claims positions in producers' logs; answers those that no other copy holds or has moved. Must
    /// be the first call of a transaction that applies events.
    fn claim(
        &mut self,
        at: &BTreeMap<LogPartition, LogPosition>,
    ) -> impl Future<Output = Result<BTreeSet<LogPartition>, StoreError>> + Send;
    /// Locks accounts whose version is the one that was read; the others have lost.
    fn winners(
        &mut self,
        versions: &BTreeMap<AccountId, i64>,
    ) -> impl Future<Output = Result<BTreeSet<AccountId>, StoreError>> + Send;
    /// Locks accounts whatever their version; answers those that are locked.
    fn lock(
        &mut self,
        accounts: &BTreeSet<AccountId>,
        mode: LockMode,
    ) -> impl Future<Output = Result<BTreeSet<AccountId>, StoreError>> + Send;
    /// Which account and symbol each order has; unknown orders are absent.
    fn owners(
        &mut self,
        orders: &BTreeSet<OrderId>,
    ) -> impl Future<Output = Result<BTreeMap<OrderId, (AccountId, Symbol)>, StoreError>> + Send;
    /// Which of these accounts have events waiting.
    fn with_deferred(
        &mut self,
        accounts: &BTreeSet<AccountId>,
    ) -> impl Future<Output = Result<BTreeSet<AccountId>, StoreError>> + Send;
    /// Reads; under the locks, if any were taken.
    fn load(&mut self, wants: &Wants) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;
    /// Locks the rows of broker orders, notes which order each is where the caller knows, and says
    /// which order each is, as far as anyone knows.
    fn bind_broker_orders(
        &mut self,
        orders: &BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>,
    ) -> impl Future<Output = Result<BTreeMap<(BrokerId, BrokerOrderId), OrderId>, StoreError>> + Send;
    /// Keeps events of broker orders that are no order of ours, as far as known.
    fn keep_orphans(
        &mut self,
        orphans: &[(BrokerId, BrokerOrderId, Envelope)],
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Takes the events that were kept for these broker orders.
    fn take_orphans(
        &mut self,
        orders: &BTreeSet<(BrokerId, BrokerOrderId)>,
    ) -> impl Future<Output = Result<Vec<Envelope>, StoreError>> + Send;
    /// Writes the changes of accounts that are locked by this transaction.
    fn write(&mut self, plans: &[Plan], now: OffsetDateTime) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Stores events that must wait.
    fn defer(
        &mut self,
        events: &[Deferred],
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Locks and returns waiting events of some partitions that may be tried again, oldest first.
    fn take_deferred(
        &mut self,
        partitions: &[Partition],
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Envelope>, StoreError>> + Send;
    /// Removes waiting events that have taken effect.
    fn clear_deferred(
        &mut self,
        events: &[(Producer, Partition, i64)],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Moves claimed positions, each from the first to the second place.
    fn advance(
        &mut self,
        moves: &BTreeMap<LogPartition, (LogPosition, LogPosition)>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
    /// Ends it without effect and waits until its locks are gone. Dropping it ends it too, but some
    /// time later, and the next transaction would find its rows still locked.
    fn rollback(self) -> impl Future<Output = ()> + Send;
    /// Appends the plans' events and commits. Publishes only after the commit.
    fn commit(self, plans: &[Plan], now: OffsetDateTime) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The database.
pub trait Store: Send + Sync + 'static {
    /// Its transactions.
    type Tx: Transaction;
    /// Opens a transaction.
    fn begin(&self) -> impl Future<Output = Result<Self::Tx, StoreError>> + Send;
    /// Reads outside any transaction.
    fn load(&self, wants: &Wants) -> impl Future<Output = Result<Snapshot, StoreError>> + Send;
    /// Writes plans and commits in one round trip, if every account still has the version that was read;
    /// else, or where the plans hold what it cannot write so, it writes nothing and answers false. What is
    /// not confirmed is [`StoreError::CommitUnknown`], since the commit is part of it.
    fn commit_at_once(
        &self,
        _plans: &[Plan],
        _versions: &BTreeMap<AccountId, i64>,
        _now: OffsetDateTime,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        std::future::ready(Ok(false))
    }
    /// Reserved orders of some partitions by their ids, those after one, without those of parked
    /// accounts and without what is halted.
    fn reserved(
        &self,
        partitions: &[Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<(OrderId, AccountId)>, StoreError>> + Send;
}

/// The account lock in front of the version check. It saves work; it protects nothing.
pub trait Locks: Send + Sync + 'static {
    /// What a held lock is.
    type Held: Send;
    /// Tries to take the locks of these accounts in one round trip.
    fn acquire(&self, accounts: &[AccountId]) -> impl Future<Output = Vec<LockAnswer<Self::Held>>> + Send;
    /// Gives locks back.
    fn release(&self, held: Vec<Self::Held>) -> impl Future<Output = ()> + Send;
}

/// The answer for one account.
#[derive(Debug)]
pub enum LockAnswer<H> {
    /// Ours.
    Acquired(H),
    /// Somebody else's.
    Busy,
    /// The lock server gave no answer; the version check alone guards.
    Unavailable,
}
