//! A shard worker: the one writer, in this process, of the accounts of its partitions. It runs in a
//! task of its own, so that a caller that hangs up leaves nothing half done.

use super::batch::{BatchRest, BatchRunner};
use super::facts::FactApplier;
use super::queue::{Command, Item, ShardHandle, SliceItem};
use super::reference::Reference;
use super::store::{Locks, Store, StoreError};
use contracts::{AccountId, OrderId, Partition};
use platform::lease::Leases;
use platform::pace::Pace;
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Most reserved orders that one tick looks at: the lane's rate is the gateway's matter, this only
/// bounds a transaction.
const RELEASE_LEN_MAX: i64 = 200;

/// Most events of one transaction of facts, unless a single slice has more.
const FACTS_LEN_MAX: usize = 512;

/// Most rounds of waiting events in one tick.
const REDRIVE_ROUNDS_MAX: usize = 20;

/// A worker whose last transaction had fewer commands is not busy.
const BUSY_LEN_MIN: usize = 4;

/// Most accounts of one worker that are in a transaction of their own at once.
pub const ALONE_MAX: usize = 2;

/// Sizes and times of a worker.
#[derive(Debug, Clone, Copy)]
pub struct ShardConfig {
    /// Most commands of one transaction.
    pub batch_len_max: usize,
    /// Most commands that wait.
    pub queue_len_max: usize,
    /// How often waiting events and reserved orders are looked at.
    pub tick: Duration,
    /// Pause before a batch of which nothing but busy accounts is left.
    pub busy_pause: Duration,
    /// How long a busy worker waits for more commands before a transaction of few; zero for never.
    pub gather: Duration,
    /// How far apart transactions of many events begin; zero for one after the other.
    pub facts_interval: Duration,
}

impl ShardConfig {
    /// Whether to wait for company. Most of what a transaction costs it costs once, so one of thirty
    /// commands costs little more than one of five; a command that comes alone waits for nobody.
    fn gathers(&self, last_len: usize, waiting: usize) -> bool {
        !self.gather.is_zero() && last_len >= BUSY_LEN_MIN && waiting > 0 && waiting < self.batch_len_max / 2
    }
}

/// The worker.
pub struct ShardWorker<S, L: Locks, R, C> {
    runner: Arc<BatchRunner<S, L, R>>,
    facts: FactApplier<S>,
    partitions: Vec<Partition>,
    /// Which of them this copy is to look after unasked; commands and slices it takes of all.
    leases: Leases,
    config: ShardConfig,
    clock: C,
    commands: mpsc::Receiver<Item>,
    slices: mpsc::Receiver<SliceItem>,
    /// A slice that is out of the queue already.
    next_slice: Option<SliceItem>,
    /// Where the walk over reserved orders stands: those that cannot be released yet, such as for want
    /// of a price, must not stand in the way of younger ones.
    reserved_after: Option<OrderId>,
    facts_pace: Pace,
    again: Vec<Item>,
    /// Locks of the last batch, which is committed: they are given back with the next one's, or now if none comes.
    held: Vec<L::Held>,
    /// Commands of the last batch.
    last_len: usize,
    /// Accounts in a transaction of their own, or waiting for one. Their other commands wait in
    /// `held_back`, so that an account still has one writer; a row that somebody else holds thus
    /// holds up its own account alone.
    detached: BTreeSet<AccountId>,
    held_back: Vec<Item>,
    waiting: VecDeque<(AccountId, Vec<Item>)>,
    alone: JoinSet<AccountId>,
}

