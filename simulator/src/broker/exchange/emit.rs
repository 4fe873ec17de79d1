//! What the event stream gets to see.

use std::sync::Arc;

use contracts::alpaca::TradeEventKind;
use rust_decimal::Decimal;
use ulid::Ulid;

use super::Exchange;
use crate::broker::config::Probability;
use crate::broker::dice::Dice;
use crate::broker::event_log::Gone;
use crate::broker::fact::{Fact, Shown, StoredEvent};
use crate::broker::fault::FaultKind;
use crate::broker::journal::{EventRecord, Record};
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
            self.hit(FaultKind::ReorderEvents);
            self.append(held);
        }
    }

    /// An event was held long enough.
    pub(super) fn release(&mut self, index: usize) {
        if let Some(held) = self.orders.get_mut(index).and_then(|order| order.held.take()) {
            self.append(held);
        }
    }

    /// Sends an event again, the same but for its cursor.
    pub(super) fn repeat(&mut self, fact: Fact) {
        self.hit(FaultKind::DuplicateFill);
        self.append(fact);
    }

    /// What there is to tell of an order right now.
    pub(super) fn fact(&self, index: usize, kind: TradeEventKind, execution: Option<usize>) -> Option<Fact> {
        let order = self.orders.get(index)?;
        let execution = execution.and_then(|place| order.executions.get(place)).cloned();
        let subject = order.terms.client_order_id.as_str();
        let event_uuid = if execution.is_some() {
            uuid::Uuid::nil()
        } else {
            Dice::new(self.config.seed, kind.as_str(), subject, u64::from(order.now.revision)).uuid()
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
        })
    }

    fn position(&self, index: usize) -> Decimal {
        let position = || {
            let terms = &self.orders.get(index)?.terms;
            self.accounts.get(self.account_of(terms)?)?.positions.get(&terms.instrument()).copied()
        };
        position().unwrap_or_default()
    }

    /// Puts a fact into the stream.
    fn append(&mut self, mut fact: Fact) {
        let Some(terms) = self.orders.get(fact.order).map(|order| Arc::clone(&order.terms)) else { return };
        if fact.shown == Shown::LostLive {
            self.hit(FaultKind::LostEvent);
        } else if self.drop_next > 0 {
            self.drop_next -= 1;
            fact.shown = Shown::DroppedLive;
        }
        let (event_id, at) = (self.log.mint(self.clock), self.clock);
        if self.journal.is_kept() {
            let record = EventRecord { event_id: event_id.to_string(), at, fact: fact.clone() };
            self.journal.record(&Record::Event(Box::new(record)));
        }
        self.log.push(StoredEvent { event_id, at, terms, fact });
        self.events_total += 1;
        let reset = self.config.stream.get(&FaultKind::StreamReset).copied().unwrap_or_default();
        if reset > Probability::default() && Dice::new(self.config.seed, "stream", "", self.events_total).hits(reset) {
            self.reset_streams();
        }
    }

    /// Breaks off all streams.
    pub fn reset_streams(&mut self) {
        self.resets += 1;
        self.hit(FaultKind::StreamReset);
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
