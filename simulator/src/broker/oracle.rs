//! The truth, whatever the faults told the clients.

use contracts::alpaca::{OrderStatus, OrderType, Side, TimeInForce};
use rust_decimal::Decimal;
use serde::Serialize;
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::exchange::Exchange;
use super::order::{Execution, ExecutionKind, Order};

/// One order as it really is.
#[derive(Debug, Serialize)]
pub(super) struct OracleOrder {
    index: usize,
    id: Uuid,
    /// The key that the client sent, whatever the broker shows.
    client_order_id: String,
    /// The key that the broker shows.
    shown_client_order_id: String,
    /// The order whose place it took.
    replaces: Option<Uuid>,
    account_id: String,
    symbol: String,
    side: Side,
    #[serde(rename = "type")]
    order_type: OrderType,
    time_in_force: TimeInForce,
    qty: Decimal,
    limit_price: Option<Decimal>,
    status: OrderStatus,
    filled_qty: Decimal,
    filled_avg_price: Option<Decimal>,
    /// Placed by somebody else.
    foreign: bool,
    /// Whether lookups show it by now.
    visible: bool,
    #[serde(with = "rfc3339")]
    created_at: OffsetDateTime,
    /// Every report: trades, and what took them back.
    executions: Vec<OracleExecution>,
}

/// One execution report as it really is.
#[derive(Debug, Serialize)]
pub(super) struct OracleExecution {
    execution_id: Uuid,
    kind: ExecutionKind,
    /// The execution that a bust or a correction takes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Uuid>,
    /// Negative in a bust.
    qty: Decimal,
    price: Decimal,
    #[serde(with = "rfc3339")]
    at: OffsetDateTime,
}

/// One execution with its order.
#[derive(Debug, Serialize)]
pub(super) struct OracleTrade {
    index: usize,
    order_index: usize,
    order_id: Uuid,
    client_order_id: String,
    account_id: String,
    symbol: String,
    side: Side,
    foreign: bool,
    #[serde(flatten)]
    execution: OracleExecution,
}

impl Exchange {
    /// Orders from an index on, in the order in which they were taken.
    pub(super) fn oracle_orders(&self, start: usize, limit: usize) -> Vec<OracleOrder> {
        self.orders().iter().skip(start).take(limit).map(oracle_order).collect()
    }

    /// Executions from an index on, in the order in which they happened.
    pub(super) fn oracle_executions(&self, start: usize, limit: usize) -> Vec<OracleTrade> {
        let places = self.executions().iter().enumerate().skip(start).take(limit);
        places
            .filter_map(|(index, (order_index, place))| {
                let order = self.orders().get(*order_index)?;
                let execution = order.executions.get(*place)?;
                Some(OracleTrade {
                    index,
                    order_index: *order_index,
                    order_id: order.terms.id,
                    client_order_id: order.terms.key().to_owned(),
                    account_id: order.terms.account_id.to_string(),
                    symbol: order.terms.symbol.clone(),
                    side: order.terms.side.clone(),
                    foreign: order.terms.foreign,
                    execution: oracle_execution(execution),
                })
            })
            .collect()
    }
}

fn oracle_order(order: &Order) -> OracleOrder {
    let (terms, now) = (&order.terms, &order.now);
    OracleOrder {
        index: terms.index,
        id: terms.id,
        client_order_id: terms.key().to_owned(),
        shown_client_order_id: terms.client_order_id.clone(),
        replaces: terms.replaces,
        account_id: terms.account_id.to_string(),
        symbol: terms.symbol.clone(),
        side: terms.side.clone(),
        order_type: terms.order_type.clone(),
        time_in_force: terms.time_in_force.clone(),
        qty: terms.qty.normalize(),
        limit_price: terms.limit_price.map(|price| price.normalize()),
        status: now.status.clone(),
        filled_qty: now.filled_qty.normalize(),
        filled_avg_price: now.average_price().map(|price| price.normalize()),
        foreign: terms.foreign,
        visible: order.visible,
        created_at: terms.created_at,
        executions: order.executions.iter().map(oracle_execution).collect(),
    }
}

fn oracle_execution(execution: &Execution) -> OracleExecution {
    OracleExecution {
        execution_id: execution.execution_id,
        kind: execution.kind,
        previous: execution.previous,
        qty: execution.qty.normalize(),
        price: execution.price.normalize(),
        at: execution.at,
    }
}
