//! One batch of commands, from the read to the answers: read, decide, lock the winners, write,
//! commit, give the locks back, answer. An account that loses goes to the next batch and holds
//! nobody up.

use super::books::Books;
use super::command::CommandError;
use super::queue::{Answer, Command, Done, Item};
use super::reference::Reference;
use super::store::{LockAnswer, LockMode, Locks, Plan, Store, StoreError, Transaction, Wants};
use crate::domain::account::Account;
use crate::domain::asset::Asset;
use crate::domain::hold::Charges;
use crate::domain::place::PlaceContext;
use crate::domain::refusal::Refusal;
use contracts::calendar::MarketCalendar;
use contracts::{AccountId, OrderId, Symbol};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::Instant;

/// How a worker decides commands.
#[derive(Debug, Clone, Copy)]
pub struct BatchPolicy {
    /// What we charge.
    pub charges: Charges,
    /// How old a reference price may be.
    pub reference_age_max: time::Duration,
    /// After so many lost versions a command runs under the row lock alone.
    pub losses_max: u32,
    /// How long a command waits for a busy account lock; then it goes on without, since its holder
    /// may be dead and the version check guards.
    pub busy_wait_max: Duration,
    /// How often a step that may be repeated is tried before the caller is told.
    pub tries_max: u32,
    /// Pause between such tries.
    pub retry_pause: Duration,
    /// No further try begins so long after the first failure, however many are left: a database that
    /// hangs makes each of them long.
    pub retry_max: Duration,
}

/// What a batch leaves to do.
#[derive(Debug, Default)]
pub struct BatchRest {
    /// Commands for the next batch.
    pub again: Vec<Item>,
    /// Accounts whose commands need a transaction of their own, see [`BatchRunner::alone`].
    pub alone: BTreeMap<AccountId, Vec<Item>>,
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
    /// Runs claimed commands. What is not answered comes back.
    pub async fn run(&self, items: Vec<Item>, now: OffsetDateTime) -> BatchRest {
        let (rest, held) = self.run_after(Vec::new(), items, now).await;
        self.let_go(held).await;
        rest
    }

    /// Gives locks back, after their commit.
    pub async fn let_go(&self, held: Vec<L::Held>) {
        self.locks.release(held).await;
    }

    /// Like [`Self::run`], but gives the locks of the batch before back in the round trip that takes the new ones,
    /// and hands over its own for the next.
    pub async fn run_after(
        &self,
        before: Vec<L::Held>,
        items: Vec<Item>,
        now: OffsetDateTime,
    ) -> (BatchRest, Vec<L::Held>) {
        let accounts: BTreeSet<AccountId> = items.iter().map(|item| item.command.account_id()).collect();
        let accounts: Vec<AccountId> = accounts.into_iter().collect();
        platform::kill_point!("order-server.before-lock");
        // In this order, so that an account of both batches is free when it is asked for.
        let ((), (held, busy)) = tokio::join!(self.let_go(before), self.lock(&accounts));
        platform::kill_point!("order-server.after-lock");
        let mut rest = BatchRest::default();
        let mut together = Vec::new();
        for mut item in items {
            let account = item.command.account_id();
            if item.lost >= self.policy.losses_max {
                rest.alone.entry(account).or_default().push(item);
            } else if busy.contains(&account) && !item.is_past_busy(self.policy.busy_wait_max) {
                rest.again.push(item);
            } else {
                if busy.contains(&account) {
                    went_on_without("busy", 1);
                }
                together.push(item);
            }
        }
        if !together.is_empty() {
            self.together(together, now, &mut rest).await;
        }
        (rest, held)
    }

