//! Records ended calls in batches: whatever has ended by the time the last batch is committed goes
//! into the next one.

use super::chain::Chain;
use super::ports::{JitterSource, LaneStore, StoreError};
use super::record::{FinishedCall, fold};
use super::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use contracts::OrderId;
use futures_util::FutureExt;
use platform::pace::Pace;
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// Limits of the recorder.
#[derive(Debug, Clone, Copy)]
pub struct RecorderLimits {
    /// Most ends in one transaction.
    pub batch_len_max: usize,
    /// How far apart transactions of many ends begin.
    pub interval: Duration,
    /// Wait after a transaction that failed.
    pub error_delay: Duration,
    /// For how long an end is tried to be recorded before it is left to the deadline of its
    /// attempt: after that it is unknown, and the protocol asks the broker.
    pub give_up_after: Duration,
}

/// Records what the lane's calls came to.
pub struct Recorder<S, J> {
    /// The requests.
    pub store: Arc<S>,
    /// Promises and patience.
    pub rules: Arc<Rules>,
    /// Jitter of waits.
    pub jitter: J,
    /// Limits.
    pub limits: RecorderLimits,
    /// Rings when a record made work for the lane.
    pub wake: Arc<Notify>,
}

impl<S: LaneStore, J: JitterSource> Recorder<S, J> {
    /// Records until all senders are gone and the queue is empty.
    pub async fn run(self, mut finished: mpsc::Receiver<FinishedCall>) {
        let mut batch = Vec::with_capacity(self.limits.batch_len_max);
        let mut pace = Pace::new(self.limits.interval, self.limits.batch_len_max);
        while finished.recv_many(&mut batch, self.limits.batch_len_max).await > 0 {
            if pace.wait_until(Instant::now()).is_some() {
                pace.wait().await;
                let room = self.limits.batch_len_max.saturating_sub(batch.len());
                batch.extend(std::iter::from_fn(|| finished.try_recv().ok()).take(room));
            }
            let began = Instant::now();
            // Ends of one order stand together, in the order in which they came.
            batch.sort_by_key(|call| call.order_id);
            self.record_all(&batch).await;
            pace.worked(began, batch.len());
            batch.clear();
        }
    }

    /// Records a batch. Where one end in it can never be recorded, the batch is halved until that
    /// end's order stands alone, so that all others are.
    async fn record_all(&self, batch: &[FinishedCall]) {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let Err(error) = self.record(part).await else { continue };
            match halves(part) {
                Some((first, second)) => parts.extend([second, first]),
                None => {
                    metrics::counter!("gateway_unrecorded_calls_total").increment(u64::from(count(part.len())));
                    let order_id = part.first().map(|call| call.order_id.to_string()).unwrap_or_default();
                    tracing::error!(order_id = order_id, attempt = part.first().and_then(|call| call.kind.attempt()), error = %Chain(&error), calls = part.len(),
                        "the end of a call can never be recorded: it becomes unknown");
                }
            }
        }
    }

    /// Tries until it is recorded. Recording twice is harmless: an attempt that has a definite end
    /// keeps it, and evidence that is known changes nothing.
    ///
    /// # Errors
    /// What would fail again, at once.
    async fn record(&self, batch: &[FinishedCall]) -> Result<(), StoreError> {
        let deadline = Instant::now() + self.limits.give_up_after;
        loop {
            let began = Instant::now();
            match self.try_caught(batch).await {
                Ok(makes_work) => {
                    metrics::histogram!("gateway_record_calls").record(f64::from(count(batch.len())));
                    metrics::histogram!("gateway_record_duration_seconds").record(began.elapsed().as_secs_f64());
                    if makes_work {
                        self.wake.notify_one();
                    }
                    return Ok(());
                }
                Err(error) if error.is_deterministic() => return Err(error),
                Err(error) => {
                    metrics::counter!("gateway_store_errors_total", "operation" => "record").increment(1);
                    tracing::error!(error = %Chain(&error), calls = batch.len(),
                        "ends of calls could not be recorded");
                }
            }
            if Instant::now() >= deadline {
                metrics::counter!("gateway_unrecorded_calls_total").increment(u64::from(count(batch.len())));
                tracing::error!(calls = batch.len(), "ends of calls were given up: they become unknown");
                return Ok(());
            }
            tokio::time::sleep(self.limits.error_delay).await;
        }
    }

    /// A panic over one end must not lose the others.
    async fn try_caught(&self, batch: &[FinishedCall]) -> Result<bool, StoreError> {
        match AssertUnwindSafe(self.try_record(batch)).catch_unwind().await {
            Ok(result) => result,
            Err(_) => Err(StoreError::refused("record", "our code panicked over the end of a call")),
        }
    }

    async fn try_record(&self, batch: &[FinishedCall]) -> Result<bool, StoreError> {
        let orders: BTreeSet<OrderId> = batch.iter().map(|call| call.order_id).collect();
        let known = batch.iter().filter_map(|call| Some((call.order_id, call.attempt.clone()?))).collect();
        let mut makes_work = false;
        self.store
            .change(orders.into_iter().collect(), known, |at, loaded| {
                // What follows is only planned here; the lane tests the clock when it claims.
                let now = Now { at, is_trusted: true };
                let changes = fold(&self.rules, now, loaded, batch, || Jitter(self.jitter.permille()));
                makes_work = changes.iter().any(|change| change.request.due.is_some_and(|due| due.at <= at));
                changes
            })
            .await?;
        Ok(makes_work)
    }
}

