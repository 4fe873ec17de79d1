//! New orders.

use std::sync::Arc;

use contracts::alpaca::{ApiError, OrderRequest, OrderType, Side, TimeInForce, codes};
use contracts::calendar::CalendarError;
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};

use super::{Exchange, ORDERS_MAX, milliseconds};
use crate::broker::dice::Dice;
use crate::broker::fault::{Call, FaultKind, FaultSpec, Query, Stage};
use crate::broker::journal::Record;
use crate::broker::order::{Order, Terms};
use crate::broker::reply::{Delivery, Reply};
use crate::broker::schedule::Action;
use crate::broker::settings::ACCOUNTS_MAX;
use crate::broker::{split, universe};

/// Longest client order id.
const CLIENT_ORDER_ID_LEN_MAX: usize = 128;
/// Decimals of a quantity.
const QTY_SCALE_MAX: u32 = 9;
/// Quantities stay below this.
const QTY_LIMIT: i64 = 1_000_000_000;
/// Prices stay below this.
const PRICE_LIMIT: i64 = 1_000_000;
/// Days that a good-till-canceled order lives.
const GTC_DAYS: i64 = 90;
/// Most parts of an order.
const PARTS_MAX: u64 = 4;

impl Exchange {
    /// `POST /v1/trading/accounts/{account_id}/orders`.
    pub fn submit(&mut self, account_id: &str, body: &[u8]) -> Reply {
        let mut request: OrderRequest = match serde_json::from_slice(body) {
            Ok(request) => request,
            Err(error) => return Reply::error(422, codes::INVALID_REQUEST, format!("cannot read the order: {error}")),
        };
        let Some(account) = self.account(account_id) else { return unknown_account() };
        if request.client_order_id.is_empty() {
            request.client_order_id = self.generate_key(account, &String::from_utf8_lossy(body));
        }
        let attempt = self.count_call(account, &request.client_order_id, Call::Submit);
        let fault = self.draw_request(&query(&request, attempt, self.clock));
        let (now, key) = (self.clock, request.client_order_id.clone());
        match fault {
            Some(fault @ FaultSpec { kind: FaultKind::ArriveLate, delay_ms, .. }) => {
                self.strike(&fault, &key);
                self.plan(delay_ms, Action::Arrive { account, request: Box::new(request), attempt });
                Reply::hang_up()
            }
            Some(fault @ FaultSpec { kind: FaultKind::RecordLate, delay_ms, .. }) => {
                self.strike(&fault, &key);
                let visible_at = now.saturating_add(milliseconds(delay_ms));
                self.accept(account, &request, visible_at, attempt).delivered(Delivery::HangUp)
            }
            fault => self.under_fault(fault, &key, |exchange| exchange.accept(account, &request, now, attempt)),
        }
    }

    /// The request is here and is carried out; the order shows from `visible_at` on.
    pub(super) fn accept(
        &mut self,
        account: usize,
        request: &OrderRequest,
        visible_at: OffsetDateTime,
        attempt: u64,
    ) -> Reply {
        let key = &request.client_order_id;
        let broken = self.draw_all(&query(request, attempt, self.clock), Stage::Promise);
        let find = |kind| broken.iter().find(|fault| fault.kind == kind);
        if self.refuses_key(account, key) {
            let Some(fault) = find(FaultKind::ForgetKey) else {
                return Reply::json(422, &ApiError::duplicate_client_order_id());
            };
            self.strike(fault, key);
        }
        if self.config.honours_valid_until && request.valid_until.is_some_and(|until| self.clock > until) {
            let Some(fault) = find(FaultKind::IgnoreValidUntil) else {
                return Reply::error(422, codes::UNPROCESSABLE, "valid_until has passed");
            };
            self.strike(fault, key);
        }
        if let Err(reply) = self.check(account, request) {
            return reply;
        }
        let faults = self.draw_all(&query(request, attempt, self.clock), Stage::Execution);
        let Ok(terms) = self.terms(account, request, faults, visible_at) else {
            return Reply::error(500, codes::INTERNAL, "the market calendar has no session");
        };
        let index = self.insert(terms);
        if visible_at > self.clock {
            self.schedule.plan(visible_at, Action::Appear(index));
            return Reply::no_content();
        }
        self.acknowledge(index);
        let reply = match self.orders.get(index) {
            Some(order) => Reply::json(200, &order.entity()),
            None => Reply::hang_up(),
        };
        self.start(account, index);
        match self.orders.get(index).and_then(|order| order.terms.fault(FaultKind::FillBeforeAck)) {
            Some(fault) => reply.delivered(Delivery::SendAfter(fault.delay_ms)),
            None => reply,
        }
    }

