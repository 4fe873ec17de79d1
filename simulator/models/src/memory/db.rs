//! The state of the order server's database and of the lock server.

use super::op::{Op, Reply, TxId, TxOp};
use super::write::{Row, append};
use contracts::event::{Envelope, Producer};
use contracts::{AccountId, BrokerId, BrokerOrderId, EventId, OrderId, Partition};
use order_core::application::store::{
    DeferReason, Deferred, LockMode, LogPartition, LogPosition, Snapshot, StoredRefusal, Transition, Wants,
};
use order_core::domain::account::Account;
use order_core::domain::execution::Execution;
use order_core::domain::journal::Ledger;
use order_core::domain::order::Order;
use rust_decimal::Decimal;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

/// What stands between a decision on old rows and its write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    /// The account's version, from read to write.
    Version,
    /// A fencing token, compared when the write comes.
    TokenAtWrite,
    /// Nothing but the lock.
    LockAlone,
}

/// When the position in a log moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Positions {
    /// With the effect, from where it stood.
    WithTheEffect,
    /// By itself, before the effect is committed.
    BeforeTheEffect,
    /// With the effect, wherever it stood.
    FromAnywhere,
}

#[derive(Debug, Clone, Default)]
pub(super) struct OpenTx {
    pub(super) accounts: BTreeSet<AccountId>,
    pub(super) logs: BTreeSet<LogPartition>,
    pub(super) broker_orders: BTreeSet<(BrokerId, BrokerOrderId)>,
    pub(super) rows: Vec<Row>,
}

/// Both servers.
#[derive(Debug, Clone)]
pub struct Db {
    /// What guards a write.
    pub guard: Guard,
    /// How positions move.
    pub positions: Positions,
    /// Accounts.
    pub accounts: BTreeMap<AccountId, Account>,
    /// Orders.
    pub orders: BTreeMap<OrderId, Order>,
    /// Executions, by order.
    pub executions: BTreeMap<OrderId, Vec<Execution>>,
    /// What was booked, added up by account, asset and ledger.
    pub journal: BTreeMap<(AccountId, String, Ledger), Decimal>,
    /// Refusals that are given again.
    pub refusals: BTreeMap<(AccountId, contracts::ClientOrderId), StoredRefusal>,
    /// Events that wait.
    pub deferred: BTreeMap<(Producer, Partition, i64), Deferred>,
    /// Events of unknown broker orders.
    pub orphans: BTreeMap<EventId, (BrokerId, BrokerOrderId, Envelope)>,
    /// Whose a broker order is.
    pub broker_orders: BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>,
    /// Positions in producers' logs.
    pub applied: BTreeMap<LogPartition, LogPosition>,
    /// How often each event of each log has been passed.
    pub passed: BTreeMap<(LogPartition, i64), u32>,
    /// Every step of an order.
    pub transitions: Vec<Transition>,
    /// Its own log.
    pub log: BTreeMap<Partition, Vec<Envelope>>,
    pub(super) open: BTreeMap<TxId, OpenTx>,
    next_tx: TxId,
    locks: BTreeMap<AccountId, u64>,
    next_token: u64,
    /// The highest token that a write has shown.
    tokens_seen: BTreeMap<AccountId, u64>,
}

impl Hash for Db {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.accounts, &self.orders, &self.executions, &self.journal).hash(state);
        self.refusals.keys().for_each(|name| name.hash(state));
        for (place, waiting) in &self.deferred {
            (place, waiting.reason.as_str()).hash(state);
        }
        (self.orphans.keys().collect::<Vec<_>>(), &self.broker_orders, &self.applied, &self.passed).hash(state);
        self.log.values().for_each(|events| events.iter().for_each(|event| event.id.hash(state)));
        for (id, tx) in &self.open {
            // What it has written so far is a matter of its task's story.
            (id, &tx.accounts, &tx.logs, &tx.broker_orders, tx.rows.len()).hash(state);
        }
        (&self.locks, &self.tokens_seen).hash(state);
    }
}

