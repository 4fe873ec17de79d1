//! The broker itself: its book, its faults, its truth. No clock and no sockets in here.

mod cancel;
mod emit;
mod listing;
mod operate;
mod restore;
mod submit;
#[cfg(test)]
mod tests;
mod trade;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use contracts::alpaca::{OrderStatus, Side, codes};
use contracts::calendar::{CalendarError, MarketCalendar, MarketHours};
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::config::SimConfig;
use super::event_log::EventLog;
use super::fault::{Call, FaultBook, FaultKind, FaultSpec, Query};
use super::journal::{Journal, JournalError, Record};
use super::matching::Resting;
use super::order::{Order, Terms};
use super::price::PricePath;
use super::reply::{Delivery, Reply};
use super::schedule::{Action, Schedule};
use super::universe::INSTRUMENTS;

pub use listing::{ListFilter, ListStatus};

/// Most orders that are kept.
const ORDERS_MAX: usize = 2_000_000;
/// Most client order ids of an account that calls are counted for.
const KEYS_MAX: usize = 4_000_000;
/// Most actions that can be on their way.
const SCHEDULE_MAX: usize = 1_000_000;
/// Most actions that are carried out at once, so that requests get their turn.
const ACTIONS_A_TURN_MAX: usize = 10_000;

/// What an exchange is made from.
#[derive(Debug, Clone)]
pub struct ExchangeSettings {
    /// Seed of everything that looks random.
    pub seed: u64,
    /// Its accounts.
    pub account_ids: Vec<String>,
    /// When it trades.
    pub market_hours: MarketHours,
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

/// How often a client order id was used, and for which order.
#[derive(Debug, Default)]
struct KeyEntry {
    order: Option<usize>,
    submits: u64,
    cancels: u64,
    lookups: u64,
}

/// The orders of one account.
#[derive(Debug)]
struct AccountBook {
    id: Arc<str>,
    keys: HashMap<String, KeyEntry>,
    /// All orders, oldest first.
    orders: Vec<usize>,
    open: BTreeSet<usize>,
    positions: HashMap<usize, Decimal>,
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
    generated_keys: u64,
    events_total: u64,
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
        let account = |id: &String| AccountBook {
            id: Arc::from(id.as_str()),
            keys: HashMap::new(),
            orders: Vec::new(),
            open: BTreeSet::new(),
            positions: HashMap::new(),
        };
        let mut exchange = Self {
            config: SimConfig::new(settings.seed),
            calendar: MarketCalendar::new(settings.market_hours)?,
            accounts: settings.account_ids.iter().map(account).collect(),
            orders: Vec::new(),
            by_id: HashMap::new(),
            executions: Vec::new(),
            resting: INSTRUMENTS.iter().map(|_| Resting::default()).collect(),
            path: PricePath::new(settings.seed),
            log: EventLog::new(settings.seed, settings.events_retained_max),
            faults: FaultBook::default(),
            schedule: Schedule::default(),
            journal: Journal::default(),
            clock: now,
            generated_keys: 0,
            events_total: 0,
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
            Action::Arrive { account, request } => {
                let _reply_that_nobody_waits_for = self.accept(account, &request, self.clock);
            }
            Action::Appear(order) => self.appear(order),
            Action::Open(order) => self.open_order(order),
            Action::NextPart(order) => self.next_part(order),
            Action::FinishCancel { order, fill_first } => self.finish_cancel(order, fill_first),
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

    pub(super) fn hit(&mut self, kind: FaultKind) {
        self.faults.count(kind);
        self.journal.record(&Record::Hit(kind));
    }

    /// Counts a call with a client order id and answers its number, from 1.
    fn count_call(&mut self, account: usize, key: &str, call: Call) -> u64 {
        let Some(book) = self.accounts.get_mut(account) else { return 1 };
        if book.keys.len() >= KEYS_MAX && !book.keys.contains_key(key) {
            return 1;
        }
        let entry = book.keys.entry(key.to_owned()).or_default();
        let count = match call {
            Call::Submit => &mut entry.submits,
            Call::Cancel => &mut entry.cancels,
            Call::Lookup => &mut entry.lookups,
        };
        *count += 1;
        *count
    }

    /// The request fault of a call about an order that is known, or of one about nothing.
    fn draw_call(&mut self, account: usize, key: &str, call: Call) -> Option<FaultSpec> {
        let attempt = self.count_call(account, key, call);
        let order = self.order_of_key(account, key);
        let terms = order.and_then(|order| self.orders.get(order)).map(|order| Arc::clone(&order.terms));
        let query = Query {
            call,
            key,
            symbol: terms.as_ref().map_or("", |terms| &terms.symbol),
            side: terms.as_ref().map_or(&Side::Buy, |terms| &terms.side),
            qty: terms.as_ref().map_or(Decimal::ZERO, |terms| terms.qty),
            attempt,
        };
        self.faults.draw_request(&self.config, &query)
    }

    fn order_of_key(&self, account: usize, key: &str) -> Option<usize> {
        self.accounts.get(account)?.keys.get(key)?.order
    }

    /// Carries out a call under a request fault.
    fn under_fault(&mut self, fault: Option<FaultSpec>, effect: impl FnOnce(&mut Self) -> Reply) -> Reply {
        let Some(fault) = fault else { return effect(self) };
        self.hit(fault.kind);
        match fault.kind {
            FaultKind::DropReply => effect(self).delivered(Delivery::HangUp),
            FaultKind::ErrorBeforeEffect => server_error(fault),
            FaultKind::ErrorAfterEffect => {
                effect(self);
                server_error(fault)
            }
            FaultKind::SlowReply => effect(self).delivered(Delivery::SendAfter(fault.delay_ms)),
            FaultKind::RateLimited => too_many_requests(),
            FaultKind::Reject => Reply::error(403, codes::FORBIDDEN, "insufficient buying power"),
            FaultKind::Nonsense | FaultKind::Html | FaultKind::HalfBody | FaultKind::NeverAnswer => {
                let reply = if fault.effect { effect(self) } else { server_error(fault) };
                garbled(reply, fault, self.config.never_answer_ms)
            }
            // The rest either closes the connection before anything is done, or never gets here.
            _ => Reply::hang_up(),
        }
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

fn server_error(fault: FaultSpec) -> Reply {
    let status = match fault.delay_ms % 4 {
        0 => 500,
        1 => 502,
        2 => 503,
        _ => 504,
    };
    Reply::error(status, codes::INTERNAL, "internal server error occurred")
}

/// 429.
#[must_use]
pub(super) fn too_many_requests() -> Reply {
    Reply::error(429, codes::RATE_LIMITED, "too many requests")
}

fn garbled(reply: Reply, fault: FaultSpec, never_answer_ms: u64) -> Reply {
    match fault.kind {
        FaultKind::Html => reply.delivered(Delivery::Html),
        FaultKind::HalfBody => reply.delivered(Delivery::HalfBody),
        FaultKind::NeverAnswer => reply.delivered(Delivery::NeverAnswer(never_answer_ms)),
        _ => {
            let body: &[u8] = match fault.delay_ms % 3 {
                0 => br#"{"ok":true}"#,
                1 => b"[]",
                _ => br#"{"id":7,"status":["new"]"#,
            };
            Reply { status: 200, body: body.to_vec(), delivery: Delivery::Send }
        }
    }
}
