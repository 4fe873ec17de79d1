//! Asking a broker for its orders.
//!
//! A stream that cannot be replayed has lost for good what it told while nobody listened, or what never got through.
//! The orders themselves still show it: what is filled of each in all, and whether it is at its end. So every poll
//! reads all orders that were placed since the one before, minus an overlap, and then, one by one, those that are
//! known as open and were in none of its pages, and those that a page or an event shows less filled of. What is new of them is stored like an event of the stream.
//!
//! No clock of this process says how far was asked, for it may be wrong or be set. It is the broker's own time, as its
//! newest order shows it. The database's clock only bounds that: one order of a far future must not hide all until then.

mod alone;

use super::ports::{ConnectError, EventStore, FigureStore, OrderSource, OrderText, PollMove, StoreError};
use super::receiver::count;
use super::session::SessionContext;
use super::status::StreamState;
use crate::domain::cumulative::KnownOrder;
use crate::domain::cursor::Cursor;
use crate::domain::polled::{PolledOrder, read_polled};
use crate::domain::reading::{Poison, PoisonReason, Reading, read_frame};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// When and how much.
#[derive(Debug, Clone, Copy)]
pub struct PollConfig {
    /// Time between two polls.
    pub interval_ms: u64,
    /// How far a poll goes back behind the one before.
    pub overlap_ms: u64,
    /// Orders of a page.
    pub page_len: u32,
    /// Most pages of a poll.
    pub pages_max: u32,
    /// Most orders that a poll asks for one by one.
    pub singles_max: u32,
}

/// Why a poll did not come to its end.
#[derive(Debug, Error)]
enum PollError {
    #[error("broker did not show its orders")]
    Broker(#[from] ConnectError),
    #[error("orders could not be stored")]
    Store(#[from] StoreError),
    #[error("no order of a whole page shows when it was placed")]
    NoTimes,
}

/// Polls the broker.
pub struct Poll<S, B> {
    context: Arc<SessionContext<S>>,
    source: B,
    config: PollConfig,
    first: Cursor,
}

/// Where the next poll goes on.
#[derive(Default)]
struct Progress {
    /// How far this copy asked; none before it has read what is stored.
    reached: Option<Reached>,
    /// The last order that was asked for alone.
    single: String,
    /// The last of those that were asked for since less was shown of them.
    less: String,
}

/// How far the broker was asked.
#[derive(Clone, Copy)]
struct Reached {
    /// As it is stored.
    stored: OffsetDateTime,
    /// From where the next poll asks.
    since: OffsetDateTime,
}

/// What the pages of a poll showed.
#[derive(Default)]
struct Found {
    /// All of their orders.
    seen: BTreeSet<String>,
    /// Those of which less is filled than is known.
    less: Vec<KnownOrder>,
}

/// What the pages of a poll came to.
enum Pages {
    /// The last one, with when the newest order was placed; none where none shows it.
    Whole(Option<OffsetDateTime>),
    /// So far, and there are more.
    Until(OffsetDateTime),
}

/// When the newest order of a page was placed, as far as that can be: one that is dated long after most others would
/// hide all those that stand behind it.
fn newest(placed: impl Iterator<Item = OffsetDateTime>) -> Option<OffsetDateTime> {
    let mut times: Vec<OffsetDateTime> = placed.collect();
    times.sort_unstable();
    let latest = times.get(times.len() / 2)?.saturating_add(time::Duration::DAY);
    times.into_iter().rev().find(|at| *at <= latest)
}

impl<S: EventStore + FigureStore, B: OrderSource> Poll<S, B> {
    /// Puts the parts together. `first` is where a stream begins that was never read.
    #[must_use]
    pub fn new(context: Arc<SessionContext<S>>, source: B, config: PollConfig, first: Cursor) -> Self {
        Self { context, source, config, first }
    }

    /// Polls until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(Duration::from_millis(self.config.interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut progress = Progress::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // Whoever reads the stream polls. Another copy that takes over begins where this one came to.
            if self.context.status.state() == StreamState::Standby {
                progress = Progress::default();
                continue;
            }
            let polled = tokio::select! {
                () = shutdown.cancelled() => return,
                polled = self.once(&mut progress) => polled,
            };
            let result = if polled.is_ok() { "done" } else { "failed" };
            metrics::counter!("fill_receiver_polls_total", "result" => result).increment(1);
            if let Err(error) = polled {
                if matches!(error, PollError::Store(StoreError::CursorLost)) {
                    // Another copy polls, or the database was set back: what is stored decides.
                    progress = Progress::default();
                    self.context.forget();
                }
                tracing::warn!(error = %platform::telemetry::Chain(&error), "the broker's orders could not be polled");
            }
        }
    }