impl Db {
    /// Empty databases.
    #[must_use]
    pub fn new(guard: Guard) -> Self {
        Self {
            guard,
            positions: Positions::WithTheEffect,
            accounts: BTreeMap::new(),
            orders: BTreeMap::new(),
            executions: BTreeMap::new(),
            journal: BTreeMap::new(),
            refusals: BTreeMap::new(),
            deferred: BTreeMap::new(),
            orphans: BTreeMap::new(),
            broker_orders: BTreeMap::new(),
            applied: BTreeMap::new(),
            passed: BTreeMap::new(),
            transitions: Vec::new(),
            log: BTreeMap::new(),
            open: BTreeMap::new(),
            next_tx: 0,
            locks: BTreeMap::new(),
            next_token: 0,
            tokens_seen: BTreeMap::new(),
        }
    }

    /// Opens an account with cash and shares, as a deposit from outside.
    pub fn open_account(&mut self, account: Account) {
        let balances = [(account.currency.to_string(), account.cash)]
            .into_iter()
            .chain(account.positions.iter().map(|(symbol, position)| (symbol.to_string(), position.shares)));
        for (asset, balance) in balances {
            self.journal.insert((account.id, asset, Ledger::Available), balance.available);
        }
        self.accounts.insert(account.id, account);
    }