    async fn lock(&self, accounts: &[AccountId]) -> (Vec<L::Held>, BTreeSet<AccountId>) {
        let mut held = Vec::new();
        let mut busy = BTreeSet::new();
        let mut unavailable = 0;
        for (account, answer) in accounts.iter().zip(self.locks.acquire(accounts).await) {
            match answer {
                LockAnswer::Acquired(lock) => held.push(lock),
                LockAnswer::Busy => {
                    busy.insert(*account);
                }
                // The version check behind the lock is the guard; go on without.
                LockAnswer::Unavailable => unavailable += 1,
            }
        }
        went_on_without("unavailable", unavailable);
        (held, busy)
    }

    /// Decides all in one transaction.
    async fn together(&self, items: Vec<Item>, now: OffsetDateTime, rest: &mut BatchRest) {
        let snapshot = match self.store.load(&wants(&items)).await {
            Ok(snapshot) => snapshot,
            Err(error) if error.is_deterministic() => return rest.add_alone(items.into_iter()),
            Err(error) => return self.retry(items, &error, rest).await,
        };
        let versions: BTreeMap<AccountId, i64> =
            snapshot.accounts.iter().map(|(id, account)| (*id, account.version)).collect();
        let mut books = Books::open(snapshot, self.policy.charges, now);
        let decided = self.decide(items, &mut books, now);
        let plans = books.close();
        if plans.is_empty() {
            for d in decided {
                d.item.answer(d.answer);
            }
            return;
        }
        let written: BTreeSet<AccountId> = plans.iter().map(|plan| plan.account.id).collect();
        let undecided = |decided: Vec<Decided>| decided.into_iter().map(|d| d.item);
        match self.commit(plans, &versions, now).await {
            Ok(lost) => settle(decided, &lost, rest),
            // Each account alone: the bad one gets its own error, the others go through.
            Err(StoreError::Data { .. } | StoreError::Corrupt { .. } | StoreError::Defect { .. }) => {
                rest.add_alone(undecided(decided))
            }
            // Under the row lock the outcome can be read.
            Err(StoreError::CommitUnknown { source }) => {
                tracing::warn!(error = %source, "a commit was not confirmed; it is looked up");
                rest.add_alone(undecided(decided).map(|mut item| {
                    item.maybe_committed |= written.contains(&item.command.account_id());
                    item
                }));
            }
            Err(error @ StoreError::Failed { .. }) => self.retry(undecided(decided).collect(), &error, rest).await,
        }
    }

    /// Nothing was written. Tries again a few times, since a restart of the database takes a moment.
    async fn retry(&self, items: Vec<Item>, error: &StoreError, rest: &mut BatchRest) {
        tracing::warn!(error = %platform::telemetry::Chain(error), commands = items.len(), "a batch failed before anything was written");
        for mut item in items {
            item.failed += 1;
            if item.failed > self.policy.tries_max || item.is_past_retry(self.policy.retry_max) {
                item.give_up();
            } else {
                rest.again.push(item);
            }
        }
        self.pause().await;
    }

    /// Waits before another try, where a wait is set.
    async fn pause(&self) {
        if !self.policy.retry_pause.is_zero() {
            tokio::time::sleep(self.policy.retry_pause).await;
        }
    }

