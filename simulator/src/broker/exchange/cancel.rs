//! Cancels.

use contracts::alpaca::{OrderStatus, TradeEventKind, codes};
use uuid::Uuid;

use super::Exchange;
use super::submit::unknown_account;
use crate::broker::fault::{Call, FaultKind, FaultSpec, Query, Stage};
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
        let fault = self.draw_call(account, &terms.client_order_id, Call::Cancel);
        self.under_fault(fault, |exchange| exchange.request_cancel(account, index))
    }

    /// An order by its id, where it belongs to the account and can be seen.
    pub(super) fn visible_order(&self, account_id: &str, order_id: Uuid) -> Option<usize> {
        let index = *self.by_id.get(&order_id)?;
        let order = self.orders.get(index)?;
        (order.visible && &*order.terms.account_id == account_id).then_some(index)
    }

    fn request_cancel(&mut self, account: usize, index: usize) -> Reply {
        let Some(order) = self.orders.get(index) else { return order_not_found() };
        if !order.is_open() || order.now.status == OrderStatus::PendingCancel {
            let message = format!("order is already in \"{}\" state", order.now.status);
            return Reply::error(422, codes::UNPROCESSABLE, message);
        }
        let terms = order.terms.clone();
        let attempt = self.accounts.get(account).and_then(|book| book.keys.get(&terms.client_order_id));
        let query = Query {
            call: Call::Cancel,
            key: &terms.client_order_id,
            symbol: &terms.symbol,
            side: &terms.side,
            qty: terms.qty,
            attempt: attempt.map_or(1, |entry| entry.cancels),
        };
        let faults = self.faults.draw_all(&self.config, &query, Stage::Cancel);
        if faults.iter().any(|fault| fault.kind == FaultKind::CancelRefused) {
            self.hit(FaultKind::CancelRefused);
            return Reply::error(422, codes::UNPROCESSABLE, "order is not cancelable");
        }
        self.mark_canceling(index);
        let fill_first = faults.into_iter().find(|fault| fault.kind == FaultKind::FillAfterCancel);
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
        if fill_first.is_some()
            && let Some(order) = self.orders.get(index).filter(|order| order.is_open())
        {
            let qty = split::half(order.remaining());
            self.hit(FaultKind::FillAfterCancel);
            self.execute(index, qty, self.trade_price(index));
        }
        if self.is_open(index) {
            self.end(index, OrderStatus::Canceled);
            self.emit(index, TradeEventKind::Canceled, None);
        }
    }
}

pub(super) fn order_not_found() -> Reply {
    Reply::error(404, codes::NOT_FOUND, "order not found")
}