    /// Whether no transaction is open.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// The locks that are held.
    pub fn locked(&self) -> impl Iterator<Item = AccountId> + '_ {
        self.locks.keys().copied()
    }

    /// A lease runs out.
    pub fn expire_lock(&mut self, account: AccountId) {
        self.locks.remove(&account);
    }

    /// Ends a transaction whose owner has died.
    pub fn abort(&mut self, tx: TxId) {
        self.open.remove(&tx);
    }

    /// Does a call; none while a row that it waits for is locked. `tokens` are the locks of the caller.
    pub fn run(&mut self, op: &Op, tokens: &BTreeMap<AccountId, u64>) -> Option<Reply> {
        Some(match op {
            Op::Acquire(accounts) => Reply::Locks(accounts.iter().map(|account| self.acquire(*account)).collect()),
            Op::Release(held) => {
                for (account, token) in held {
                    if self.locks.get(account) == Some(token) {
                        self.locks.remove(account);
                    }
                }
                Reply::Done
            }
            Op::LoadAccounts(wants) | Op::LoadRest(wants) => Reply::Snapshot(Box::new(self.read(wants))),
            Op::Reserved(_) => Reply::Orders(Vec::new()),
            Op::Position(log) => Reply::Position(self.applied.get(log).copied().unwrap_or_default()),
            Op::Begin => {
                // A number that is free again tells nothing apart.
                let tx = (0..=self.next_tx).find(|tx| !self.open.contains_key(tx)).unwrap_or(self.next_tx);
                self.next_tx = self.next_tx.max(tx + 1);
                self.open.insert(tx, OpenTx::default());
                Reply::Begun(tx)
            }
            Op::Tx(tx, op) => return self.within(*tx, op, tokens),
        })
    }

    fn acquire(&mut self, account: AccountId) -> Option<u64> {
        if self.locks.contains_key(&account) {
            return None;
        }
        self.next_token += 1;
        self.locks.insert(account, self.next_token);
        Some(self.next_token)
    }

    fn within(&mut self, tx: TxId, op: &TxOp, tokens: &BTreeMap<AccountId, u64>) -> Option<Reply> {
        if !self.open.contains_key(&tx) {
            return Some(Reply::Failed);
        }
        Some(match op {
            TxOp::Claim(at) => Reply::Logs(self.claim(tx, at)),
            TxOp::Winners(versions) => Reply::Accounts(self.winners(tx, versions, tokens)),
            TxOp::Lock(accounts, LockMode::SkipBusy) => Reply::Accounts(self.lock_free(tx, accounts.iter().copied())),
            TxOp::Lock(accounts, LockMode::Wait) => {
                if accounts.iter().any(|account| self.is_locked(tx, *account)) {
                    return None;
                }
                Reply::Accounts(self.lock_free(tx, accounts.iter().copied()))
            }
            TxOp::Owners(orders) => {
                let found = orders.iter().filter_map(|id| self.orders.get(id));
                Reply::Owners(found.map(|o| (o.id, (o.account_id, o.terms.symbol().clone()))).collect())
            }
            TxOp::WithDeferred(accounts) => {
                let waiting: BTreeSet<_> = self.deferred.values().filter_map(|event| event.account_id).collect();
                Reply::Accounts(accounts.intersection(&waiting).copied().collect())
            }
            TxOp::Load(wants) => Reply::Snapshot(Box::new(self.read(wants))),
            TxOp::Bind(orders) => return self.bind(tx, orders),
            TxOp::TakeOrphans(orders) => Reply::Events(self.take_orphans(tx, orders)),
            TxOp::KeepOrphans(orphans) => self.note(tx, orphans.iter().cloned().map(Row::Orphan)),
            TxOp::Write(plans) => self.write(tx, plans),
            TxOp::Defer(events) => self.note(tx, events.iter().cloned().map(Row::Defer)),
            TxOp::TakeDeferred(partitions, limit) => Reply::Events(self.take_deferred(tx, partitions, *limit)),
            TxOp::ClearDeferred(places) => self.note(tx, places.iter().copied().map(Row::Clear)),
            TxOp::Advance(moves) if self.positions == Positions::BeforeTheEffect => {
                for (log, (from, to)) in moves {
                    self.pass(*log, *from, *to);
                }
                Reply::Done
            }
            TxOp::Advance(moves) => self.note(tx, moves.iter().map(|(log, (from, to))| Row::Move(*log, *from, *to))),
            TxOp::Rollback => {
                self.open.remove(&tx);
                Reply::Done
            }
            TxOp::Commit(plans) => {
                self.commit(tx);
                plans.iter().for_each(|plan| append(self, plan));
                Reply::Done
            }
        })
    }

    fn note(&mut self, tx: TxId, rows: impl IntoIterator<Item = Row>) -> Reply {
        if let Some(open) = self.open.get_mut(&tx) {
            open.rows.extend(rows);
        }
        Reply::Done
    }

    /// The rows of an account, orders and ledgers, as committed.
    fn read(&self, wants: &Wants) -> Snapshot {
        let account = |id: &AccountId| self.accounts.get(id).map(|account| (*id, account.clone()));
        let named = |order: &&Order| wants.client_ids.contains(&(order.account_id, order.client_order_id.clone()));
        let by_id = wants.orders.iter().filter_map(|id| self.orders.get(id));
        let by_name = self.orders.values().filter(named);
        let ledger = |id: &OrderId| Some((*id, self.executions.get(id)?.clone()));
        Snapshot {
            accounts: wants.accounts.iter().filter_map(account).collect(),
            parked: self
                .deferred
                .values()
                .filter(|event| event.reason == DeferReason::Poison)
                .filter_map(|event| event.account_id)
                .collect(),
            orders: by_id.chain(by_name).map(|order| (order.id, order.clone())).collect(),
            refusals: wants
                .client_ids
                .iter()
                .filter_map(|name| Some((name.clone(), self.refusals.get(name)?.clone())))
                .collect(),
            executions: wants.executions.iter().filter_map(ledger).collect(),
            ..Snapshot::default()
        }
    }

    fn is_locked(&self, tx: TxId, account: AccountId) -> bool {
        self.open.iter().any(|(other, open)| *other != tx && open.accounts.contains(&account))
    }

    fn lock_free(&mut self, tx: TxId, accounts: impl Iterator<Item = AccountId>) -> BTreeSet<AccountId> {
        let free: BTreeSet<_> =
            accounts.filter(|id| self.accounts.contains_key(id) && !self.is_locked(tx, *id)).collect();
        if let Some(open) = self.open.get_mut(&tx) {
            open.accounts.extend(&free);
        }
        free
    }

    fn winners(
        &mut self,
        tx: TxId,
        versions: &BTreeMap<AccountId, i64>,
        tokens: &BTreeMap<AccountId, u64>,
    ) -> BTreeSet<AccountId> {
        let may_write: Vec<AccountId> = versions
            .iter()
            .filter(|(id, version)| match self.guard {
                Guard::Version => self.accounts.get(id).is_some_and(|account| account.version == **version),
                Guard::TokenAtWrite => {
                    tokens.get(id).is_some_and(|token| self.tokens_seen.get(id).is_none_or(|seen| token >= seen))
                }
                Guard::LockAlone => tokens.contains_key(id),
            })
            .map(|(id, _)| *id)
            .collect();
        let won = self.lock_free(tx, may_write.into_iter());
        if self.guard == Guard::TokenAtWrite {
            self.tokens_seen.extend(won.iter().filter_map(|id| Some((*id, *tokens.get(id)?))));
        }
        won
    }

    fn claim(&mut self, tx: TxId, at: &BTreeMap<LogPartition, LogPosition>) -> BTreeSet<LogPartition> {
        if self.positions == Positions::FromAnywhere {
            return at.keys().copied().collect();
        }
        let free = |log: &LogPartition| self.open.values().all(|open| !open.logs.contains(log));
        let stands = |log: &LogPartition| self.applied.get(log).copied().unwrap_or_default();
        let won: BTreeSet<_> =
            at.iter().filter(|(log, at)| free(log) && stands(log) == **at).map(|(log, _)| *log).collect();
        if let Some(open) = self.open.get_mut(&tx) {
            open.logs.extend(&won);
        }
        won
    }

    fn bind(&mut self, tx: TxId, orders: &BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>) -> Option<Reply> {
        let taken = |key| self.open.iter().any(|(other, open)| *other != tx && open.broker_orders.contains(key));
        if orders.keys().any(taken) {
            return None;
        }
        let mut known = BTreeMap::new();
        for (key, order) in orders {
            let stored = self.broker_orders.get(key).copied().flatten();
            if let Some(order) = stored.or(*order) {
                known.insert(key.clone(), order);
            }
        }
        let open = self.open.get_mut(&tx)?;
        open.broker_orders.extend(orders.keys().cloned());
        open.rows.extend(orders.keys().map(|key| Row::Bind(key.clone(), known.get(key).copied())));
        Some(Reply::Bound(known))
    }

    fn take_orphans(&mut self, tx: TxId, orders: &BTreeSet<(BrokerId, BrokerOrderId)>) -> Vec<Envelope> {
        let of_these =
            |(broker, id, _): &&(BrokerId, BrokerOrderId, Envelope)| orders.iter().any(|(b, i)| b == broker && i == id);
        let taken: Vec<Envelope> = self.orphans.values().filter(of_these).map(|(.., event)| event.clone()).collect();
        self.note(tx, taken.iter().map(|event| Row::Adopted(event.id)));
        taken
    }

    fn take_deferred(&mut self, tx: TxId, partitions: &[Partition], limit: i64) -> Vec<Envelope> {
        let waits = |event: &Deferred| event.reason != DeferReason::Poison;
        let logs: BTreeSet<LogPartition> = self
            .deferred
            .iter()
            .filter(|((_, partition, _), event)| partitions.contains(partition) && waits(event))
            .map(|((producer, partition, _), _)| (*producer, *partition))
            .filter(|log| self.open.values().all(|open| !open.logs.contains(log)))
            .collect();
        let parked: BTreeSet<_> =
            self.deferred.values().filter(|event| !waits(event)).filter_map(|event| event.account_id).collect();
        let taken = self
            .deferred
            .iter()
            .filter(|((producer, partition, _), event)| {
                logs.contains(&(*producer, *partition))
                    && waits(event)
                    && event.account_id.is_none_or(|account| !parked.contains(&account))
            })
            .take(usize::try_from(limit).unwrap_or(0))
            .map(|(_, event)| event.envelope.clone())
            .collect();
        if let Some(open) = self.open.get_mut(&tx) {
            open.logs.extend(logs);
        }
        taken
    }
}
