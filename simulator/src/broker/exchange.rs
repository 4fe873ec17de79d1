//! The broker itself: its book, its faults, its truth. No clock and no sockets in here.

mod adjust;
mod book;
mod cancel;
mod emit;
mod fail;
mod listing;
mod operate;
mod portfolio;
mod replace;
mod restore;
mod submit;
#[cfg(test)]
mod tests;
mod trade;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use contracts::alpaca::OrderStatus;
use contracts::calendar::{CalendarError, MarketCalendar, MarketHours, Pace};
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::bars::Bars;
use super::config::SimConfig;
use super::event_log::EventLog;
use super::fault::FaultBook;
use super::journal::{Journal, JournalError};
use super::matching::Resting;
use super::order::{Order, Terms};
use super::price::PricePath;
use super::profile::Profile;
use super::schedule::{Action, Schedule};
use super::universe::INSTRUMENTS;

pub use adjust::{AdjustError, BustFilter};
use book::AccountBook;
pub(super) use fail::{too_many_requests, under_maintenance};
pub use listing::{ListFilter, ListStatus};

/// Most orders that are kept.
const ORDERS_MAX: usize = 2_000_000;
/// Most actions that can be on their way.
const SCHEDULE_MAX: usize = 1_000_000;
/// Most actions that are carried out at once, so that requests get their turn.
const ACTIONS_A_TURN_MAX: usize = 10_000;

/// What an exchange is made from.
#[derive(Debug, Clone)]
pub struct ExchangeSettings {
    /// Seed of everything that looks random.
    pub seed: u64,
    /// Which promises it makes at first.
    pub profile: Profile,
    /// How long a windowed key is enforced, in milliseconds of its clock.
    pub key_window_ms: u64,
    /// Its accounts.
    pub account_ids: Vec<String>,
    /// What each of them has at first, in US dollars.
    pub cash: Decimal,
    /// Whether it looks at that.
    pub checks_funds: bool,
    /// When it trades.
    pub market_hours: MarketHours,
    /// How fast its clock goes.
    pub pace: Pace,
    /// Recorded prices; symbols without any walk at random.
    pub bars: Bars,
    /// Events kept for replay.
    pub events_retained_max: usize,
    /// Where it survives its own restart.
    pub state_file: Option<PathBuf>,
}

