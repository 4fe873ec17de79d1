//! Calls of a task to its database or lock server, and their answers, as plain data.

use contracts::event::Envelope;
use contracts::{AccountId, BrokerId, BrokerOrderId, OrderId, Partition, Symbol};
use order_core::application::store::{Deferred, LockMode, LogPartition, LogPosition, Plan, Snapshot, Wants};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// An open transaction.
pub type TxId = u32;

/// A call.
#[derive(Debug, Clone)]
pub enum Op {
    /// Take the locks of accounts.
    Acquire(Vec<AccountId>),
    /// Give locks back.
    Release(Vec<(AccountId, u64)>),
    /// Read the accounts' rows, outside any transaction.
    LoadAccounts(Wants),
    /// Read everything else.
    LoadRest(Wants),
    /// Reserved orders.
    Reserved(Vec<Partition>),
    /// How far a log has been applied.
    Position(LogPartition),
    /// Open a transaction.
    Begin,
    /// Within a transaction.
    Tx(TxId, TxOp),
}

/// A call within a transaction.
#[derive(Debug, Clone)]
pub enum TxOp {
    /// Claim positions in producers' logs.
    Claim(BTreeMap<LogPartition, LogPosition>),
    /// Lock accounts by version.
    Winners(BTreeMap<AccountId, i64>),
    /// Lock accounts.
    Lock(BTreeSet<AccountId>, LockMode),
    /// Owners of orders.
    Owners(BTreeSet<OrderId>),
    /// Accounts with waiting events.
    WithDeferred(BTreeSet<AccountId>),
    /// Read.
    Load(Wants),
    /// Bind broker orders.
    Bind(BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>),
    /// Keep orphans.
    KeepOrphans(Vec<(BrokerId, BrokerOrderId, Envelope)>),
    /// Take orphans.
    TakeOrphans(BTreeSet<(BrokerId, BrokerOrderId)>),
    /// Write plans.
    Write(Vec<Plan>),
    /// Store events that wait.
    Defer(Vec<Deferred>),
    /// Lock and read waiting events.
    TakeDeferred(Vec<Partition>, i64),
    /// Remove waiting events.
    ClearDeferred(Vec<(contracts::event::Producer, Partition, i64)>),
    /// Move positions.
    Advance(BTreeMap<LogPartition, (LogPosition, LogPosition)>),
    /// End without effect.
    Rollback,
    /// Commit, with the events of these plans.
    Commit(Vec<Plan>),
}

impl Op {
    /// Whether it is the commit of a transaction.
    #[must_use]
    pub const fn is_commit(&self) -> bool {
        matches!(self, Self::Tx(_, TxOp::Commit(_)))
    }

    /// Whether it makes no difference to others when it is done, nor others to it: it opens a transaction,
    /// reads what the transaction has locked or what never changes, or writes what nobody sees before the
    /// commit. Such a call need not wait for its turn.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        match self {
            Self::Begin => true,
            Self::Tx(_, op) => matches!(
                op,
                TxOp::Owners(_)
                    | TxOp::Load(_)
                    | TxOp::Write(_)
                    | TxOp::KeepOrphans(_)
                    | TxOp::Defer(_)
                    | TxOp::ClearDeferred(_)
                    | TxOp::Advance(_)
            ),
            _ => false,
        }
    }

    /// The transaction that it is of.
    #[must_use]
    pub const fn tx(&self) -> Option<TxId> {
        match self {
            Self::Tx(tx, _) => Some(*tx),
            _ => None,
        }
    }

    /// A word for stories.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Acquire(_) => "acquire",
            Self::Release(_) => "release",
            Self::LoadAccounts(_) => "load accounts",
            Self::LoadRest(_) => "load rest",
            Self::Reserved(_) => "reserved",
            Self::Position(_) => "position",
            Self::Begin => "begin",
            Self::Tx(_, op) => match op {
                TxOp::Claim(_) => "claim",
                TxOp::Winners(_) => "winners",
                TxOp::Lock(..) => "lock",
                TxOp::Owners(_) => "owners",
                TxOp::WithDeferred(_) => "with deferred",
                TxOp::Load(_) => "load",
                TxOp::Bind(_) => "bind",
                TxOp::KeepOrphans(_) => "keep orphans",
                TxOp::TakeOrphans(_) => "take orphans",
                TxOp::Write(_) => "write",
                TxOp::Defer(_) => "defer",
                TxOp::TakeDeferred(..) => "take deferred",
                TxOp::ClearDeferred(_) => "clear deferred",
                TxOp::Advance(_) => "advance",
                TxOp::Rollback => "rollback",
                TxOp::Commit(_) => "commit",
            },
        }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Nothing to tell.
    Done,
    /// A token for each lock that was had; none where somebody else has it.
    Locks(Vec<Option<u64>>),
    /// The lock server is gone.
    NoLockServer,
    /// What was read.
    Snapshot(Box<Snapshot>),
    /// The transaction.
    Begun(TxId),
    /// Positions that were won.
    Logs(BTreeSet<LogPartition>),
    /// Accounts.
    Accounts(BTreeSet<AccountId>),
    /// Owners.
    Owners(BTreeMap<OrderId, (AccountId, Symbol)>),
    /// Broker orders and whose they are.
    Bound(BTreeMap<(BrokerId, BrokerOrderId), OrderId>),
    /// Events.
    Events(Vec<Envelope>),
    /// How far.
    Position(LogPosition),
    /// Orders.
    Orders(Vec<(OrderId, AccountId)>),
    /// It failed, and nothing happened.
    Failed,
    /// The data was refused.
    Refused(&'static str),
    /// The commit was not confirmed.
    CommitUnknown,
}

impl Hash for Reply {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Self::Done | Self::NoLockServer | Self::Failed | Self::CommitUnknown => {}
            Self::Refused(what) => what.hash(state),
            Self::Locks(tokens) => tokens.hash(state),
            Self::Snapshot(snapshot) => {
                snapshot.accounts.hash(state);
                snapshot.orders.hash(state);
                snapshot.executions.hash(state);
                snapshot.parked.hash(state);
                snapshot.deposits.hash(state);
                snapshot.withdrawals.hash(state);
            }
            Self::Begun(tx) => tx.hash(state),
            Self::Logs(logs) => logs.hash(state),
            Self::Accounts(accounts) => accounts.hash(state),
            Self::Owners(owners) => owners.hash(state),
            Self::Bound(bound) => bound.hash(state),
            Self::Events(events) => events.iter().for_each(|event| (event.id, event.seq).hash(state)),
            Self::Position(at) => at.hash(state),
            Self::Orders(orders) => orders.hash(state),
        }
    }
}
