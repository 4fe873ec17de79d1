//! Rows as the database keeps them, and their way into the domain. A row is checked like any other
//! input: what does not fit is an error, never a guess.

use crate::domain::account::{Account, AccountStatus, Balance, Position};
use crate::domain::execution::{Executed, Execution, ExecutionKind};
use crate::domain::facts::{BrokerEnd, Facts, Submit};
use crate::domain::hold::Hold;
use crate::domain::order::{Order, Times};
use crate::domain::update::UpdateMark;
use contracts::{
    AccountId, BrokerId, BrokerOrderId, ClientOrderId, Currency, EventId, ExecutionId, OrderId, OrderTerms, Price,
    Quantity, Symbol,
};
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row that is not valid, in words.
pub(super) type RowError = String;

fn word<T>(value: Option<T>, what: &str, text: &str) -> Result<T, RowError> {
    value.ok_or_else(|| format!("unknown {what} {text}"))
}

fn valid<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, RowError> {
    value.map_err(|error| error.to_string())
}

pub(super) fn account_status(text: &str) -> Result<AccountStatus, RowError> {
    match text {
        "active" => Ok(AccountStatus::Active),
        "closed" => Ok(AccountStatus::Closed),
        other => Err(format!("unknown account status {other}")),
    }
}

pub(super) struct AccountRow {
    pub(super) id: Uuid,
    pub(super) version: i64,
    pub(super) status: String,
    pub(super) currency: String,
    pub(super) cash_available: Decimal,
    pub(super) cash_held: Decimal,
    pub(super) cash_shortfall: Decimal,
    pub(super) halt_reason: Option<String>,
    pub(super) update_seq: i64,
    pub(super) update_at: OffsetDateTime,
    pub(super) parked: bool,
    /// Which of the symbols that were asked about are halted; an empty one is the whole market.
    pub(super) halts: Vec<String>,
    /// Whether any of the positions, orders or refusals that were asked about by their names is there.
    pub(super) with_positions: bool,
    pub(super) with_orders: bool,
    pub(super) with_refusals: bool,
}

impl AccountRow {
    pub(super) fn into_account(self) -> Result<Account, RowError> {
        Ok(Account {
            id: AccountId::new(self.id),
            version: self.version,
            status: account_status(&self.status)?,
            halt_reason: self.halt_reason,
            currency: valid(Currency::new(&self.currency))?,
            cash: Balance { available: self.cash_available, held: self.cash_held, shortfall: self.cash_shortfall },
            positions: BTreeMap::new(),
            last_update: UpdateMark { seq: self.update_seq, at: self.update_at },
        })
    }
}

pub(super) struct PositionRow {
    pub(super) account_id: Uuid,
    pub(super) symbol: String,
    pub(super) shares_available: Decimal,
    pub(super) shares_held: Decimal,
    pub(super) shares_shortfall: Decimal,
    pub(super) cost_basis: Decimal,
}

impl PositionRow {
    pub(super) fn into_position(self) -> Result<(AccountId, Symbol, Position), RowError> {
        let shares =
            Balance { available: self.shares_available, held: self.shares_held, shortfall: self.shares_shortfall };
        let symbol = valid(Symbol::new(self.symbol))?;
        Ok((AccountId::new(self.account_id), symbol, Position { shares, cost_basis: self.cost_basis }))
    }
}

pub(super) struct OrderRow {
    pub(super) id: Uuid,
    pub(super) account_id: Uuid,
    pub(super) client_order_id: String,
    pub(super) symbol: String,
    pub(super) asset_id: Uuid,
    pub(super) side: String,
    pub(super) order_type: String,
    pub(super) time_in_force: String,
    pub(super) quantity: Decimal,
    pub(super) limit_price: Option<Decimal>,
    pub(super) hold_price: Decimal,
    pub(super) submit: String,
    pub(super) manual: bool,
    pub(super) cancel_requests: i32,
    pub(super) cancels_refused: i32,
    pub(super) broker_end: Option<String>,
    pub(super) broker_end_quantity: Option<Decimal>,
    pub(super) gross_quantity: Decimal,
    pub(super) net_quantity: Decimal,
    pub(super) net_notional: Decimal,
    pub(super) hold_cash: Decimal,
    pub(super) hold_shares: Decimal,
    pub(super) commission: Decimal,
    pub(super) broker: Option<String>,
    pub(super) broker_order_id: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) accepted_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
    pub(super) cancel_requested_at: Option<OffsetDateTime>,
    pub(super) ended_at: Option<OffsetDateTime>,
}