    async fn once(&self, progress: &mut Progress) -> Result<(), PollError> {
        let overlap_ms = i64::try_from(self.config.overlap_ms).unwrap_or(i64::MAX);
        let overlap = time::Duration::milliseconds(overlap_ms);
        let Reached { stored, since } = match progress.reached {
            Some(reached) => reached,
            None => {
                let stored = self.context.store.open_stream(self.first, self.context.clock.now()).await?.polled_to;
                Reached { stored, since: stored.saturating_sub(overlap) }
            }
        };
        let mut found = Found::default();
        let moved = match self.pages(since, &mut found).await? {
            Pages::Whole(newest) => {
                let to = newest.map_or(stored, |newest| newest.saturating_sub(overlap));
                PollMove { from: stored, to, behind_ms: Some(overlap_ms) }
            }
            // Without the overlap, or it would never get beyond what was placed within that.
            Pages::Until(to) => PollMove { from: stored, to, behind_ms: None },
        };
        // Only now: a process that dies before asks for the same once more.
        let stored = self.context.store.record_polled(moved).await?;
        progress.reached = Some(Reached { stored, since: stored });
        self.singles(progress, &found).await
    }

    /// Reads pages of orders from the oldest on.
    async fn pages(&self, since: OffsetDateTime, found: &mut Found) -> Result<Pages, PollError> {
        let (mut after, mut newest_of_all) = (since, None);
        for _ in 0..self.config.pages_max {
            let page = self.source.placed_after(after).await?;
            let is_last = page.len() < usize::try_from(self.config.page_len).unwrap_or(usize::MAX);
            let page: Vec<PolledOrder> = page.iter().map(|text| self.read(text)).collect();
            let newest = newest(page.iter().filter_map(|order| order.created_at));
            newest_of_all = newest_of_all.max(newest);
            let before = found.seen.len();
            found.seen.extend(page.iter().map(|order| order.key.clone()));
            let is_new = found.seen.len() > before;
            let shown: Vec<_> = page.iter().filter_map(|order| Some((order.key.clone(), order.filled?))).collect();
            self.store(page).await?;
            // Also of bytes that are known: an order may fall back to what it was.
            found.less.extend(self.context.store.shown_less(&shown, self.config.singles_max.into()).await?);
            match newest {
                // The next page begins before the last order of this one: others may have its very moment.
                Some(newest) if !is_last && is_new => after = newest.saturating_sub(time::Duration::milliseconds(1)),
                Some(newest) if !is_last => {
                    tracing::error!(%newest, "more orders than a page holds were placed at one moment: some are not seen");
                    after = newest;
                }
                None if !is_last => return Err(PollError::NoTimes),
                _ => return Ok(Pages::Whole(newest_of_all)),
            }
        }
        Ok(Pages::Until(after))
    }

    fn read(&self, text: &OrderText) -> PolledOrder {
        read_polled(self.source.account_id(), text, self.context.limits.frame_bytes_max)
    }

    /// Stores what these orders show that is not known byte for byte.
    async fn store(&self, orders: Vec<PolledOrder>) -> Result<(), PollError> {
        let epoch = self.context.seen().epoch();
        let mut readings: Vec<Reading> = Vec::new();
        for PolledOrder { raw, poison, .. } in orders {
            if poison.is_some() {
                metrics::counter!("fill_receiver_unreadable_orders_total").increment(1);
            }
            if self.context.seen().position(&raw.sha256()).is_some() {
                continue;
            }
            readings.push(match poison {
                Some(poison) => Reading { raw, position: None, outcome: Err(poison) },
                None => read_frame(&self.context.profile, raw),
            });
        }
        if readings.is_empty() {
            return Ok(());
        }
        match self.commit(epoch, &readings).await {
            // One bad order must not hold up its neighbours: what the database refuses alone is parked.
            Err(StoreError::Refused(_)) => {
                for mut reading in readings {
                    match self.commit(epoch, std::slice::from_ref(&reading)).await {
                        Err(StoreError::Refused(error)) => {
                            reading.outcome = Err(Poison::new(PoisonReason::Unstorable, &error.to_string()));
                            self.commit(epoch, std::slice::from_ref(&reading)).await?;
                        }
                        done => done?,
                    }
                }
                Ok(())
            }
            done => Ok(done?),
        }
    }

    async fn commit(&self, epoch: u64, readings: &[Reading]) -> Result<(), StoreError> {
        let stored = self.context.store.store(readings, None, self.context.clock.now()).await;
        let stored = stored.inspect_err(|error| {
            if !matches!(error, StoreError::Refused(_)) {
                self.context.forget();
            }
        })?;
        self.context.remember(epoch, readings);
        count(&stored);
        self.context.publisher.committed(stored.envelopes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misdated_order_of_a_page_does_not_say_how_far_it_reaches() {
        let at = |seconds: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let far = at(0) + time::Duration::weeks(4000);
        for page in [vec![at(1), at(2), far, at(3)], vec![at(1), at(2), at(3), far], vec![far, at(3), at(1)]] {
            assert_eq!(newest(page.into_iter()), Some(at(3)));
        }
        assert_eq!(newest([at(5)].into_iter()), Some(at(5)));
        assert_eq!(newest(std::iter::empty()), None);
    }
}
