//! What a broker changes afterwards: busts, corrections, late trades, splits.

use contracts::alpaca::{OrderStatus, TradeEventKind};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Exchange;
use crate::broker::dice::Dice;
use crate::broker::fault::FaultKind;
use crate::broker::journal::Record;
use crate::broker::order::{Execution, ExecutionKind};
use crate::broker::universe;

/// A correction of a fault moves the price by this many cents.
const CORRECTION_CENTS: i64 = 1;
/// Most new shares for one old one, and the other way round.
const RATIO_MAX: u32 = 1_000;

/// Which executions are taken back.
#[derive(Debug, Clone, Default)]
pub struct BustFilter {
    /// Those that happened at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Those of this symbol only.
    pub symbol: Option<String>,
    /// Those of orders under this client order id only.
    pub client_order_id: Option<String>,
}

/// Why something cannot be changed afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdjustError {
    /// No such execution, or it was taken back already.
    #[error("there is no such execution, or it does not stand any more")]
    Execution,
    /// No such order.
    #[error("there is no such order")]
    Order,
    /// More than the order was for.
    #[error("the quantity is not above zero, or more than what is left of the order")]
    Quantity,
    /// A price that cannot be.
    #[error("the price is not above zero")]
    Price,
    /// A symbol that is not traded here.
    #[error("there is no such symbol")]
    Symbol,
    /// A ratio that makes no sense.
    #[error("to and from are between 1 and {RATIO_MAX}, and differ")]
    Ratio,
}

impl Exchange {
    /// Takes back every execution that a filter names, and answers how many.
    pub fn bust(&mut self, filter: &BustFilter) -> usize {
        let mut chosen = Vec::new();
        for (index, order) in self.orders.iter().enumerate() {
            let terms = &order.terms;
            let wanted = filter.symbol.as_ref().is_none_or(|symbol| *symbol == terms.symbol)
                && filter.client_order_id.as_deref().is_none_or(|key| key == terms.key());
            if wanted && !order.executions.is_empty() {
                chosen.extend(order.standing().into_iter().map(|place| (index, place)));
            }
        }
        chosen.retain(|(index, place)| {
            let at = self.execution(*index, *place).map(|execution| execution.at);
            at.is_some_and(|at| filter.since.is_none_or(|since| at >= since))
        });
        for (index, place) in &chosen {
            self.amend(*index, *place, ExecutionKind::Bust, None);
        }
        chosen.len()
    }

    /// Gives an execution other figures, and answers the correction's id.
    ///
    /// # Errors
    /// [`AdjustError`] where the execution does not stand or the figures make no sense.
    pub fn correct(
        &mut self,
        execution_id: Uuid,
        qty: Option<Decimal>,
        price: Option<Decimal>,
    ) -> Result<Uuid, AdjustError> {
        let found = self.executions.iter().copied().find(|(index, place)| {
            self.execution(*index, *place).is_some_and(|execution| execution.execution_id == execution_id)
        });
        let (index, place) = found.ok_or(AdjustError::Execution)?;
        let order = self.orders.get(index).ok_or(AdjustError::Execution)?;
        if !order.standing().contains(&place) {
            return Err(AdjustError::Execution);
        }
        let old = order.executions.get(place).ok_or(AdjustError::Execution)?;
        let (qty, price) = (qty.unwrap_or(old.qty), price.unwrap_or(old.price));
        if qty <= Decimal::ZERO || qty > old.qty {
            return Err(AdjustError::Quantity);
        }
        if price <= Decimal::ZERO {
            return Err(AdjustError::Price);
        }
        self.amend(index, place, ExecutionKind::Correct, Some((qty, price))).ok_or(AdjustError::Execution)
    }