impl<S: Store, L: Locks, R: Reference, C> ShardWorker<S, L, R, C>
where
    C: Fn() -> OffsetDateTime + Clone + Send + Sync + 'static,
{
    /// Builds a worker and its entrances.
    pub fn new(
        runner: BatchRunner<S, L, R>,
        facts: FactApplier<S>,
        partitions: Vec<Partition>,
        leases: Leases,
        config: ShardConfig,
        clock: C,
    ) -> (Self, ShardHandle) {
        let (commands_in, commands) = mpsc::channel(config.queue_len_max);
        let (slices_in, slices) = mpsc::channel(64);
        let worker = Self {
            runner: Arc::new(runner),
            facts,
            partitions,
            leases,
            config,
            clock,
            commands,
            slices,
            next_slice: None,
            reserved_after: None,
            facts_pace: Pace::new(config.facts_interval, FACTS_LEN_MAX / 2),
            again: Vec::new(),
            held: Vec::new(),
            last_len: 0,
            detached: BTreeSet::new(),
            held_back: Vec::new(),
            waiting: VecDeque::new(),
            alone: JoinSet::new(),
        };
        (worker, ShardHandle { commands: commands_in, slices: slices_in })
    }

    /// Works until `stop` resolves and the queues are empty, or every entrance is closed.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut next_tick = Instant::now() + self.config.tick;
        tokio::pin!(stop);
        let mut stopping = false;
        loop {
            while let Some(ended) = self.alone.try_join_next() {
                self.attach(ended.ok());
            }
            // A busy worker looks after what waits, too.
            if !stopping && Instant::now() >= next_tick {
                self.on_tick().await;
                next_tick = Instant::now() + self.config.tick;
            }
            // Facts first, but never so that commands starve: one transaction, then one batch.
            let facts_at = self.facts_pace.wait_until(Instant::now()).filter(|_| !stopping);
            let worked = facts_at.is_none() && self.apply_waiting().await;
            if !worked && self.config.gathers(self.last_len, self.commands.len().saturating_add(self.again.len())) {
                tokio::time::sleep(self.config.gather).await;
            }
            let batch = self.take_batch();
            if !batch.is_empty() {
                self.run_batch(batch).await;
                continue;
            }
            self.let_go().await;
            if worked {
                continue;
            }
            if stopping && self.detached.is_empty() {
                return;
            }
            // Nobody waits: the next command is a lone one again.
            self.last_len = 0;
            tokio::select! {
                biased;
                () = &mut stop, if !stopping => {
                    stopping = true;
                    self.commands.close();
                    self.slices.close();
                }
                Some(ended) = self.alone.join_next() => self.attach(ended.ok()),
                // One in the hand is enough until its time has come.
                slice = self.slices.recv(), if !stopping && self.next_slice.is_none() => match slice {
                    Some(slice) => self.next_slice = Some(slice),
                    None => return,
                },
                item = self.commands.recv(), if !stopping => match item {
                    Some(item) => self.again.extend(item.claim().then_some(item)),
                    None => return,
                },
                () = tokio::time::sleep_until(facts_at.unwrap_or(next_tick)), if facts_at.is_some() && self.next_slice.is_some() => {}
                () = tokio::time::sleep_until(next_tick), if !stopping => {}
            }
        }
    }

    fn take_batch(&mut self) -> Vec<Item> {
        let mut batch = Vec::new();
        for item in std::mem::take(&mut self.again) {
            self.sort_in(item, &mut batch);
        }
        while batch.len() < self.config.batch_len_max {
            match self.commands.try_recv() {
                Ok(item) if item.claim() => self.sort_in(item, &mut batch),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        batch
    }

    fn sort_in(&mut self, item: Item, batch: &mut Vec<Item>) {
        if !self.detached.contains(&item.command.account_id()) {
            batch.push(item);
        } else if self.held_back.len() < self.config.queue_len_max {
            self.held_back.push(item);
        } else {
            // Only commands of accounts that somebody else holds are here; the others go on.
            item.give_up();
        }
    }

    async fn run_batch(&mut self, batch: Vec<Item>) {
        let len = batch.len();
        self.last_len = len;
        metrics::counter!("command_batches_total").increment(1);
        metrics::counter!("commands_batched_total").increment(u64::try_from(len).unwrap_or(u64::MAX));
        let before = std::mem::take(&mut self.held);
        let (BatchRest { again, alone }, held) = self.runner.run_after(before, batch, (self.clock)()).await;
        self.held = held;
        if again.len() == len {
            self.let_go().await;
            tokio::time::sleep(self.config.busy_pause).await;
        }
        self.again = again;
        for (account, items) in alone {
            self.detached.insert(account);
            self.waiting.push_back((account, items));
        }
        self.start_alone();
    }

    async fn let_go(&mut self) {
        if !self.held.is_empty() {
            self.runner.let_go(std::mem::take(&mut self.held)).await;
        }
    }

    fn start_alone(&mut self) {
        while self.alone.len() < ALONE_MAX {
            let Some((account, items)) = self.waiting.pop_front() else { return };
            let (runner, clock) = (Arc::clone(&self.runner), self.clock.clone());
            self.alone.spawn(async move {
                runner.alone(items, &clock).await;
                account
            });
        }
    }

    /// An account is back; its commands go on. A task that panicked names no account, so then all
    /// that are not at work come back: the version check guards whoever is let in too early.
    fn attach(&mut self, account: Option<AccountId>) {
        match account {
            Some(account) => {
                self.detached.remove(&account);
            }
            None => {
                tracing::error!("a command's own transaction panicked");
                self.detached = self.waiting.iter().map(|(account, _)| *account).collect();
            }
        }
        self.again.append(&mut self.held_back);
        self.start_alone();
    }

    /// Applies the slices that wait, of both logs and all partitions, in one transaction of bounded
    /// size. Answers whether there were any.
    async fn apply_waiting(&mut self) -> bool {
        let (mut slices, mut replies, mut events) = (Vec::new(), Vec::new(), 0);
        let mut logs = BTreeSet::new();
        while let Some(item) = self.next_slice.take().or_else(|| self.slices.try_recv().ok()) {
            let full = !slices.is_empty() && item.slice.events.len() + events > FACTS_LEN_MAX;
            if full || !logs.insert(item.slice.log()) {
                self.next_slice = Some(item);
                break;
            }
            events += item.slice.events.len();
            slices.push(item.slice);
            replies.push(item.reply);
        }
        if slices.is_empty() {
            return false;
        }
        self.let_go().await;
        metrics::counter!("fact_transactions_total").increment(1);
        let began = Instant::now();
        let results = self.facts.apply_together(&slices, (self.clock)()).await;
        self.facts_pace.worked(began, events);
        for (reply, result) in replies.into_iter().zip(results) {
            // The consumer may be gone; the effect is committed all the same, with its position.
            let _gone = reply.send(result);
        }
        true
    }

    async fn on_tick(&mut self) {
        self.let_go().await;
        let preferred = self.leases.preferred(&self.partitions);
        if preferred.is_empty() {
            return;
        }
        for _ in 0..REDRIVE_ROUNDS_MAX {
            match self.facts.redrive(&preferred, (self.clock)()).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    warn("try waiting events again", &error);
                    break;
                }
            }
        }
        if self.runner.is_open((self.clock)()) {
            self.release_reserved(&preferred).await;
        }
    }

    async fn release_reserved(&mut self, partitions: &[Partition]) {
        let orders = match self.runner.store.reserved(partitions, self.reserved_after, RELEASE_LEN_MAX).await {
            Ok(orders) => orders,
            Err(error) => return warn("read reserved orders", &error),
        };
        let full = i64::try_from(orders.len()).is_ok_and(|len| len >= RELEASE_LEN_MAX);
        self.reserved_after = orders.last().filter(|_| full).map(|(order, _)| *order);
        let waiting: BTreeSet<OrderId> = self
            .again
            .iter()
            .chain(&self.held_back)
            .chain(self.waiting.iter().flat_map(|(_, items)| items))
            .filter_map(|item| item.command.released())
            .collect();
        let released = orders.into_iter().filter(|(order, account)| {
            // An account that is at work alone may be releasing this very order.
            !waiting.contains(order) && !self.detached.contains(account)
        });
        let items = released.map(|(order, account)| Item::internal(Command::Release(account, order)));
        self.again.extend(items.filter(Item::claim));
    }
}

fn warn(what: &'static str, error: &StoreError) {
    tracing::warn!(what, error = %platform::telemetry::Chain(error), "a worker's tick failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_worker_with_few_commands_waits_for_more() {
        let config = ShardConfig {
            batch_len_max: 64,
            queue_len_max: 64,
            tick: Duration::from_millis(1),
            busy_pause: Duration::from_millis(1),
            gather: Duration::from_millis(1),
            facts_interval: Duration::ZERO,
        };
        for (last_len, waiting, gathers) in
            [(0, 1, false), (3, 10, false), (4, 0, false), (4, 1, true), (64, 31, true), (64, 32, false)]
        {
            assert_eq!(config.gathers(last_len, waiting), gathers, "{waiting} after {last_len}");
        }
        assert!(!ShardConfig { gather: Duration::ZERO, ..config }.gathers(64, 1));
    }
}