/// Why an exchange cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The calendar.
    #[error("the market calendar")]
    Calendar(#[from] CalendarError),
    /// The state file.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The broker's state. Every method takes the time as it is now; it never goes backwards inside.
#[derive(Debug)]
pub struct Exchange {
    config: SimConfig,
    calendar: MarketCalendar,
    accounts: Vec<AccountBook>,
    orders: Vec<Order>,
    by_id: HashMap<Uuid, usize>,
    /// Every execution, as order and place in the order.
    executions: Vec<(usize, usize)>,
    resting: Vec<Resting>,
    path: PricePath,
    log: EventLog,
    faults: FaultBook,
    schedule: Schedule,
    journal: Journal,
    clock: OffsetDateTime,
    /// Coming events that live streams are going to drop.
    drop_next: u64,
    /// How often all streams were broken off.
    resets: u64,
}

impl Exchange {
    /// Opens an exchange, from its state file where there is one.
    ///
    /// # Errors
    /// [`OpenError`] when the state file is damaged or cannot be read.
    pub fn open(settings: &ExchangeSettings, now: OffsetDateTime) -> Result<Self, OpenError> {
        let mut exchange = Self {
            config: SimConfig {
                checks_funds: settings.checks_funds,
                key_window_ms: settings.key_window_ms,
                ..SimConfig::new(settings.seed).with_profile(settings.profile)
            },
            calendar: MarketCalendar::new(settings.market_hours)?.at_pace(settings.pace),
            accounts: settings.account_ids.iter().map(|id| AccountBook::new(id, settings.cash)).collect(),
            orders: Vec::new(),
            by_id: HashMap::new(),
            executions: Vec::new(),
            resting: INSTRUMENTS.iter().map(|_| Resting::default()).collect(),
            path: PricePath::new(settings.seed, settings.bars.clone()),
            log: EventLog::new(settings.seed, settings.events_retained_max),
            faults: FaultBook::default(),
            schedule: Schedule::default(),
            journal: Journal::default(),
            clock: now,
            drop_next: 0,
            resets: 0,
        };
        if let Some(path) = &settings.state_file {
            exchange.journal = Journal::open(path, |record| exchange.restore(record))?;
            exchange.resume(now);
            exchange.commit()?;
        }
        Ok(exchange)
    }

    /// Carries out what is due. Every other method expects that this was called first.
    pub fn advance(&mut self, now: OffsetDateTime) -> OffsetDateTime {
        self.clock = self.clock.max(now);
        for _ in 0..ACTIONS_A_TURN_MAX {
            let Some(action) = self.schedule.pop_due(self.clock) else { break };
            self.perform(action);
        }
        self.clock
    }

    /// When [`Self::advance`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<OffsetDateTime> {
        self.schedule.next_due()
    }

    /// Writes the state file. Nothing may be answered or streamed before.
    ///
    /// # Errors
    /// [`JournalError`] when it cannot be written; the broker must stop then.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        self.journal.commit()
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Arrive { account, request, attempt } => {
                let _reply_that_nobody_waits_for = self.accept(account, &request, self.clock, attempt);
            }
            Action::Appear(order) => self.appear(order),
            Action::Open(order) => self.open_order(order),
            Action::NextPart(order) => self.next_part(order),
            Action::FinishCancel { order, fill_first } => self.finish_cancel(order, fill_first),
            Action::RefuseCancel { order, fault } => self.refuse_cancel(order, fault),
            Action::FinishReplace { order, by, fault } => self.finish_replace(order, by, fault),
            Action::TellTrade(order) => self.tell_trade(order),
            Action::BustFirst(order) => self.bust_first(order),
            Action::CorrectFirst(order) => self.correct_first(order),
            Action::RejectLate(order) => self.reject_late(order),
            Action::Repeat(fact) => self.repeat(*fact),
            Action::Release(order) => self.release(order),
            Action::Expire(orders) => self.expire(&orders),
        }
    }

    /// Plans an action; with too many on their way it is due at once.
    fn plan(&mut self, delay_ms: u64, action: Action) {
        let delay = if self.schedule.len() < SCHEDULE_MAX { delay_ms } else { 0 };
        self.schedule.plan(self.clock.saturating_add(milliseconds(delay)), action);
    }

    fn account(&self, account_id: &str) -> Option<usize> {
        self.accounts.iter().position(|account| &*account.id == account_id)
    }

    fn account_of(&self, terms: &Terms) -> Option<usize> {
        self.account(&terms.account_id)
    }

    /// Takes an order out of everything that trades.
    fn close(&mut self, index: usize) {
        let Some(order) = self.orders.get(index) else { return };
        let terms = Arc::clone(&order.terms);
        if let Some(limit) = terms.limit_price
            && let Some(resting) = self.resting.get_mut(terms.instrument())
        {
            resting.remove(&terms.side, limit, index);
        }
        if let Some(account) = self.account_of(&terms).and_then(|account| self.accounts.get_mut(account)) {
            account.open.remove(&index);
        }
    }

    /// Ends an open order with a status.
    fn end(&mut self, index: usize, status: OrderStatus) {
        let at = self.clock;
        let Some(order) = self.orders.get_mut(index) else { return };
        order.change(at, |now| {
            match status {
                OrderStatus::Canceled => now.canceled_at = Some(at),
                OrderStatus::Expired => now.expired_at = Some(at),
                _ => now.failed_at = Some(at),
            }
            now.status = status;
        });
        self.close(index);
    }

    pub(super) fn orders(&self) -> &[Order] {
        &self.orders
    }

    pub(super) fn executions(&self) -> &[(usize, usize)] {
        &self.executions
    }

    fn is_open(&self, index: usize) -> bool {
        self.orders.get(index).is_some_and(Order::is_open)
    }
}

fn milliseconds(count: u64) -> Duration {
    Duration::milliseconds(i64::try_from(count).unwrap_or(i64::MAX))
}
