//! Asking for single orders: those that are open, and those of which less was shown than is known.

use super::{Found, Poll, PollError, Progress};
use crate::application::ports::{ConnectError, EventStore, FigureStore, OrderSource, StoreError};
use crate::domain::cumulative::KnownOrder;
use crate::domain::polled::PolledOrder;
use crate::domain::reading::read_frame;
use std::collections::BTreeSet;

impl<S: EventStore + FigureStore, B: OrderSource> Poll<S, B> {
    /// Asks for open orders that no page has shown, one by one, going on behind the last one of the poll before, and
    /// for those of which less was shown.
    pub(super) async fn singles(&self, progress: &mut Progress, found: &Found) -> Result<(), PollError> {
        let limit = i64::from(self.config.singles_max);
        let open = self.context.store.open_orders(&progress.single, limit).await?;
        let is_end = open.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        let mut asked = BTreeSet::new();
        let mut failed = None;
        // In turn, since one that is never answered would keep its place at every poll.
        let mut less: Vec<&KnownOrder> = found.less.iter().collect();
        less.sort_unstable_by_key(|order| (order.id <= progress.less, &order.id));
        for order in less.into_iter().take(usize::try_from(limit).unwrap_or(usize::MAX)) {
            progress.less.clone_from(&order.id);
            if asked.insert(order.id.as_str()) {
                failed = self.alone(order).await?.or(failed);
            }
        }
        for order in &open {
            let is_wanted = order.doubts > 0 || !found.seen.contains(&order.id);
            if is_wanted && asked.insert(order.id.as_str()) {
                failed = self.alone(order).await?.or(failed);
            }
            progress.single.clone_from(&order.id);
        }
        if is_end {
            progress.single.clear();
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Asks for one order. Answers why it could not: its turn comes again, and the ones behind it must not wait for it.
    async fn alone(&self, known: &KnownOrder) -> Result<Option<ConnectError>, PollError> {
        match self.source.order(&known.id).await {
            Ok(Some(text)) => {
                let order = self.read(&text);
                self.compare(known, &order).await?;
                self.store(vec![order]).await?;
                Ok(None)
            }
            Ok(None) => {
                tracing::warn!(broker_order_id = known.id, "the broker does not find an order that was open");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(broker_order_id = known.id, error = %platform::telemetry::Chain(&error), "an open order could not be asked for");
                Ok(Some(error))
            }
        }
    }

    /// Less than was known before the broker was asked was taken back, and nobody told it: a person looks.
    async fn compare(&self, known: &KnownOrder, order: &PolledOrder) -> Result<(), StoreError> {
        let Some(filled) = order.filled.filter(|_| order.key == known.id) else { return Ok(()) };
        if known.doubts == 0 && !known.falls_to(filled) {
            return Ok(());
        }
        let reading = read_frame(&self.context.profile, order.raw.clone());
        let Some(shown) = reading.outcome.ok().and_then(|read| read.figures) else { return Ok(()) };
        let now = self.context.clock.now();
        if self.context.store.compare_asked(known, shown.filled, &order.raw, now).await? {
            metrics::counter!("fill_receiver_fallen_orders_total").increment(1);
            tracing::error!(broker_order_id = known.id, known = %known.quantity, shown = %filled,
                "less is filled of an order than the broker told before: a person must look");
        }
        Ok(())
    }
}
