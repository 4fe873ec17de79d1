//! Starting again from the state file.

use std::sync::Arc;

use contracts::alpaca::{OrderStatus, OrderType, TradeEventKind};
use time::OffsetDateTime;

use super::{Exchange, milliseconds};
use crate::broker::fact::{Fact, StoredEvent};
use crate::broker::fault::FaultKind;
use crate::broker::journal::{EventRecord, Record};
use crate::broker::order::{Execution, ExecutionKind, Snapshot, Terms};
use crate::broker::schedule::Action;

/// Most steps that the price path is moved forward at start.
const STEPS_RESTORED_MAX: u64 = 100_000_000;

impl Exchange {
    /// Applies a record; false where it makes no sense.
    pub(super) fn restore(&mut self, record: Record) -> bool {
        match record {
            Record::Config(config) => self.config = *config,
            Record::Order(terms) => {
                if terms.index != self.orders.len() {
                    return false;
                }
                self.index(&Arc::new(*terms));
            }
            Record::Event(event) => return self.restore_event(*event),
            Record::Held(fact) => {
                if !self.restore_fact(&fact) {
                    return false;
                }
                if let Some(order) = self.orders.get_mut(fact.order) {
                    order.reordered = true;
                    order.held = Some(*fact);
                }
            }
            Record::Untold { order, execution } => {
                let Some(order) = self.orders.get_mut(order) else { return false };
                order.trade(execution.qty);
                order.untold = Some(*execution);
            }
            Record::Change { order, snapshot } => {
                if let Some(order) = self.orders.get_mut(order) {
                    order.visible = true;
                }
                return self.restore_snapshot(order, &snapshot);
            }
            Record::Called { account, key, call } => {
                self.count_call(account, &key, call);
            }
            Record::Rule(rule) => self.faults.restore(*rule),
            Record::RulesCleared => self.faults.clear_pending(),
            Record::Drawn { fault, rule } => self.faults.restore_drawn(fault, rule),
            Record::Strike(strike) => self.faults.struck(strike),
            Record::Split { instrument, to, from } => self.apply_split(instrument, to, from),
            Record::Step(step) => {
                while self.path.step() < step.min(STEPS_RESTORED_MAX) {
                    self.path.advance();
                }
            }
        }
        true
    }

    fn restore_event(&mut self, event: EventRecord) -> bool {
        let Some(event_id) = event.ulid() else { return false };
        if !self.restore_fact(&event.fact) {
            return false;
        }
        let Some(order) = self.orders.get_mut(event.fact.order) else { return false };
        let same = |held: &Fact| held.event_uuid == event.fact.event_uuid && held.execution == event.fact.execution;
        if order.held.as_ref().is_some_and(same) {
            order.held = None;
        }
        order.events_told += 1;
        let (terms, number) = (Arc::clone(&order.terms), order.events_told);
        self.log.push(StoredEvent { event_id, at: event.at, number, terms, fact: event.fact });
        true
    }

    fn restore_fact(&mut self, fact: &Fact) -> bool {
        let Some(order) = self.orders.get_mut(fact.order) else { return false };
        order.visible = true;
        if let Some(execution) = &fact.execution
            && !order.executions.iter().any(|known| known.execution_id == execution.execution_id)
        {
            let same = |untold: &mut Execution| untold.execution_id == execution.execution_id;
            let counted_already = order.untold.take_if(same).is_some();
            if execution.kind == ExecutionKind::Trade && !counted_already {
                order.trade(execution.qty);
            }
            order.executions.push(execution.clone());
            let place = order.executions.len() - 1;
            self.book_execution(fact.order, place);
        }
        self.restore_snapshot(fact.order, &fact.snapshot)
    }

    fn restore_snapshot(&mut self, index: usize, snapshot: &Snapshot) -> bool {
        let Some(order) = self.orders.get_mut(index) else { return false };
        if snapshot.revision > order.now.revision {
            order.now = snapshot.clone();
        }
        if !order.is_open() {
            self.close(index);
        }
        true
    }

    /// Plans again what was on its way. Requests that had not arrived are lost, as on any network.
    pub(super) fn resume(&mut self, now: OffsetDateTime) {
        let last_event = self.log.read(self.log.head().saturating_sub(1), 1);
        self.clock = last_event.first().map_or(now, |event| event.at.max(now));
        for index in 0..self.orders.len() {
            self.resume_order(index);
        }
    }

    fn resume_order(&mut self, index: usize) {
        let clock = self.clock;
        let Some(order) = self.orders.get_mut(index) else { return };
        let terms = Arc::clone(&order.terms);
        if order.held.is_some() {
            self.schedule.plan(clock, Action::Release(index));
        }
        if let Some(untold) = &order.untold {
            let delay_ms = terms.fault(FaultKind::Backfill).map_or(0, |fault| fault.delay_ms);
            self.schedule.plan(untold.at.saturating_add(milliseconds(delay_ms)), Action::TellTrade(index));
        }
        let Some(order) = self.orders.get(index).filter(|order| order.is_open()) else { return };
        let replaces = terms.replaces.and_then(|id| self.by_id.get(&id)).and_then(|old| self.orders.get(*old));
        if replaces.is_some_and(|old| old.now.replaced_by != Some(terms.id)) {
            // The replacement was under way and is lost with the process.
            if let Some(order) = self.orders.get_mut(index) {
                order.visible = true;
            }
            self.reject_replacement(index);
            return;
        }
        self.schedule.plan_expiry(terms.expires_at, index);
        if !order.visible {
            self.schedule.plan(terms.visible_at, Action::Appear(index));
            return;
        }
        if order.now.status == OrderStatus::PendingReplace {
            self.work_on(index);
            self.emit(index, TradeEventKind::OrderReplaceRejected, None);
        }
        self.resume_trading_of(index, &terms);
    }

    fn resume_trading_of(&mut self, index: usize, terms: &Terms) {
        let clock = self.clock;
        let Some(status) = self.orders.get(index).map(|order| order.now.status.clone()) else { return };
        if status == OrderStatus::PendingCancel {
            self.schedule.plan(clock, Action::FinishCancel { order: index, fill_first: None });
            return;
        }
        if matches!(status, OrderStatus::Accepted | OrderStatus::PendingNew) {
            self.schedule.plan(terms.opens_at, Action::Open(index));
            return;
        }
        let Some(order) = self.orders.get_mut(index) else { return };
        order.live = true;
        if terms.fault(FaultKind::RejectLate).is_some() {
            order.doomed = true;
            self.schedule.plan(clock, Action::RejectLate(index));
        } else if terms.order_type == OrderType::Market {
            self.schedule.plan(clock, Action::NextPart(index));
        } else {
            self.rest(index);
        }
    }
}