/// Orders with all that an [`OrderRow`] holds: the one list of an order's columns for reading it
/// whole. The rest of the statement is given as literals, so that it is checked when compiled.
macro_rules! select_orders {
    ($rest:literal $(+ $more:literal)*, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            crate::adapters::db::rows::OrderRow,
            "select id, account_id, client_order_id, symbol, asset_id, side, order_type, time_in_force, quantity,
                    limit_price, hold_price, submit, manual, cancel_requests, cancels_refused, broker_end,
                    broker_end_quantity, gross_quantity, net_quantity, net_notional, hold_cash, hold_shares, commission,
                    broker, broker_order_id, reason, accepted_at, updated_at, cancel_requested_at, ended_at
             from orders " + $rest $(+ $more)*,
            $($argument),+
        )
    };
}
pub(super) use select_orders;

impl OrderRow {
    pub(super) fn into_order(self) -> Result<Order, RowError> {
        let terms = OrderTerms::new(
            valid(Symbol::new(self.symbol))?,
            valid(self.side.parse())?,
            valid(self.order_type.parse())?,
            valid(self.time_in_force.parse())?,
            valid(Quantity::new(self.quantity))?,
            self.limit_price.map(|price| valid(Price::new(price))).transpose()?,
        );
        let end = self.broker_end.map(|text| word(BrokerEnd::parse(&text), "broker end", &text)).transpose()?;
        Ok(Order {
            id: OrderId::new(self.id),
            account_id: AccountId::new(self.account_id),
            client_order_id: valid(ClientOrderId::new(self.client_order_id))?,
            terms: valid(terms)?,
            asset_id: self.asset_id,
            hold_price: self.hold_price,
            facts: Facts {
                submit: word(Submit::parse(&self.submit), "submit fact", &self.submit)?,
                manual: self.manual,
                cancel_requests: self.cancel_requests,
                cancels_refused: self.cancels_refused,
                broker_end: end,
                broker_end_quantity: self.broker_end_quantity,
                executed: Executed {
                    gross_quantity: self.gross_quantity,
                    net_quantity: self.net_quantity,
                    net_notional: self.net_notional,
                },
            },
            hold: Hold { cash: self.hold_cash, shares: self.hold_shares },
            commission: self.commission,
            broker: self.broker.map(|text| valid(BrokerId::new(text))).transpose()?,
            broker_order_id: self.broker_order_id.map(|text| valid(BrokerOrderId::new(text))).transpose()?,
            reason: self.reason,
            times: Times {
                accepted: self.accepted_at,
                updated: self.updated_at,
                cancel_requested: self.cancel_requested_at,
                ended: self.ended_at,
            },
        })
    }
}

pub(super) struct ExecutionRow {
    pub(super) event_id: Uuid,
    pub(super) order_id: Uuid,
    pub(super) kind: String,
    pub(super) execution_id: String,
    pub(super) previous_execution_id: Option<String>,
    pub(super) quantity: Option<Decimal>,
    pub(super) price: Option<Decimal>,
    pub(super) at: OffsetDateTime,
}

impl ExecutionRow {
    pub(super) fn into_execution(self) -> Result<(OrderId, Execution), RowError> {
        let previous = self.previous_execution_id.map(|text| valid(ExecutionId::new(text))).transpose()?;
        let quantity = self.quantity.map(|value| valid(Quantity::new(value))).transpose()?;
        let price = self.price.map(|value| valid(Price::new(value))).transpose()?;
        let kind = match (self.kind.as_str(), previous, quantity, price) {
            ("fill", None, Some(quantity), Some(price)) => ExecutionKind::Fill { quantity, price },
            ("correct", Some(previous), Some(quantity), Some(price)) => {
                ExecutionKind::Correct { previous, quantity, price }
            }
            ("bust", Some(previous), None, None) => ExecutionKind::Bust { previous },
            (other, ..) => return Err(format!("execution of kind {other} has the wrong columns")),
        };
        let execution = Execution {
            event_id: EventId::new(self.event_id),
            execution_id: valid(ExecutionId::new(self.execution_id))?,
            kind,
            at: self.at,
        };
        Ok((OrderId::new(self.order_id), execution))
    }
}

/// The columns of a ledger row: kind word, previous execution, figures.
pub(super) fn execution_columns(kind: &ExecutionKind) -> (&'static str, Option<&str>, Option<(Decimal, Decimal)>) {
    match kind {
        ExecutionKind::Fill { quantity, price } => ("fill", None, Some((quantity.value(), price.value()))),
        ExecutionKind::Correct { previous, quantity, price } => {
            ("correct", Some(previous.as_str()), Some((quantity.value(), price.value())))
        }
        ExecutionKind::Bust { previous } => ("bust", Some(previous.as_str()), None),
    }
}
