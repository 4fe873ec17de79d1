//! The traits of the production workers, each call handed to a scheduler.

use super::op::{Op, Reply, TxId, TxOp};
use contracts::event::Envelope;
use contracts::{AccountId, BrokerId, BrokerOrderId, OrderId, Partition, Symbol};
use order_core::application::reference::Reference;
use order_core::application::store::{
    Deferred, LockAnswer, LockMode, Locks, LogPartition, LogPosition, Plan, Snapshot, Store, StoreError, Transaction,
    Wants,
};
use order_core::domain::asset::{Asset, ReferencePrice};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use time::OffsetDateTime;

macro_rules! expected {
    ($reply:expr, $variant:ident) => {
        match $reply {
            Reply::$variant(value) => Ok(value),
            _ => Err(odd(stringify!($variant))),
        }
    };
}

#[derive(Debug, Default)]
struct Line {
    replies: VecDeque<Arc<Reply>>,
    pending: Option<Op>,
}

/// Where a task's calls wait for the scheduler.
#[derive(Debug, Clone, Default)]
pub struct Port(Arc<Mutex<Line>>);

impl Port {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers the next call that waits, or will.
    pub fn answer(&self, reply: Arc<Reply>) {
        self.line().replies.push_back(reply);
    }

    /// The call that waits.
    #[must_use]
    pub fn pending(&self) -> Option<Op> {
        self.line().pending.take()
    }

    fn call(&self, op: Op) -> Call {
        Call { port: self.clone(), op: Some(op) }
    }

    /// Reads how far a log has been applied.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away.
    pub async fn position(&self, log: LogPartition) -> Result<LogPosition, StoreError> {
        expected!(checked(&self.call(Op::Position(log)).await)?, Position)
    }

    async fn tx(&self, tx: TxId, op: TxOp) -> Result<Reply, StoreError> {
        checked(&self.call(Op::Tx(tx, op)).await)
    }
}

struct Call {
    port: Port,
    op: Option<Op>,
}

impl Future for Call {
    type Output = Arc<Reply>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Arc<Reply>> {
        let op = self.op.take();
        let mut line = self.port.line();
        if let Some(reply) = line.replies.pop_front() {
            return Poll::Ready(reply);
        }
        line.pending = op.clone().or_else(|| line.pending.take());
        drop(line);
        self.op = op;
        Poll::Pending
    }
}

fn checked(reply: &Arc<Reply>) -> Result<Reply, StoreError> {
    match reply.as_ref() {
        Reply::Failed => Err(StoreError::Failed { what: "reach the database", source: "it is away".into() }),
        Reply::Refused(what) => Err(StoreError::Data { what, source: "a constraint".into() }),
        Reply::CommitUnknown => Err(StoreError::CommitUnknown { source: "the connection broke".into() }),
        other => Ok(other.clone()),
    }
}

fn odd(what: &'static str) -> StoreError {
    StoreError::Corrupt { what, detail: "another kind of answer".to_owned() }
}

/// The database, as one task sees it.
#[derive(Debug, Clone)]
pub struct PortStore(pub Port);

/// A transaction of it.
#[derive(Debug)]
pub struct PortTx {
    port: Port,
    tx: TxId,
}

impl Store for PortStore {
    type Tx = PortTx;

    async fn begin(&self) -> Result<PortTx, StoreError> {
        let tx = expected!(checked(&self.0.call(Op::Begin).await)?, Begun)?;
        Ok(PortTx { port: self.0.clone(), tx })
    }

    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        // Accounts with their versions first, in a statement of their own; the rest may be younger.
        let first = expected!(checked(&self.0.call(Op::LoadAccounts(wants.clone())).await)?, Snapshot)?;
        let mut rest = *expected!(checked(&self.0.call(Op::LoadRest(wants.clone())).await)?, Snapshot)?;
        for (id, account) in first.accounts {
            let positions = rest.accounts.remove(&id).map(|account| account.positions).unwrap_or_default();
            rest.accounts.insert(id, order_core::domain::account::Account { positions, ..account });
        }
        Ok(rest)
    }

    async fn reserved(
        &self,
        partitions: &[Partition],
        _: Option<OrderId>,
        _: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        expected!(checked(&self.0.call(Op::Reserved(partitions.to_vec())).await)?, Orders)
    }
}