    /// Lets an order that can be seen trade, with a stranger's beside it where a fault says so.
    fn start(&mut self, account: usize, index: usize) {
        self.begin_trading(index);
        let Some(terms) = self.orders.get(index).map(|order| Arc::clone(&order.terms)) else { return };
        if terms.fault(FaultKind::ForeignOrder).is_some() {
            self.strike_order(index, FaultKind::ForeignOrder);
            self.place_foreign(account, &terms.symbol, &terms.id.to_string());
        }
    }

    /// An order that was recorded late can be seen, and trades.
    pub(super) fn appear(&mut self, index: usize) {
        if self.orders.get(index).is_some_and(|order| !order.visible) {
            self.acknowledge(index);
            let account = self.orders.get(index).and_then(|order| self.account_of(&order.terms));
            self.start(account.unwrap_or_default(), index);
        }
    }

    /// A key for a request that came without one: the first that no equal request has.
    pub(super) fn generate_key(&mut self, account: usize, subject: &str) -> String {
        let mut number = 0;
        loop {
            let key = Dice::new(self.config.seed, "generated key", subject, number).uuid().to_string();
            if self.orders_of_key(account, &key) == 0 {
                return key;
            }
            number += 1;
        }
    }

    /// An order of somebody else, a market buy of one share, with a key drawn from `subject`.
    pub(super) fn place_foreign(&mut self, account: usize, symbol: &str, subject: &str) -> Option<usize> {
        if self.orders.len() >= ORDERS_MAX || universe::find(symbol).is_none() {
            return None;
        }
        let request = OrderRequest {
            symbol: symbol.to_owned(),
            qty: Decimal::ONE,
            side: Side::Buy,
            order_type: OrderType::Market,
            time_in_force: TimeInForce::Day,
            limit_price: None,
            client_order_id: Dice::new(self.config.seed, "foreign", subject, 0).uuid().to_string(),
            extended_hours: false,
            valid_until: None,
        };
        let mut terms = self.terms(account, &request, Vec::new(), self.clock).ok()?;
        terms.foreign = true;
        let index = self.insert(terms);
        self.acknowledge(index);
        self.begin_trading(index);
        Some(index)
    }

    /// The rules of form and business, in the order in which they are told.
    fn check(&self, account: usize, request: &OrderRequest) -> Result<(), Reply> {
        let invalid = |message: &str| Err(Reply::error(422, codes::INVALID_REQUEST, message));
        let refused = |message: String| Err(Reply::error(422, codes::UNPROCESSABLE, message));
        if request.client_order_id.len() > CLIENT_ORDER_ID_LEN_MAX {
            return invalid("client_order_id must be at most 128 characters");
        }
        if request.qty <= Decimal::ZERO {
            return invalid("qty must be > 0");
        }
        if request.qty.normalize().scale() > QTY_SCALE_MAX || request.qty >= Decimal::from(QTY_LIMIT) {
            return invalid("qty is out of range");
        }
        if !request.side.is_known() {
            return invalid("invalid side");
        }
        if !matches!(request.time_in_force, TimeInForce::Day | TimeInForce::Gtc) {
            return invalid("invalid time_in_force");
        }
        match (&request.order_type, request.limit_price) {
            (OrderType::Market, None) => {}
            (OrderType::Market, Some(_)) => return invalid("market orders must not have a limit_price"),
            (OrderType::Limit, None) => return invalid("limit orders require a limit_price"),
            (OrderType::Limit, Some(price)) => check_price(price)?,
            _ => return invalid("invalid order type"),
        }
        if universe::find(&request.symbol).is_none() {
            return refused(format!("asset \"{}\" is not tradable", request.symbol));
        }
        if self.orders.len() >= ORDERS_MAX {
            return Err(Reply::error(503, codes::UNAVAILABLE, "the broker is full"));
        }
        self.check_funds(account, request)
    }

    /// Refuses what the account cannot pay or does not have, where this broker looks at that.
    fn check_funds(&self, account: usize, request: &OrderRequest) -> Result<(), Reply> {
        let Some(book) = self.accounts.get(account).filter(|_| self.config.checks_funds) else { return Ok(()) };
        let instrument = universe::find(&request.symbol).map_or(usize::MAX, |(index, _)| index);
        let (cash_held, shares_held) = self.held(account, instrument);
        let refused = |message: &str| Err(Reply::error(403, codes::FORBIDDEN, message));
        if request.side == Side::Buy {
            let price = request.limit_price.unwrap_or_else(|| self.path.price(instrument));
            let short = request.qty * price > book.cash - cash_held;
            return if short { refused("insufficient buying power") } else { Ok(()) };
        }
        let owned = book.positions.get(&instrument).map_or(Decimal::ZERO, |position| position.qty);
        if request.qty > owned - shares_held { refused("insufficient qty available for order") } else { Ok(()) }
    }

