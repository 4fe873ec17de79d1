//! From acceptance to the last execution.

use contracts::alpaca::{OrderStatus, OrderType, Side, TradeEventKind};
use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::Exchange;
use crate::broker::dice::Dice;
use crate::broker::fault::FaultKind;
use crate::broker::journal::Record;
use crate::broker::order::Execution;
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
        for instrument in 0..INSTRUMENTS.len() {
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
        let first = match Dice::new(seed, "acknowledge", &order.terms.client_order_id, 0).between(0, 7) {
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
        if terms.fault(FaultKind::FillBeforeAck).is_some() {
            self.hit(FaultKind::FillBeforeAck);
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
        let twins = order.executions.is_empty() && order.terms.fault(FaultKind::IdenticalPartials).is_some();
        self.execute(index, order.next_part(), price);
        if twins && let Some(order) = self.orders.get(index).filter(|order| order.is_open()) {
            let part = order.next_part();
            self.hit(FaultKind::IdenticalPartials);
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

    /// Executes a part of an order.
    pub(super) fn execute(&mut self, index: usize, qty: Decimal, price: Decimal) {
        let (at, seed) = (self.clock, self.config.seed);
        let Some(order) = self.orders.get_mut(index) else { return };
        if qty <= Decimal::ZERO {
            return;
        }
        let place = order.executions.len();
        let mut dice = Dice::new(seed, "execution", &order.terms.id.to_string(), place as u64);
        order.fill(Execution { execution_id: dice.uuid(), qty, price, at });
        let filled = !order.is_open();
        let repeat = order.terms.fault(FaultKind::DuplicateFill).filter(|_| place == 0);
        self.book_execution(index, place);
        let kind = if filled { TradeEventKind::Fill } else { TradeEventKind::PartialFill };
        self.emit(index, kind.clone(), Some(place));
        if filled {
            self.close(index);
        }
        if let Some(fault) = repeat
            && let Some(fact) = self.fact(index, kind, Some(place))
        {
            self.plan(fault.delay_ms, Action::Repeat(Box::new(fact)));
        }
    }

    /// Adds an execution to the oracle's list and to the position.
    pub(super) fn book_execution(&mut self, index: usize, place: usize) {
        self.executions.push((index, place));
        let Some(order) = self.orders.get(index) else { return };
        let Some(execution) = order.executions.get(place) else { return };
        let signed = if order.terms.side == Side::Buy { execution.qty } else { -execution.qty };
        let instrument = order.terms.instrument();
        let account = self.account_of(&order.terms).and_then(|account| self.accounts.get_mut(account));
        if let Some(account) = account {
            *account.positions.entry(instrument).or_default() += signed;
        }
    }

    /// Rejects an order that was accepted.
    pub(super) fn reject_late(&mut self, index: usize) {
        if self.is_open(index) {
            self.hit(FaultKind::RejectLate);
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