    /// Writes the plans whose accounts still have the version that was read; answers the others.
    async fn commit(
        &self,
        plans: Vec<Plan>,
        versions: &BTreeMap<AccountId, i64>,
        now: OffsetDateTime,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        let wanted: BTreeMap<AccountId, i64> =
            plans.iter().filter_map(|plan| Some((plan.account.id, *versions.get(&plan.account.id)?))).collect();
        // Most batches meet nobody: then this is all.
        platform::kill_point!("order-server.before-commit");
        if self.store.commit_at_once(&plans, &wanted, now).await? {
            platform::kill_point!("order-server.before-answer");
            return Ok(BTreeSet::new());
        }
        let mut tx = self.store.begin().await?;
        let written = async {
            let won = tx.winners(&wanted).await?;
            let plans: Vec<Plan> = plans.into_iter().filter(|plan| won.contains(&plan.account.id)).collect();
            tx.write(&plans, now).await?;
            Ok::<_, StoreError>((won, plans))
        };
        let (won, plans) = match written.await {
            Ok(written) => written,
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        let lost: BTreeSet<AccountId> = wanted.keys().filter(|id| !won.contains(id)).copied().collect();
        if plans.is_empty() {
            tx.rollback().await;
        } else {
            tx.commit(&plans, now).await?;
            platform::kill_point!("order-server.before-answer");
        }
        Ok(lost)
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
            Command::Place(_) if !self.reference.is_loaded() => {
                Err(CommandError::NotTaken { reason: "the list of assets is not here yet" })
            }
            Command::Place(place) => {
                let asset = self.reference.asset(place.terms.symbol());
                let mut placed = books.place(place, &self.context(asset.as_ref(), place.terms.symbol(), now))?;
                // Found under its own id: an earlier try of this very request was committed.
                placed.replayed &= placed.order.id != place.order_id;
                Ok(Done::Placed(Box::new(placed)))
            }
            Command::Cancel(account, order) => books.cancel(*account, *order).map(|()| Done::Nothing),
            Command::Release(account, order) => self.release(*account, *order, books, now).map(|()| Done::Nothing),
            Command::Deposit(deposit) => books.deposit(deposit).map(|()| Done::Nothing),
            Command::Withdraw(withdrawal) => books.withdraw(withdrawal).map(|()| Done::Nothing),
            Command::Halt(halt) => books.halt(halt).map(|()| Done::Nothing),
        }
    }

