//! From acceptance to the last execution.

use contracts::alpaca::{OrderStatus, OrderType, TradeEventKind};
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::Exchange;
use crate::broker::dice::Dice;
use crate::broker::fact::{Detail, Fact};
use crate::broker::fault::FaultKind;
use crate::broker::journal::Record;
use crate::broker::order::{Execution, ExecutionKind};
use crate::broker::schedule::Action;
use crate::broker::universe::INSTRUMENTS;

/// The price path's place is written to the state file every so many steps.
const STEPS_A_RECORD: u64 = 10;

impl Exchange {
    /// Moves all prices one step and fills what they cross.
    pub fn tick(&mut self) {
        self.path.advance();
        if self.path.step().is_multiple_of(STEPS_A_RECORD) {
            self.journal.record(&Record::Step(self.path.step()));
        }
        if !self.calendar.is_open(self.clock).unwrap_or(false) {
            return;
        }
        for (instrument, listed) in INSTRUMENTS.iter().enumerate() {
            if self.config.halted.contains(listed.symbol) {
                continue;
            }
            let price = self.path.price(instrument);
            let crossing = self.resting.get(instrument).map(|resting| resting.crossing(price)).unwrap_or_default();
            for index in crossing {
                self.fill_next(index, price);
            }
        }
    }

    /// Tells that an order was taken: `new`, or another word before it; `accepted` alone where it
    /// waits for the session.
    pub(super) fn acknowledge(&mut self, index: usize) {
        let at = self.clock;
        let seed = self.config.seed;
        let Some(order) = self.orders.get_mut(index) else { return };
        order.visible = true;
        let waits = order.terms.opens_at > at;
        let first = match Dice::new(seed, "acknowledge", &order.terms.id.to_string(), 0).between(0, 7) {
            _ if waits => Some((OrderStatus::Accepted, TradeEventKind::Accepted)),
            0 => Some((OrderStatus::PendingNew, TradeEventKind::PendingNew)),
            1 => Some((OrderStatus::Accepted, TradeEventKind::Accepted)),
            _ => None,
        };
        if let Some((status, kind)) = first {
            order.change(at, |now| now.status = status);
            self.emit(index, kind, None);
        }
        if !waits {
            self.tell_new(index);
        }
    }

    fn tell_new(&mut self, index: usize) {
        let at = self.clock;
        if let Some(order) = self.orders.get_mut(index) {
            order.change(at, |now| now.status = OrderStatus::New);
            self.emit(index, TradeEventKind::New, None);
        }
    }

    /// The session of an order that waited for it has begun.
    pub(super) fn open_order(&mut self, index: usize) {
        let status = self.orders.get(index).map(|order| order.now.status.clone());
        match status {
            Some(OrderStatus::Accepted | OrderStatus::PendingNew) => {
                self.tell_new(index);
                self.begin_trading(index);
            }
            Some(OrderStatus::PendingCancel) => self.begin_trading(index),
            _ => {}
        }
    }

    /// Lets an order trade, or waits for its session.
    pub(super) fn begin_trading(&mut self, index: usize) {
        let at = self.clock;
        let Some(order) = self.orders.get_mut(index) else { return };
        let terms = std::sync::Arc::clone(&order.terms);
        if terms.opens_at > at {
            self.schedule.plan(terms.opens_at, Action::Open(index));
            return;
        }
        order.live = true;
        if let Some(fault) = terms.fault(FaultKind::RejectLate) {
            order.doomed = true;
            self.plan(fault.delay_ms, Action::RejectLate(index));
            return;
        }
        let price = self.path.price(terms.instrument());
        if self.config.halted.contains(&terms.symbol) {
            self.rest(index);
            return;
        }
        if terms.fault(FaultKind::FillBeforeAck).is_some() {
            self.strike_order(index, FaultKind::FillBeforeAck);
            let remaining = self.orders.get(index).map_or(Decimal::ZERO, |order| order.remaining());
            self.execute(index, remaining, self.trade_price(index));
            return;
        }
        if terms.order_type == OrderType::Market {
            self.next_part(index);
            return;
        }
        if terms.crosses(price) {
            self.fill_next(index, price);
        }
        self.rest(index);
    }

    /// Lets an open limit order wait for its price.
    pub(super) fn rest(&mut self, index: usize) {
        let Some(order) = self.orders.get(index).filter(|order| order.is_open()) else { return };
        let terms = &order.terms;
        if let Some(limit) = terms.limit_price
            && let Some(resting) = self.resting.get_mut(terms.instrument())
        {
            resting.insert(&terms.side, limit, index);
        }
    }

    /// Fills the next part of a market order, and plans the one after it.
    pub(super) fn next_part(&mut self, index: usize) {
        loop {
            let Some(order) = self.orders.get(index).filter(|order| order.is_open() && order.live) else { return };
            if order.remaining().is_zero() || self.config.halted.contains(&order.terms.symbol) {
                return;
            }
            let price = self.path.price(order.terms.instrument());
            self.fill_next(index, price);
            if !self.is_open(index) {
                return;
            }
            let gap_ms = self.config.partial_gap_ms;
            if gap_ms > 0 {
                self.plan(gap_ms, Action::NextPart(index));
                return;
            }
        }
    }

