//! One batch of commands, from the read to the answers: read, decide, lock the winners, write,
//! commit, give the locks back, answer. An account that loses goes to the next batch and holds
//! nobody up.

use super::books::Books;
use super::command::CommandError;
use super::queue::{Answer, Command, Done, Item};
use super::reference::Reference;
use super::store::{LockAnswer, LockMode, Locks, Plan, Store, StoreError, Transaction, Wants};
use crate::domain::hold::Charges;
use crate::domain::place::PlaceContext;
use crate::domain::refusal::Refusal;
use contracts::AccountId;
use contracts::calendar::MarketCalendar;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// How a worker decides commands.
#[derive(Debug, Clone, Copy)]
pub struct BatchPolicy {
    /// What we charge.
    pub charges: Charges,
    /// How old a reference price may be.
    pub reference_age_max: time::Duration,
    /// After so many lost versions a command runs under the row lock alone.
    pub losses_max: u32,
    /// After so many busy answers a command goes on without the account lock.
    pub busy_max: u32,
    /// How often a step that may be repeated is tried before the caller is told.
    pub tries_max: u32,
    /// Pause between such tries.
    pub retry_pause: Duration,
}

/// Decides batches of commands.
pub struct BatchRunner<S, L, R> {
    /// The database.
    pub store: Arc<S>,
    /// The account lock.
    pub locks: Arc<L>,
    /// Assets and prices.
    pub reference: Arc<R>,
    /// When the market is open.
    pub calendar: MarketCalendar,
    /// How.
    pub policy: BatchPolicy,
}

/// An item that was decided and waits for the commit.
struct Decided {
    item: Item,
    answer: Answer,
}

impl<S: Store, L: Locks, R: Reference> BatchRunner<S, L, R> {
    /// Runs claimed commands. Those that must be tried again come back.
    pub async fn run(&self, items: Vec<Item>, now: OffsetDateTime) -> Vec<Item> {
        let accounts: BTreeSet<AccountId> = items.iter().map(|item| item.command.account_id()).collect();
        let accounts: Vec<AccountId> = accounts.into_iter().collect();
        let (held, busy) = self.lock(&accounts).await;
        let mut again = Vec::new();
        let mut alone = Vec::new();
        let mut together = Vec::new();
        for mut item in items {
            if busy.contains(&item.command.account_id()) && item.busy < self.policy.busy_max {
                item.busy += 1;
                again.push(item);
            } else if item.lost >= self.policy.losses_max {
                alone.push(item);
            } else {
                together.push(item);
            }
        }
        if !together.is_empty() {
            again.extend(self.together(together, now, &mut alone).await);
        }
        for (_, items) in by_account(alone) {
            self.alone(items, now).await;
        }
        self.locks.release(held).await;
        again
    }

    async fn lock(&self, accounts: &[AccountId]) -> (Vec<L::Held>, BTreeSet<AccountId>) {
        let mut held = Vec::new();
        let mut busy = BTreeSet::new();
        for (account, answer) in accounts.iter().zip(self.locks.acquire(accounts).await) {
            match answer {
                LockAnswer::Acquired(lock) => held.push(lock),
                LockAnswer::Busy => {
                    busy.insert(*account);
                }
                // The version check behind the lock is the guard; go on without.
                LockAnswer::Unavailable => {}
            }
        }
        (held, busy)
    }