    pub(super) fn terms(
        &self,
        account: usize,
        request: &OrderRequest,
        faults: Vec<FaultSpec>,
        visible_at: OffsetDateTime,
    ) -> Result<Terms, CalendarError> {
        let account_id = self.accounts.get(account).map_or_else(|| Arc::from(""), |book| Arc::clone(&book.id));
        // A second order under the same key, where the broker makes one, is another order.
        let number = account + ACCOUNTS_MAX * self.orders_of_key(account, &request.client_order_id);
        let mut dice = Dice::new(self.config.seed, "order", &request.client_order_id, number as u64);
        let id = dice.uuid();
        let (client_order_id, sent_key) = if self.config.key_accepted {
            (request.client_order_id.clone(), None)
        } else {
            (dice.uuid().to_string(), Some(request.client_order_id.clone()))
        };
        let session = self.calendar.session_at_or_after(self.clock.max(visible_at))?;
        let expires_at = if request.time_in_force == TimeInForce::Gtc {
            let last_day = session.closes_at.saturating_add(self.calendar.scaled(Duration::days(GTC_DAYS)));
            self.calendar.next_close(last_day)?
        } else {
            session.closes_at
        };
        let has = |kind| faults.iter().any(|fault| fault.kind == kind);
        let parts = if has(FaultKind::IdenticalPartials) {
            split::identical(request.qty)
        } else if dice.hits(self.config.partial_probability) || has(FaultKind::PartialFills) {
            let count = dice.between(2, PARTS_MAX);
            split::random(request.qty, count, &mut dice)
        } else {
            vec![request.qty]
        };
        Ok(Terms {
            index: self.orders.len(),
            id,
            account_id,
            client_order_id,
            sent_key,
            replaces: None,
            symbol: request.symbol.clone(),
            side: request.side.clone(),
            order_type: request.order_type.clone(),
            time_in_force: request.time_in_force.clone(),
            qty: request.qty,
            limit_price: request.limit_price,
            created_at: self.clock,
            opens_at: session.opens_at,
            expires_at,
            visible_at,
            foreign: false,
            parts,
            faults,
        })
    }

    /// Takes the order and its key.
    pub(super) fn insert(&mut self, terms: Terms) -> usize {
        let terms = Arc::new(terms);
        if self.journal.is_kept() {
            self.journal.record(&Record::Order(Box::new(Terms::clone(&terms))));
        }
        self.schedule.plan_expiry(terms.expires_at, terms.index);
        let index = self.index(&terms);
        if terms.fault(FaultKind::PartialFills).is_some() {
            self.strike_order(index, FaultKind::PartialFills);
        }
        index
    }

    /// Puts an order into every index.
    pub(super) fn index(&mut self, terms: &Arc<Terms>) -> usize {
        let index = terms.index;
        if let Some(account) = self.account_of(terms).and_then(|account| self.accounts.get_mut(account)) {
            account.keys.entry(terms.key().to_owned()).or_default().orders.push(index);
            account.orders.push(index);
            account.open.insert(index);
        }
        self.by_id.insert(terms.id, index);
        self.orders.push(Order::new(Arc::clone(terms)));
        index
    }
}

pub(super) fn unknown_account() -> Reply {
    Reply::error(403, codes::FORBIDDEN, "the account is not one of this correspondent")
}

fn query(request: &OrderRequest, attempt: u64, at: OffsetDateTime) -> Query<'_> {
    Query {
        call: Call::Submit,
        key: &request.client_order_id,
        symbol: &request.symbol,
        side: &request.side,
        qty: request.qty,
        attempt,
        at,
    }
}

/// A price of a dollar and more has two decimals, one below has four.
pub(super) fn check_price(price: Decimal) -> Result<(), Reply> {
    if price <= Decimal::ZERO || price >= Decimal::from(PRICE_LIMIT) {
        return Err(Reply::error(422, codes::INVALID_REQUEST, "limit_price is out of range"));
    }
    let decimals = if price >= Decimal::ONE { 2 } else { 4 };
    if price.normalize().scale() > decimals {
        let message =
            format!("invalid limit_price {price}. sub-penny increment does not fulfill minimum pricing criteria");
        return Err(Reply::error(422, codes::UNPROCESSABLE, message));
    }
    Ok(())
}
