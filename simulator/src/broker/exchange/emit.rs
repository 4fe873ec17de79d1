//! What the event stream gets to see.

use std::sync::Arc;

use contracts::alpaca::TradeEventKind;
use rust_decimal::Decimal;
use ulid::Ulid;

use super::Exchange;
use crate::broker::dice::Dice;
use crate::broker::event_log::Gone;
use crate::broker::fact::{Detail, Fact, Shown, StoredEvent};
use crate::broker::fault::{Call, FaultKind, FaultSpec, Stage};
use crate::broker::journal::{EventRecord, Record};
use crate::broker::order::Terms;
use crate::broker::schedule::Action;

impl Exchange {
    /// Tells what just happened to an order. A fault may hold it back until after the next event.
    pub(super) fn emit(&mut self, index: usize, kind: TradeEventKind, execution: Option<usize>) {
        let Some(mut fact) = self.fact(index, kind, execution) else { return };
        let Some(order) = self.orders.get_mut(index) else { return };
        if execution == Some(0) && order.terms.fault(FaultKind::LostEvent).is_some() {
            fact.shown = Shown::LostLive;
        }
        if let Some(fault) = order.terms.fault(FaultKind::ReorderEvents)
            && order.held.is_none()
            && !order.reordered
        {
            order.reordered = true;
            order.held = Some(fact.clone());
            self.journal.record(&Record::Held(Box::new(fact)));
            self.plan(fault.delay_ms, Action::Release(index));
            return;
        }
        let held = order.held.take();
        self.append(fact);
        if let Some(held) = held {
            self.strike_order(index, FaultKind::ReorderEvents);
            self.append(held);
        }
    }

    /// An event was held long enough.
    pub(super) fn release(&mut self, index: usize) {
        if let Some(held) = self.orders.get_mut(index).and_then(|order| order.held.take()) {
            self.append(held);
        }
    }

    /// Sends an event again, the same but for its cursor and what a fault does to its id.
    pub(super) fn repeat(&mut self, fact: Fact) {
        let kind = match fact.detail {
            Detail::Renamed(_) => FaultKind::DuplicateFillNewId,
            Detail::NoId => FaultKind::DuplicateFillNoId,
            Detail::Whole | Detail::Cumulative => FaultKind::DuplicateFill,
        };
        self.strike_order(fact.order, kind);
        self.append(fact);
    }

    /// What there is to tell of an order right now.
    pub(super) fn fact(&self, index: usize, kind: TradeEventKind, execution: Option<usize>) -> Option<Fact> {
        let order = self.orders.get(index)?;
        let execution = execution.and_then(|place| order.executions.get(place)).cloned();
        let subject = order.terms.id.to_string();
        let event_uuid = if execution.is_some() {
            uuid::Uuid::nil()
        } else {
            Dice::new(self.config.seed, kind.as_str(), &subject, u64::from(order.now.revision)).uuid()
        };
        let position_qty = execution.as_ref().map(|_| self.position(index));
        Some(Fact {
            order: index,
            kind,
            at: execution.as_ref().map_or(order.now.updated_at, |execution| execution.at),
            snapshot: order.now.clone(),
            execution,
            event_uuid,
            position_qty,
            shown: Shown::Always,
            detail: Detail::Whole,
        })
    }

    fn position(&self, index: usize) -> Decimal {
        let position = || {
            let terms = &self.orders.get(index)?.terms;
            self.accounts.get(self.account_of(terms)?)?.positions.get(&terms.instrument()).map(|position| position.qty)
        };
        position().unwrap_or_default()
    }

    /// Puts a fact into the stream.
    fn append(&mut self, mut fact: Fact) {
        let Some(order) = self.orders.get_mut(fact.order) else { return };
        order.events_told += 1;
        let (terms, number) = (Arc::clone(&order.terms), order.events_told);
        if !self.config.execution_ids {
            fact.detail = Detail::Cumulative;
        }
        let faults = if self.faults.is_quiet(&self.config, Call::Stream) {
            Vec::new()
        } else {
            self.draw_all(&self.query(&terms, Call::Stream, number), Stage::Stream)
        };
        self.choose_shown(&mut fact, &faults, &terms);
        let (event_id, at) = (self.log.mint(self.clock), self.clock);
        if self.journal.is_kept() {
            let record = EventRecord { event_id: event_id.to_string(), at, fact: fact.clone() };
            self.journal.record(&Record::Event(Box::new(record)));
        }
        self.log.push(StoredEvent { event_id, at, number, terms: Arc::clone(&terms), fact });
        for fault in faults.iter().filter(|fault| fault.kind == FaultKind::StreamReset) {
            self.strike(fault, terms.key());
            self.resets += 1;
        }
    }

    /// Which streams get to see an event.
    fn choose_shown(&mut self, fact: &mut Fact, faults: &[FaultSpec], terms: &Terms) {
        if fact.shown == Shown::LostLive {
            self.strike_order(fact.order, FaultKind::LostEvent);
        } else if let Some(fault) = faults.iter().find(|fault| fault.kind == FaultKind::DropMessage) {
            self.strike(fault, terms.key());
            fact.shown = Shown::DroppedLive;
        } else if self.drop_next > 0 {
            self.drop_next -= 1;
            fact.shown = Shown::DroppedLive;
        }
    }

    /// The faults of a push of these events, each kind once.
    pub(in crate::broker) fn draw_pushes(&mut self, events: &[Arc<StoredEvent>]) -> Vec<FaultSpec> {
        let mut faults: Vec<FaultSpec> = Vec::new();
        if self.faults.is_quiet(&self.config, Call::Push) {
            return faults;
        }
        for event in events {
            for fault in self.draw_all(&self.query(&event.terms, Call::Push, event.number), Stage::Push) {
                self.strike(&fault, event.terms.key());
                if !faults.iter().any(|other| other.kind == fault.kind) {
                    faults.push(fault);
                }
            }
        }
        faults
    }

    /// Breaks off all streams, on an operator's word.
    pub fn reset_streams(&mut self) {
        self.resets += 1;
    }

    /// Makes live streams drop the next events, and say so.
    pub fn drop_from_streams(&mut self, count: u64) {
        self.drop_next = self.drop_next.saturating_add(count);
    }

    /// How often all streams were broken off.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.resets
    }

    /// Position after the newest event.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.log.head()
    }

    /// Position of the oldest event that is kept.
    pub(in crate::broker) fn first(&self) -> u64 {
        self.log.first()
    }

    pub(in crate::broker) fn events_after(&self, id: Ulid) -> Result<u64, Gone> {
        self.log.after_id(id)
    }

    pub(in crate::broker) fn events_since(&self, at: time::OffsetDateTime) -> Result<u64, Gone> {
        self.log.since(at)
    }

    pub(in crate::broker) fn read_events(&self, position: u64, limit: usize) -> Vec<Arc<StoredEvent>> {
        self.log.read(position, limit)
    }
}