    /// Decides all in one transaction. What loses comes back; what needs a transaction of its own
    /// goes to `alone`.
    async fn together(&self, items: Vec<Item>, now: OffsetDateTime, alone: &mut Vec<Item>) -> Vec<Item> {
        let snapshot = match self.store.load(&wants(&items)).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                refuse_all(items, &error);
                return Vec::new();
            }
        };
        let versions: BTreeMap<AccountId, i64> =
            snapshot.accounts.iter().map(|(id, account)| (*id, account.version)).collect();
        let mut books = Books::open(snapshot, self.policy.charges, now);
        let decided = self.decide(items, &mut books, now);
        let plans = books.close();
        if plans.is_empty() {
            answer_all(decided);
            return Vec::new();
        }
        match self.commit(plans, &versions, now).await {
            Ok((written, lost)) => {
                let mut again = Vec::new();
                for mut d in decided {
                    let account = d.item.command.account_id();
                    if lost.contains(&account) {
                        metrics::counter!("account_versions_lost_total").increment(1);
                        d.item.lost += 1;
                        again.push(d.item);
                    } else {
                        debug_assert!(written.contains(&account) || !lost.contains(&account));
                        d.item.answer(d.answer);
                    }
                }
                again
            }
            // Each account alone: the bad one gets its own error, the others go through. An
            // unconfirmed commit goes the same way: under the row lock its outcome can be read.
            Err(StoreError::Data { .. } | StoreError::CommitUnknown { .. }) => {
                alone.extend(decided.into_iter().map(|d| d.item));
                Vec::new()
            }
            Err(error @ StoreError::Failed { .. }) => {
                let mut again = Vec::new();
                for mut d in decided {
                    d.item.lost += 1;
                    if d.item.lost > self.policy.tries_max {
                        let reason = "the database is not available";
                        tracing::warn!(%error, "a command is given back");
                        d.item.answer(Err(CommandError::NotTaken { reason }));
                    } else {
                        again.push(d.item);
                    }
                }
                tokio::time::sleep(self.policy.retry_pause).await;
                again
            }
        }
    }

    async fn commit(
        &self,
        plans: Vec<Plan>,
        versions: &BTreeMap<AccountId, i64>,
        now: OffsetDateTime,
    ) -> Result<(BTreeSet<AccountId>, BTreeSet<AccountId>), StoreError> {
        let wanted: BTreeMap<AccountId, i64> =
            plans.iter().filter_map(|plan| Some((plan.account.id, *versions.get(&plan.account.id)?))).collect();
        let mut tx = self.store.begin().await?;
        let won = tx.winners(&wanted).await?;
        let lost: BTreeSet<AccountId> = wanted.keys().filter(|id| !won.contains(id)).copied().collect();
        let plans: Vec<Plan> = plans.into_iter().filter(|plan| won.contains(&plan.account.id)).collect();
        if !plans.is_empty() {
            tx.write(&plans, now).await?;
            tx.commit(&plans, now).await?;
        }
        Ok((won, lost))
    }

    fn decide(&self, items: Vec<Item>, books: &mut Books, now: OffsetDateTime) -> Vec<Decided> {
        items
            .into_iter()
            .map(|item| {
                let answer = self.decide_one(&item.command, books, now);
                Decided { item, answer }
            })
            .collect()
    }

    fn decide_one(&self, command: &Command, books: &mut Books, now: OffsetDateTime) -> Answer {
        match command {
            Command::Place(place) => {
                let asset = self.reference.asset(place.terms.symbol());
                let context = PlaceContext {
                    asset: asset.as_ref(),
                    reference: self.reference.price(place.terms.symbol()),
                    reference_age_max: self.policy.reference_age_max,
                    open: self.is_open(now),
                    charges: self.policy.charges,
                    now,
                };
                let mut placed = books.place(place, &context)?;
                // Found under its own id: an earlier try of this very request was committed.
                placed.replayed &= placed.order.id != place.order_id;
                Ok(Done::Placed(Box::new(placed)))
            }
            Command::Cancel(account, order) => books.cancel(*account, *order).map(|()| Done::Nothing),
            Command::Release(account, order) => {
                if !self.is_open(now) {
                    return Ok(Done::Nothing);
                }
                let symbol = books.symbol_of(*order);
                let asset = symbol.and_then(|symbol| self.reference.asset(&symbol));
                books.release(*account, *order, asset.as_ref()).map(|()| Done::Nothing)
            }
            Command::Deposit(deposit) => books.deposit(deposit).map(|()| Done::Nothing),
        }
    }

    /// Whether the market is open. A broken calendar counts as closed: orders are then reserved,
    /// which loses nothing.
    #[must_use]
    pub fn is_open(&self, now: OffsetDateTime) -> bool {
        self.calendar.is_open(now).unwrap_or(false)
    }

    /// One account in a transaction of its own under the row lock, which nobody can win against.
    /// Every command decides the same when it is decided again, so this also settles what an
    /// unconfirmed commit did: under the lock no earlier transaction of the account is alive.
    async fn alone(&self, items: Vec<Item>, now: OffsetDateTime) {
        let mut items = items;
        let mut maybe_committed = false;
        for _ in 0..self.policy.tries_max.max(1) {
            match self.alone_once(&items, now).await {
                Ok(answers) => {
                    for (item, answer) in items.into_iter().zip(answers) {
                        item.answer(answer);
                    }
                    return;
                }
                Err(StoreError::Data { source, .. }) => {
                    tracing::error!(error = %source, "the database refuses a command's data");
                    if items.len() > 1 {
                        for item in std::mem::take(&mut items) {
                            Box::pin(self.alone(vec![item], now)).await;
                        }
                        return;
                    }
                    refuse_data(items);
                    return;
                }
                Err(StoreError::CommitUnknown { source }) => {
                    tracing::warn!(error = %source, "a commit was not confirmed; it is looked up");
                    maybe_committed = true;
                }
                Err(error @ StoreError::Failed { .. }) => {
                    tracing::warn!(%error, "a command is tried again");
                }
            }
            tokio::time::sleep(self.policy.retry_pause).await;
        }
        for item in items {
            let answer = if maybe_committed {
                metrics::counter!("commands_unknown_total").increment(1);
                item.command.unknown()
            } else {
                CommandError::NotTaken { reason: "the database is not available" }
            };
            item.answer(Err(answer));
        }
    }

    async fn alone_once(&self, items: &[Item], now: OffsetDateTime) -> Result<Vec<Answer>, StoreError> {
        let accounts: BTreeSet<AccountId> = items.iter().map(|item| item.command.account_id()).collect();
        let mut tx = self.store.begin().await?;
        tx.lock(&accounts, LockMode::Wait).await?;
        let snapshot = tx.load(&wants(items)).await?;
        let mut books = Books::open(snapshot, self.policy.charges, now);
        let answers = items.iter().map(|item| self.decide_one(&item.command, &mut books, now)).collect();
        let plans = books.close();
        tx.write(&plans, now).await?;
        tx.commit(&plans, now).await?;
        Ok(answers)
    }
}