    /// Fills the next part of an order, and its twin where it has one.
    fn fill_next(&mut self, index: usize, price: Decimal) {
        let Some(order) = self.orders.get(index).filter(|order| order.is_open() && order.live) else { return };
        let twins = order.trades == 0 && order.terms.fault(FaultKind::IdenticalPartials).is_some();
        self.execute(index, order.next_part(), price);
        if twins && let Some(order) = self.orders.get(index).filter(|order| order.is_open()) {
            let part = order.next_part();
            self.strike_order(index, FaultKind::IdenticalPartials);
            self.execute(index, part, price);
        }
    }

    /// The price now, or the limit of an order that does not cross it.
    pub(super) fn trade_price(&self, index: usize) -> Decimal {
        let Some(order) = self.orders.get(index) else { return Decimal::ZERO };
        let price = self.path.price(order.terms.instrument());
        match order.terms.limit_price {
            Some(limit) if !order.terms.crosses(price) => limit,
            _ => price,
        }
    }

    /// Executes a part of an order, and tells it: now, or later under a fault.
    pub(super) fn execute(&mut self, index: usize, qty: Decimal, price: Decimal) {
        let (at, seed) = (self.clock, self.config.seed);
        let Some(order) = self.orders.get_mut(index) else { return };
        if qty <= Decimal::ZERO || self.config.halted.contains(&order.terms.symbol) {
            return;
        }
        let number = order.trades;
        let mut dice = Dice::new(seed, "execution", &order.terms.id.to_string(), number as u64);
        let execution =
            Execution { execution_id: dice.uuid(), qty, price, at, kind: ExecutionKind::Trade, previous: None };
        order.trade(qty);
        match order.terms.fault(FaultKind::Backfill).filter(|_| number == 0) {
            Some(fault) => {
                order.untold = Some(execution.clone());
                self.journal.record(&Record::Untold { order: index, execution: Box::new(execution) });
                self.plan(fault.delay_ms, Action::TellTrade(index));
            }
            None => self.tell(index, execution),
        }
    }

    /// A trade that was kept back is told, with the time at which it happened.
    pub(super) fn tell_trade(&mut self, index: usize) {
        if let Some(execution) = self.orders.get_mut(index).and_then(|order| order.untold.take()) {
            self.strike_order(index, FaultKind::Backfill);
            self.tell(index, execution);
        }
    }

    pub(super) fn tell(&mut self, index: usize, execution: Execution) {
        let at = self.clock;
        let Some(order) = self.orders.get_mut(index) else { return };
        let was_open = order.is_open();
        let place = order.executions.len();
        order.tell(at, execution);
        let filled = was_open && !order.is_open();
        self.book_execution(index, place);
        let kind = if filled { TradeEventKind::Fill } else { TradeEventKind::PartialFill };
        self.emit(index, kind.clone(), Some(place));
        if filled {
            self.close(index);
        }
        if place == 0 {
            self.plan_sequels(index, kind);
        }
    }

    /// What comes of the first execution of an order.
    fn plan_sequels(&mut self, index: usize, kind: TradeEventKind) {
        let Some(order) = self.orders.get(index) else { return };
        let terms = order.terms.clone();
        let renamed = Dice::new(self.config.seed, "second id", &terms.id.to_string(), 0).uuid();
        let repeats = [
            (FaultKind::DuplicateFill, Detail::Whole),
            (FaultKind::DuplicateFillNewId, Detail::Renamed(renamed)),
            (FaultKind::DuplicateFillNoId, Detail::NoId),
        ];
        for (fault, detail) in repeats {
            if let Some(fault) = terms.fault(fault)
                && let Some(fact) = self.fact(index, kind.clone(), Some(0))
            {
                self.plan(fault.delay_ms, Action::Repeat(Box::new(Fact { detail, ..fact })));
            }
        }
        if let Some(fault) = terms.fault(FaultKind::Bust) {
            self.plan(fault.delay_ms, Action::BustFirst(index));
        }
        if let Some(fault) = terms.fault(FaultKind::Correct) {
            self.plan(fault.delay_ms, Action::CorrectFirst(index));
        }
    }

    /// Rejects an order that was accepted.
    pub(super) fn reject_late(&mut self, index: usize) {
        if self.is_open(index) {
            self.strike_order(index, FaultKind::RejectLate);
            self.end(index, OrderStatus::Rejected);
            self.emit(index, TradeEventKind::Rejected, None);
        }
    }

    /// Ends what is still open of a session's orders.
    pub(super) fn expire(&mut self, orders: &[usize]) {
        for index in orders {
            self.appear(*index);
            if self.is_open(*index) {
                self.end(*index, OrderStatus::Expired);
                self.emit(*index, TradeEventKind::Expired, None);
            }
        }
    }

    /// Prices of symbols as they are now; unknown symbols are left out.
    pub fn latest_trades<'a>(&self, symbols: impl Iterator<Item = &'a str>) -> Vec<(String, Decimal, OffsetDateTime)> {
        symbols
            .filter_map(crate::broker::universe::find)
            .map(|(index, instrument)| (instrument.symbol.to_owned(), self.path.price(index), self.clock))
            .collect()
    }
}