    fn context<'a>(&self, asset: Option<&'a Asset>, symbol: &Symbol, now: OffsetDateTime) -> PlaceContext<'a> {
        PlaceContext {
            asset,
            reference: self.reference.price(symbol),
            reference_age_max: self.policy.reference_age_max,
            open: self.is_open(now),
            charges: self.policy.charges,
            now,
        }
    }

    fn release(
        &self,
        account: AccountId,
        order: OrderId,
        books: &mut Books,
        now: OffsetDateTime,
    ) -> Result<(), CommandError> {
        let Some(symbol) = books.symbol_of(order) else { return Ok(()) };
        // Not to end an order because of what is not known yet.
        if !self.is_open(now) || !self.reference.is_loaded() {
            return Ok(());
        }
        let asset = self.reference.asset(&symbol);
        books.release(account, order, &self.context(asset.as_ref(), &symbol, now))
    }

    /// Whether the market is open. A broken calendar counts as closed: orders are then reserved,
    /// which loses nothing.
    #[must_use]
    pub fn is_open(&self, now: OffsetDateTime) -> bool {
        self.calendar.is_open(now).unwrap_or(false)
    }

    /// One account in a transaction of its own under the row lock, which nobody can win against.
    /// This also settles what an unconfirmed commit did: it is read under the lock, and what has not happened by then
    /// never will, since the version moves.
    pub async fn alone(&self, mut items: Vec<Item>, clock: &(impl Fn() -> OffsetDateTime + Sync)) {
        let began = Instant::now();
        for tried in 0..self.policy.tries_max.max(1) {
            if tried > 0 && began.elapsed() >= self.policy.retry_max {
                break;
            }
            match self.alone_once(&items, clock()).await {
                Ok(answers) => {
                    for (item, answer) in items.into_iter().zip(answers) {
                        item.answer(answer);
                    }
                    return;
                }
                Err(error) if error.is_deterministic() && items.len() > 1 => {
                    tracing::warn!(error = %platform::telemetry::Chain(&error), "commands cannot be decided together; each alone");
                    for item in items {
                        Box::pin(self.alone(vec![item], clock)).await;
                    }
                    return;
                }
                Err(StoreError::Data { source, .. }) => {
                    tracing::error!(error = %source, "the database refuses a command's data");
                    for item in items {
                        item.answer(Err(CommandError::Refused(Refusal::OutOfRange)));
                    }
                    return;
                }
                Err(error @ (StoreError::Corrupt { .. } | StoreError::Defect { .. })) => {
                    tracing::error!(error = %platform::telemetry::Chain(&error), "a command cannot be decided");
                    for item in items {
                        item.give_up();
                    }
                    return;
                }
                Err(StoreError::CommitUnknown { source }) => {
                    tracing::warn!(error = %source, "a commit was not confirmed; it is looked up");
                    for item in &mut items {
                        item.maybe_committed = true;
                    }
                }
                Err(error @ StoreError::Failed { .. }) => {
                    tracing::warn!(error = %platform::telemetry::Chain(&error), "a command is tried again")
                }
            }
            self.pause().await;
        }
        for item in items {
            item.give_up();
        }
    }

    async fn alone_once(&self, items: &[Item], now: OffsetDateTime) -> Result<Vec<Answer>, StoreError> {
        let accounts: BTreeSet<AccountId> = items.iter().map(|item| item.command.account_id()).collect();
        let mut tx = self.store.begin().await?;
        match self.decide_locked(&mut tx, items, &accounts, now).await {
            Ok((answers, plans)) => {
                tx.commit(&plans, now).await?;
                Ok(answers)
            }
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }

    async fn decide_locked(
        &self,
        tx: &mut S::Tx,
        items: &[Item],
        accounts: &BTreeSet<AccountId>,
        now: OffsetDateTime,
    ) -> Result<(Vec<Answer>, Vec<Plan>), StoreError> {
        tx.lock(accounts, LockMode::Wait).await?;
        let snapshot = tx.load(&wants(items)).await?;
        let in_doubt = items.iter().filter(|item| item.maybe_committed).map(|item| item.command.account_id());
        let in_doubt: BTreeMap<AccountId, Account> =
            in_doubt.filter_map(|id| Some((id, snapshot.accounts.get(&id)?.clone()))).collect();
        let mut books = Books::open(snapshot, self.policy.charges, now);
        let answers = items
            .iter()
            .map(|item| match self.decide_one(&item.command, &mut books, now) {
                // The end of an order whose cancel may have been committed is that cancel's success.
                Err(CommandError::Refused(Refusal::NotCancelable { .. })) if item.maybe_committed => Ok(Done::Nothing),
                answer => answer,
            })
            .collect();
        let mut plans = books.close();
        // A statement that was never confirmed may not even have begun, and could do so after this answer. A version
        // that has moved is what it loses to, so an account whose commands come to nothing gets one, too.
        let planned: BTreeSet<AccountId> = plans.iter().map(|plan| plan.account.id).collect();
        plans.extend(
            in_doubt.into_iter().filter(|(id, _)| !planned.contains(id)).map(|(_, account)| Plan::new(account)),
        );
        tx.write(&plans, now).await?;
        Ok((answers, plans))
    }
}

/// Counts accounts, or commands of a busy account, that only the version check guards.
fn went_on_without(reason: &'static str, count: u64) {
    if count > 0 {
        metrics::counter!("account_lock_went_on_without_total", "reason" => reason).increment(count);
    }
}

impl BatchRest {
    fn add_alone(&mut self, items: impl Iterator<Item = Item>) {
        for item in items {
            self.alone.entry(item.command.account_id()).or_default().push(item);
        }
    }
}

/// Answers what was committed; what lost its version goes to the next batch.
fn settle(decided: Vec<Decided>, lost: &BTreeSet<AccountId>, rest: &mut BatchRest) {
    for mut d in decided {
        if lost.contains(&d.item.command.account_id()) {
            metrics::counter!("account_versions_lost_total").increment(1);
            d.item.lost += 1;
            rest.again.push(d.item);
        } else {
            d.item.answer(d.answer);
        }
    }
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
            Command::Withdraw(withdrawal) => {
                wants.withdrawals.insert((account, withdrawal.0.reference.clone()));
            }
            Command::Halt(_) => {}
        }
    }
    wants
}