/// Two halves of a batch that is sorted by order, each with whole orders; none of a single order.
fn halves(batch: &[FinishedCall]) -> Option<(&[FinishedCall], &[FinishedCall])> {
    let middle = batch.get(batch.len() / 2)?.order_id;
    let start = batch.partition_point(|call| call.order_id < middle);
    let at = if start > 0 { start } else { batch.partition_point(|call| call.order_id <= middle) };
    (at < batch.len()).then(|| batch.split_at(at))
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::change::{CallTrace, Change};
    use crate::application::claim::CallKind;
    use crate::application::ports::DatabaseMoment;
    use crate::application::record::CallOutcome;
    use crate::application::request::Loaded;
    use crate::application::rules::ReviewHold;
    use crate::config::Settings;
    use crate::domain::attempt::Attempt;
    use crate::domain::outcome::LookupOutcome;
    use platform::config::Configuration;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::sync::Mutex;
    use time::OffsetDateTime;
    use uuid::Uuid;

    /// Refuses, or panics at, whatever touches some orders.
    #[derive(Default)]
    struct Picky {
        refused: BTreeSet<OrderId>,
        panics: BTreeSet<OrderId>,
        recorded: Mutex<Vec<OrderId>>,
    }

    impl LaneStore for Picky {
        async fn claim<F>(&self, _: u32, _: Option<ReviewHold>, _: F) -> Result<u32, StoreError>
        where
            F: FnOnce(DatabaseMoment, Vec<Loaded>) -> Vec<Change> + Send,
        {
            Ok(0)
        }

        async fn change<F>(&self, orders: Vec<OrderId>, _: HashMap<OrderId, Attempt>, _: F) -> Result<(), StoreError>
        where
            F: FnOnce(OffsetDateTime, Vec<Loaded>) -> Vec<Change> + Send,
        {
            assert!(!orders.iter().any(|order| self.panics.contains(order)), "a defect");
            if orders.iter().any(|order| self.refused.contains(order)) {
                return Err(StoreError::refused("record", "value out of range"));
            }
            self.recorded.lock().unwrap().extend(orders);
            Ok(())
        }
    }

    struct NoJitter;

    impl JitterSource for NoJitter {
        fn permille(&self) -> u16 {
            0
        }
    }

    fn order(n: u8) -> OrderId {
        OrderId::new(Uuid::from_u128(u128::from(n)))
    }

    fn call(n: u8) -> FinishedCall {
        FinishedCall {
            order_id: order(n),
            kind: CallKind::Ask { began_at: OffsetDateTime::UNIX_EPOCH },
            outcome: CallOutcome::Lookup(LookupOutcome::None),
            trace: CallTrace { http_status: None, broker_code: None, detail: None, duration_us: None },
            attempt: None,
        }
    }

    async fn recorded(store: Picky, calls: Vec<FinishedCall>) -> BTreeSet<OrderId> {
        let store = Arc::new(store);
        let limits = RecorderLimits {
            interval: Duration::from_millis(10),
            batch_len_max: 64,
            error_delay: Duration::from_secs(1),
            give_up_after: Duration::from_secs(3600),
        };
        let recorder = Recorder {
            store: Arc::clone(&store),
            rules: Arc::new(Settings::defaults().unwrap().rules().unwrap()),
            jitter: NoJitter,
            limits,
            wake: Arc::new(Notify::new()),
        };
        let (sender, receiver) = mpsc::channel(64);
        for call in calls {
            sender.send(call).await.unwrap();
        }
        drop(sender);
        recorder.run(receiver).await;
        let recorded = store.recorded.lock().unwrap();
        recorded.iter().copied().collect()
    }

    #[tokio::test]
    async fn an_end_that_can_never_be_recorded_costs_its_neighbours_nothing() {
        let calls: Vec<_> = (0..40).rev().map(call).collect();
        let store = Picky { refused: BTreeSet::from([order(7), order(8)]), ..Picky::default() };
        let others: BTreeSet<_> = (0..40).filter(|n| ![7, 8].contains(n)).map(order).collect();
        assert_eq!(recorded(store, calls.clone()).await, others);
        let store = Picky { panics: BTreeSet::from([order(7), order(8)]), ..Picky::default() };
        assert_eq!(recorded(store, calls).await, others);
    }

    proptest! {
        #[test]
        fn halves_are_never_empty_and_never_part_an_order(mut orders in prop::collection::vec(0_u8..6, 0..30)) {
            orders.sort_unstable();
            let batch: Vec<_> = orders.into_iter().map(call).collect();
            let distinct: BTreeSet<_> = batch.iter().map(|call| call.order_id).collect();
            match halves(&batch) {
                Some((first, second)) => {
                    prop_assert!(first.last().unwrap().order_id < second.first().unwrap().order_id);
                    prop_assert_eq!(first.len() + second.len(), batch.len());
                }
                None => prop_assert!(distinct.len() < 2),
            }
        }
    }
}