impl Transaction for PortTx {
    async fn claim(&mut self, at: &BTreeMap<LogPartition, LogPosition>) -> Result<BTreeSet<LogPartition>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::Claim(at.clone())).await?, Logs)
    }

    async fn winners(&mut self, versions: &BTreeMap<AccountId, i64>) -> Result<BTreeSet<AccountId>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::Winners(versions.clone())).await?, Accounts)
    }

    async fn lock(
        &mut self,
        accounts: &BTreeSet<AccountId>,
        mode: LockMode,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::Lock(accounts.clone(), mode)).await?, Accounts)
    }

    async fn owners(
        &mut self,
        orders: &BTreeSet<OrderId>,
    ) -> Result<BTreeMap<OrderId, (AccountId, Symbol)>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::Owners(orders.clone())).await?, Owners)
    }

    async fn with_deferred(&mut self, accounts: &BTreeSet<AccountId>) -> Result<BTreeSet<AccountId>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::WithDeferred(accounts.clone())).await?, Accounts)
    }

    async fn load(&mut self, wants: &Wants) -> Result<Snapshot, StoreError> {
        Ok(*expected!(self.port.tx(self.tx, TxOp::Load(wants.clone())).await?, Snapshot)?)
    }

    async fn bind_broker_orders(
        &mut self,
        orders: &BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>,
    ) -> Result<BTreeMap<(BrokerId, BrokerOrderId), OrderId>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::Bind(orders.clone())).await?, Bound)
    }

    async fn keep_orphans(
        &mut self,
        orphans: &[(BrokerId, BrokerOrderId, Envelope)],
        _: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if orphans.is_empty() {
            return Ok(());
        }
        self.port.tx(self.tx, TxOp::KeepOrphans(orphans.to_vec())).await.map(|_| ())
    }

    async fn take_orphans(
        &mut self,
        orders: &BTreeSet<(BrokerId, BrokerOrderId)>,
    ) -> Result<Vec<Envelope>, StoreError> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        expected!(self.port.tx(self.tx, TxOp::TakeOrphans(orders.clone())).await?, Events)
    }

    async fn write(&mut self, plans: &[Plan], _: OffsetDateTime) -> Result<(), StoreError> {
        if plans.is_empty() {
            return Ok(());
        }
        self.port.tx(self.tx, TxOp::Write(plans.to_vec())).await.map(|_| ())
    }

    async fn defer(&mut self, events: &[Deferred], _: OffsetDateTime) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        self.port.tx(self.tx, TxOp::Defer(events.to_vec())).await.map(|_| ())
    }

    async fn take_deferred(&mut self, partitions: &[Partition], limit: i64) -> Result<Vec<Envelope>, StoreError> {
        expected!(self.port.tx(self.tx, TxOp::TakeDeferred(partitions.to_vec(), limit)).await?, Events)
    }

    async fn clear_deferred(
        &mut self,
        events: &[(contracts::event::Producer, Partition, i64)],
    ) -> Result<(), StoreError> {
        self.port.tx(self.tx, TxOp::ClearDeferred(events.to_vec())).await.map(|_| ())
    }

    async fn advance(&mut self, moves: &BTreeMap<LogPartition, (LogPosition, LogPosition)>) -> Result<(), StoreError> {
        self.port.tx(self.tx, TxOp::Advance(moves.clone())).await.map(|_| ())
    }

    async fn rollback(self) {
        // A connection that is gone has rolled back, too.
        let _ended = self.port.tx(self.tx, TxOp::Rollback).await;
    }

    async fn commit(self, plans: &[Plan], _: OffsetDateTime) -> Result<(), StoreError> {
        self.port.tx(self.tx, TxOp::Commit(plans.to_vec())).await.map(|_| ())
    }
}

/// The lock server, as one task sees it.
#[derive(Debug, Clone)]
pub struct PortLocks(pub Port);

impl Locks for PortLocks {
    type Held = (AccountId, u64);

    async fn acquire(&self, accounts: &[AccountId]) -> Vec<LockAnswer<Self::Held>> {
        match self.0.call(Op::Acquire(accounts.to_vec())).await.as_ref() {
            Reply::Locks(tokens) => accounts
                .iter()
                .zip(tokens)
                .map(|(account, token)| match token {
                    Some(token) => LockAnswer::Acquired((*account, *token)),
                    None => LockAnswer::Busy,
                })
                .collect(),
            _ => accounts.iter().map(|_| LockAnswer::Unavailable).collect(),
        }
    }

    async fn release(&self, held: Vec<Self::Held>) {
        if !held.is_empty() {
            let _done = self.0.call(Op::Release(held)).await;
        }
    }
}

/// One listed share at a fixed price.
#[derive(Debug, Clone)]
pub struct Market {
    /// The share.
    pub asset: Asset,
    /// Its price.
    pub price: ReferencePrice,
}

impl Reference for Market {
    fn is_loaded(&self) -> bool {
        true
    }

    fn asset(&self, symbol: &Symbol) -> Option<Asset> {
        (self.asset.symbol == *symbol).then(|| self.asset.clone())
    }

    fn price(&self, symbol: &Symbol) -> Option<ReferencePrice> {
        (self.asset.symbol == *symbol).then_some(self.price)
    }
}
