//! Looking orders up.

use contracts::alpaca::{OrderEntity, Side};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Exchange;
use super::cancel::order_not_found;
use super::submit::unknown_account;
use crate::broker::fault::Call;
use crate::broker::order::Order;
use crate::broker::reply::Reply;

/// Orders that a list request looks at before it answers with what it has.
const SCAN_MAX: usize = 100_000;

/// Code of what this broker does not do at all.
const NOT_OFFERED: u32 = 50_110_000;

/// Which orders a list shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListStatus {
    /// Open ones.
    #[default]
    Open,
    /// Ended ones.
    Closed,
    /// All of them.
    All,
}

/// What a list request asks for.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// By where they stand.
    pub status: ListStatus,
    /// Most orders in the answer.
    pub limit: usize,
    /// Submitted after this, exclusive.
    pub after: Option<OffsetDateTime>,
    /// Submitted before this, exclusive.
    pub until: Option<OffsetDateTime>,
    /// Oldest first; newest first otherwise.
    pub ascending: bool,
    /// Of these symbols only; of all where empty.
    pub symbols: Vec<String>,
    /// Of this side only.
    pub side: Option<Side>,
}

impl ListFilter {
    fn shows(&self, order: &Order) -> bool {
        let status = match self.status {
            ListStatus::Open => order.is_open(),
            ListStatus::Closed => !order.is_open(),
            ListStatus::All => true,
        };
        status
            && order.visible
            && self.after.is_none_or(|after| order.terms.created_at > after)
            && self.until.is_none_or(|until| order.terms.created_at < until)
            && (self.symbols.is_empty() || self.symbols.contains(&order.terms.symbol))
            && self.side.as_ref().is_none_or(|side| *side == order.terms.side)
    }
}

impl Exchange {
    /// `GET /v1/trading/accounts/{account_id}/orders:by_client_order_id`.
    pub fn order_by_key(&mut self, account_id: &str, key: &str) -> Reply {
        let Some(account) = self.account(account_id) else { return unknown_account() };
        if !self.config.key_looked_up {
            return Reply::error(501, NOT_OFFERED, "orders are not found by client_order_id");
        }
        let fault = self.draw_call(account, key, Call::Lookup);
        self.under_fault(fault, key, |exchange| {
            let order = exchange.order_of_key(account, key).and_then(|index| exchange.orders.get(index));
            show(order.filter(|order| order.visible))
        })
    }

    /// `GET /v1/trading/accounts/{account_id}/orders/{order_id}`.
    pub fn order_by_id(&mut self, account_id: &str, order_id: Uuid) -> Reply {
        let Some(account) = self.account(account_id) else { return unknown_account() };
        let index = self.visible_order(account_id, order_id);
        let terms = index.and_then(|index| self.orders.get(index)).map(|order| order.terms.clone());
        let key = terms.as_ref().map_or("", |terms| terms.key());
        let fault = if key.is_empty() { None } else { self.draw_call(account, key, Call::Lookup) };
        self.under_fault(fault, key, |exchange| show(index.and_then(|index| exchange.orders.get(index))))
    }

    /// `GET /v1/trading/accounts/{account_id}/orders`.
    pub fn list(&mut self, account_id: &str, filter: &ListFilter) -> Reply {
        let Some(account) = self.account(account_id) else { return unknown_account() };
        let fault = self.draw_call(account, "", Call::List);
        self.under_fault(fault, "", |exchange| exchange.listed(account_id, filter))
    }

    fn listed(&self, account_id: &str, filter: &ListFilter) -> Reply {
        let Some(account) = self.account(account_id).and_then(|account| self.accounts.get(account)) else {
            return unknown_account();
        };
        let mut indexes: Box<dyn DoubleEndedIterator<Item = usize>> = if filter.status == ListStatus::Open {
            Box::new(account.open.iter().copied())
        } else {
            Box::new(account.orders.iter().copied())
        };
        if !filter.ascending {
            indexes = Box::new(indexes.rev());
        }
        let orders: Vec<OrderEntity> = indexes
            .take(SCAN_MAX)
            .filter_map(|index| self.orders.get(index))
            .filter(|order| filter.shows(order))
            .take(filter.limit)
            .map(Order::entity)
            .collect();
        Reply::json(200, &orders)
    }
}

fn show(order: Option<&Order>) -> Reply {
    order.map_or_else(order_not_found, |order| Reply::json(200, &order.entity()))
}