    /// Tells a trade of the past that nobody had heard of, also of an order that ended, and answers its id.
    ///
    /// # Errors
    /// [`AdjustError`] where there is no such order, or less of it is left.
    pub fn backfill(
        &mut self,
        client_order_id: &str,
        qty: Option<Decimal>,
        price: Option<Decimal>,
        executed_at: OffsetDateTime,
    ) -> Result<Uuid, AdjustError> {
        let index = (0..self.accounts.len()).find_map(|account| self.order_of_key(account, client_order_id));
        let index = index.ok_or(AdjustError::Order)?;
        let price = price.unwrap_or_else(|| self.trade_price(index));
        let seed = self.config.seed;
        let order = self.orders.get_mut(index).ok_or(AdjustError::Order)?;
        let qty = qty.unwrap_or_else(|| order.remaining());
        if qty <= Decimal::ZERO || qty > order.remaining() {
            return Err(AdjustError::Quantity);
        }
        if price <= Decimal::ZERO {
            return Err(AdjustError::Price);
        }
        let execution_id = Dice::new(seed, "execution", &order.terms.id.to_string(), order.trades as u64).uuid();
        let at = executed_at.clamp(order.terms.created_at, self.clock);
        order.trade(qty);
        let execution = Execution { execution_id, qty, price, at, kind: ExecutionKind::Trade, previous: None };
        self.tell(index, execution);
        Ok(execution_id)
    }

    /// Splits a symbol, `to` new shares for `from` old ones: positions and prices change, and its open
    /// orders, whose terms mean something else now, are cancelled. Answers how many those were.
    ///
    /// # Errors
    /// [`AdjustError`] where there is no such symbol or the ratio makes no sense.
    pub fn split(&mut self, symbol: &str, to: u32, from: u32) -> Result<usize, AdjustError> {
        let (instrument, _) = universe::find(symbol).ok_or(AdjustError::Symbol)?;
        if to == from || !(1..=RATIO_MAX).contains(&to) || !(1..=RATIO_MAX).contains(&from) {
            return Err(AdjustError::Ratio);
        }
        let open: Vec<usize> = self.accounts.iter().flat_map(|account| account.open.iter().copied()).collect();
        let mut cancelled = 0;
        for index in open {
            if self.orders.get(index).is_some_and(|order| order.visible && order.terms.symbol == symbol) {
                self.end(index, OrderStatus::Canceled);
                self.emit(index, TradeEventKind::Canceled, None);
                cancelled += 1;
            }
        }
        self.apply_split(instrument, to, from);
        self.journal.record(&Record::Split { instrument, to, from });
        Ok(cancelled)
    }

    pub(super) fn apply_split(&mut self, instrument: usize, to: u32, from: u32) {
        self.path.split(instrument, to, from);
        for account in &mut self.accounts {
            if let Some(position) = account.positions.get_mut(&instrument) {
                let qty = position.qty * Decimal::from(to) / Decimal::from(from);
                position.qty = qty.round_dp(9);
            }
        }
    }

    pub(super) fn bust_first(&mut self, index: usize) {
        let Some(place) = self.first_standing(index) else { return };
        self.strike_order(index, FaultKind::Bust);
        self.amend(index, place, ExecutionKind::Bust, None);
    }

    pub(super) fn correct_first(&mut self, index: usize) {
        let Some(place) = self.first_standing(index) else { return };
        let Some(figures) = self.execution(index, place).map(|old| (old.qty, old.price)) else { return };
        self.strike_order(index, FaultKind::Correct);
        let price = figures.1 + Decimal::new(CORRECTION_CENTS, 2);
        self.amend(index, place, ExecutionKind::Correct, Some((figures.0, price)));
    }

    fn first_standing(&self, index: usize) -> Option<usize> {
        self.orders.get(index)?.standing().first().copied()
    }

    fn execution(&self, index: usize, place: usize) -> Option<&Execution> {
        self.orders.get(index)?.executions.get(place)
    }

    /// Takes an execution back, or gives it other figures, and tells it.
    fn amend(
        &mut self,
        index: usize,
        place: usize,
        kind: ExecutionKind,
        figures: Option<(Decimal, Decimal)>,
    ) -> Option<Uuid> {
        let (at, seed) = (self.clock, self.config.seed);
        let order = self.orders.get_mut(index)?;
        let old = order.executions.get(place)?.clone();
        let (qty, price) = figures.unwrap_or((-old.qty, old.price));
        let execution_id = Dice::new(seed, "amendment", &old.execution_id.to_string(), 0).uuid();
        let amendment = Execution { execution_id, qty, price, at, kind, previous: Some(old.execution_id) };
        let place = order.executions.len();
        order.amend(at, &old, amendment);
        self.book_execution(index, place);
        let event = match kind {
            ExecutionKind::Bust => TradeEventKind::TradeBust,
            ExecutionKind::Correct | ExecutionKind::Trade => TradeEventKind::TradeCorrect,
        };
        self.emit(index, event, Some(place));
        Some(execution_id)
    }
}
