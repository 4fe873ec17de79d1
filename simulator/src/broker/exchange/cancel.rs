//! Cancels.

use contracts::alpaca::{OrderStatus, TradeEventKind, codes};
use uuid::Uuid;

use super::Exchange;
use super::submit::unknown_account;
use crate::broker::fault::{Call, FaultKind, FaultSpec, Stage};
use crate::broker::journal::Record;
use crate::broker::reply::Reply;
use crate::broker::schedule::Action;
use crate::broker::split;

impl Exchange {
    /// `DELETE /v1/trading/accounts/{account_id}/orders/{order_id}`.
    pub fn cancel(&mut self, account_id: &str, order_id: Uuid) -> Reply {
        let Some(account) = self.account(account_id) else { return unknown_account() };
        let Some(index) = self.visible_order(account_id, order_id) else { return order_not_found() };
        let Some(terms) = self.orders.get(index).map(|order| order.terms.clone()) else { return order_not_found() };
        let attempt = self.count_call(account, terms.key(), Call::Cancel);
        let fault = self.draw_request(&self.query(&terms, Call::Cancel, attempt));
        self.under_fault(fault, terms.key(), |exchange| exchange.request_cancel(index, attempt))
    }

    /// An order by its id, where it belongs to the account and can be seen.
    pub(super) fn visible_order(&self, account_id: &str, order_id: Uuid) -> Option<usize> {
        let index = *self.by_id.get(&order_id)?;
        let order = self.orders.get(index)?;
        (order.visible && &*order.terms.account_id == account_id).then_some(index)
    }

    pub(super) fn request_cancel(&mut self, index: usize, attempt: u64) -> Reply {
        let Some(order) = self.orders.get(index) else { return order_not_found() };
        let waits = matches!(order.now.status, OrderStatus::PendingCancel | OrderStatus::PendingReplace);
        if !order.is_open() || waits {
            let message = format!("order is already in \"{}\" state", order.now.status);
            return Reply::error(422, codes::UNPROCESSABLE, message);
        }
        let terms = order.terms.clone();
        let faults = self.draw_all(&self.query(&terms, Call::Cancel, attempt), Stage::Cancel);
        let find = |kind| faults.iter().find(|fault| fault.kind == kind).copied();
        if let Some(fault) = find(FaultKind::CancelRefused) {
            self.strike(&fault, terms.key());
            return Reply::error(422, codes::UNPROCESSABLE, "order is not cancelable");
        }
        self.mark_canceling(index);
        if let Some(fault) = find(FaultKind::CancelRejectedLate) {
            self.plan(fault.delay_ms, Action::RefuseCancel { order: index, fault });
            return Reply::no_content();
        }
        let fill_first = find(FaultKind::FillAfterCancel);
        let delay_ms = self.config.cancel_delay_ms.max(fill_first.map_or(0, |fault| fault.delay_ms));
        if delay_ms == 0 {
            self.finish_cancel(index, fill_first);
        } else {
            self.plan(delay_ms, Action::FinishCancel { order: index, fill_first });
        }
        Reply::no_content()
    }

    fn mark_canceling(&mut self, index: usize) {
        let at = self.clock;
        let Some(order) = self.orders.get_mut(index) else { return };
        order.change(at, |now| {
            now.status = OrderStatus::PendingCancel;
            now.cancel_requested_at = Some(at);
        });
        let snapshot = Box::new(order.now.clone());
        self.journal.record(&Record::Change { order: index, snapshot });
    }

    /// A cancel takes effect, unless the order was filled meanwhile.
    pub(super) fn finish_cancel(&mut self, index: usize, fill_first: Option<FaultSpec>) {
        if let Some(fault) = fill_first
            && let Some(order) = self.orders.get(index).filter(|order| order.is_open())
        {
            let (terms, qty) = (order.terms.clone(), split::half(order.remaining()));
            self.strike(&fault, terms.key());
            self.execute(index, qty, self.trade_price(index));
        }
        if self.is_open(index) {
            self.end(index, OrderStatus::Canceled);
            self.emit(index, TradeEventKind::Canceled, None);
        }
    }

    /// A cancel that was accepted is refused: the order works on.
    pub(super) fn refuse_cancel(&mut self, index: usize, fault: FaultSpec) {
        let Some(order) = self.orders.get(index) else { return };
        let terms = order.terms.clone();
        self.strike(&fault, terms.key());
        self.work_on(index);
        self.emit(index, TradeEventKind::OrderCancelRejected, None);
    }

    /// An order whose cancel or replacement came to nothing has its status back.
    pub(super) fn work_on(&mut self, index: usize) {
        let at = self.clock;
        let Some(order) = self.orders.get_mut(index).filter(|order| order.is_open()) else { return };
        let waits = order.terms.opens_at > at;
        let status = match order.now.filled_qty.is_zero() {
            true if waits => OrderStatus::Accepted,
            true => OrderStatus::New,
            false => OrderStatus::PartiallyFilled,
        };
        order.change(at, |now| now.status = status);
    }
}

pub(super) fn order_not_found() -> Reply {
    Reply::error(404, codes::NOT_FOUND, "order not found")
}
