//! A shard worker: the one writer, in this process, of the accounts of its partitions. It runs in a
//! task of its own, so that a caller that hangs up leaves nothing half done.

use super::batch::BatchRunner;
use super::facts::FactApplier;
use super::queue::{Command, Item, ShardHandle, SliceItem};
use super::reference::Reference;
use super::store::{Locks, Store, StoreError};
use contracts::Partition;
use std::future::Future;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

/// Most reserved orders that one tick releases: the lane's rate is the gateway's matter, this only
/// bounds a transaction.
const RELEASE_LEN_MAX: i64 = 200;

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
}

/// The worker.
pub struct ShardWorker<S, L, R, C> {
    runner: BatchRunner<S, L, R>,
    facts: FactApplier<S>,
    partitions: Vec<Partition>,
    config: ShardConfig,
    clock: C,
    commands: mpsc::Receiver<Item>,
    slices: mpsc::Receiver<SliceItem>,
    again: Vec<Item>,
}

impl<S: Store, L: Locks, R: Reference, C: Fn() -> OffsetDateTime + Send> ShardWorker<S, L, R, C> {
    /// Builds a worker and its entrances.
    pub fn new(
        runner: BatchRunner<S, L, R>,
        facts: FactApplier<S>,
        partitions: Vec<Partition>,
        config: ShardConfig,
        clock: C,
    ) -> (Self, ShardHandle) {
        let (commands_in, commands) = mpsc::channel(config.queue_len_max);
        let (slices_in, slices) = mpsc::channel(64);
        let worker = Self { runner, facts, partitions, config, clock, commands, slices, again: Vec::new() };
        (worker, ShardHandle { commands: commands_in, slices: slices_in })
    }

    /// Works until `stop` resolves and the queues are empty, or every entrance is closed.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut tick = tokio::time::interval_at(Instant::now() + self.config.tick, self.config.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(stop);
        let mut stopping = false;
        loop {
            // Facts first, but never so that commands starve: one slice, then one batch.
            let slice = self.slices.try_recv().ok();
            let worked = slice.is_some();
            if let Some(slice) = slice {
                self.apply(slice).await;
            }
            let batch = self.take_batch();
            if !batch.is_empty() {
                self.run_batch(batch).await;
                continue;
            }
            if worked {
                continue;
            }
            if stopping {
                return;
            }
            tokio::select! {
                biased;
                () = &mut stop => {
                    stopping = true;
                    self.commands.close();
                    self.slices.close();
                }
                slice = self.slices.recv() => match slice {
                    Some(slice) => self.apply(slice).await,
                    None => return,
                },
                item = self.commands.recv() => match item {
                    Some(item) if item.claim() => self.again.push(item),
                    Some(_) => {}
                    None => return,
                },
                _ = tick.tick() => self.on_tick().await,
            }
        }
    }

    fn take_batch(&mut self) -> Vec<Item> {
        let mut batch = std::mem::take(&mut self.again);
        while batch.len() < self.config.batch_len_max {
            match self.commands.try_recv() {
                Ok(item) if item.claim() => batch.push(item),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        batch
    }

    async fn run_batch(&mut self, batch: Vec<Item>) {
        let len = batch.len();
        metrics::counter!("command_batches_total").increment(1);
        metrics::counter!("commands_batched_total").increment(u64::try_from(len).unwrap_or(u64::MAX));
        let again = self.runner.run(batch, (self.clock)()).await;
        if again.len() == len {
            tokio::time::sleep(self.config.busy_pause).await;
        }
        self.again = again;
    }

    async fn apply(&mut self, item: SliceItem) {
        let result = self.facts.apply(&item.slice, (self.clock)()).await;
        // The consumer may be gone; the effect is committed all the same, with its position.
        let _gone = item.reply.send(result);
    }

    async fn on_tick(&mut self) {
        if let Err(error) = self.facts.redrive(&self.partitions, (self.clock)()).await {
            warn("try waiting events again", &error);
        }
        if !self.runner.is_open((self.clock)()) {
            return;
        }
        match self.runner.store.reserved(&self.partitions, RELEASE_LEN_MAX).await {
            Ok(orders) => {
                let released =
                    orders.into_iter().map(|(order, account)| Item::internal(Command::Release(account, order)));
                self.again.extend(released.filter(Item::claim));
            }
            Err(error) => warn("read reserved orders", &error),
        }
    }
}

fn warn(what: &'static str, error: &StoreError) {
    tracing::warn!(what, %error, "a worker's tick failed");
}
