//! Customers that post orders at the same time, until they have posted enough or are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rust_decimal::Decimal;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::market::Ideas;
use super::trader::{Order, Placed, Trader};

/// Orders between two looks at the positions, from which sells are drawn.
const LOOK_EVERY: usize = 5;
/// Accepted orders that may wait for their cancel.
const CANCELS_WAITING_MAX: usize = 3;

/// Longest wait for the orders that a drill is to have at least.
const ENOUGH_LIMIT: Duration = Duration::from_secs(600);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How much is posted.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// One seed, one set of orders of each worker.
    pub seed: u64,
    /// Concurrent posters of one account.
    pub workers: usize,
    /// Orders of all together before they may be told to stop.
    pub orders_min: usize,
    /// Orders of all together; without it they go on until they are told to stop.
    pub orders_max: Option<usize>,
    /// The longest pause between two orders of one worker.
    pub pause_max_ms: u64,
    /// Shares of one order at most.
    pub shares_max: i64,
    /// Whether no order is for a part of a share.
    pub whole_shares: bool,
    /// How long the outcome of one order may stay unknown.
    pub answer_limit: Duration,
}

/// How far a load is.
#[derive(Debug, Default)]
pub struct Progress {
    started: AtomicUsize,
    answered: AtomicUsize,
    accepted: AtomicUsize,
    retried: AtomicUsize,
    stop: AtomicBool,
}

impl Progress {
    /// Orders whose outcome is known.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// Orders that were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Orders that had to be posted more than once.
    #[must_use]
    pub fn retried(&self) -> usize {
        self.retried.load(Ordering::Relaxed)
    }

    /// Takes the right to post one more order.
    fn take(&self, orders_max: Option<usize>) -> bool {
        !self.stop.load(Ordering::Relaxed)
            && orders_max.is_none_or(|max| self.started.fetch_add(1, Ordering::Relaxed) < max)
    }
}

/// Posted orders with their answers, by the index of their customer.
pub type Posted = Vec<(usize, Order, Placed)>;

/// Customers at work.
#[derive(Debug)]
pub struct Load {
    progress: Arc<Progress>,
    workers: JoinSet<Posted>,
    orders_min: usize,
}

impl Load {
    /// Lets the customers begin.
    #[must_use]
    pub fn start(traders: &[Trader], options: LoadOptions) -> Self {
        let progress: Arc<Progress> = Arc::default();
        let mut workers = JoinSet::new();
        for trader in traders {
            for worker in 0..options.workers {
                workers.spawn(work(trader.worker(worker), worker, options, progress.clone()));
            }
        }
        Self { progress, workers, orders_min: options.orders_min }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Tells the customers to stop after their present order, once they have posted enough.
    pub async fn stop(&self) {
        let until = Instant::now() + ENOUGH_LIMIT;
        while self.progress.answered() < self.orders_min && Instant::now() < until {
            sleep(LOOK_PAUSE).await;
        }

        self.progress.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for all customers and tells what they posted.
    pub async fn finish(mut self) -> Posted {
        let mut all = Posted::new();
        while let Some(posted) = self.workers.join_next().await {
            // A worker panics nowhere and is not cancelled.
            all.extend(posted.unwrap_or_default());
        }
        all
    }
}

async fn work(trader: Trader, worker: usize, options: LoadOptions, progress: Arc<Progress>) -> Posted {
    let name = format!("a{}w{worker}", trader.index);
    let mut ideas = Ideas::new(options.seed, &name, options.shares_max, options.whole_shares);
    let mut positions: Vec<(String, Decimal)> = Vec::new();
    let mut cancels: Vec<Uuid> = Vec::new();
    let mut posted = Posted::new();
    while progress.take(options.orders_max) {
        if posted.len().is_multiple_of(LOOK_EVERY)
            && let Ok(found) = trader.positions().await
        {
            positions = found.into_iter().map(|position| (position.symbol, position.qty)).collect();
        }
        let plan = ideas.next(&positions);
        let (placed, tries) = trader.post_until_known(&plan.order, options.answer_limit).await;
        progress.answered.fetch_add(1, Ordering::Relaxed);
        if tries > 1 {
            progress.retried.fetch_add(1, Ordering::Relaxed);
        }
        if let Placed::Accepted(id) = placed {
            progress.accepted.fetch_add(1, Ordering::Relaxed);
            if plan.cancel {
                cancels.push(id);
            }
        }
        if cancels.len() > CANCELS_WAITING_MAX {
            // A cancel that fails, or comes too late, is as good a test as one that does not.
            let _taken = trader.cancel(cancels.remove(0)).await;
        }
        posted.push((trader.index, plan.order, placed));
        sleep(Duration::from_millis(ideas.pause_ms(options.pause_max_ms))).await;
    }
    for id in cancels {
        let _taken = trader.cancel(id).await;
    }
    posted
}