fn by_account(items: Vec<Item>) -> BTreeMap<AccountId, Vec<Item>> {
    let mut grouped: BTreeMap<AccountId, Vec<Item>> = BTreeMap::new();
    for item in items {
        grouped.entry(item.command.account_id()).or_default().push(item);
    }
    grouped
}

fn wants<'a>(items: impl IntoIterator<Item = &'a Item>) -> Wants {
    let mut wants = Wants::default();
    for item in items {
        let account = item.command.account_id();
        wants.accounts.insert(account);
        match &item.command {
            Command::Place(place) => {
                wants.positions.insert((account, place.terms.symbol().clone()));
                wants.client_ids.insert((account, place.client_order_id.clone()));
            }
            Command::Cancel(_, order) | Command::Release(_, order) => {
                wants.orders.insert(*order);
            }
            Command::Deposit(deposit) => {
                wants.deposits.insert((account, deposit.reference.clone()));
            }
        }
    }
    wants
}

fn answer_all(decided: Vec<Decided>) {
    for d in decided {
        d.item.answer(d.answer);
    }
}

/// Nothing was written yet, so nothing has happened.
fn refuse_all(items: Vec<Item>, error: &StoreError) {
    tracing::warn!(%error, "commands are given back");
    for item in items {
        item.answer(Err(CommandError::NotTaken { reason: "the database is not available" }));
    }
}

fn refuse_data(items: Vec<Item>) {
    for item in items {
        item.answer(Err(CommandError::Refused(Refusal::OutOfRange)));
    }
}
