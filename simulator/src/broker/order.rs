//! An order as the broker keeps it.

use std::sync::Arc;

use contracts::alpaca::{AssetClass, OrderClass, OrderEntity, OrderStatus, OrderType, Side, TimeInForce};
use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::fact::Fact;
use super::fault::{FaultKind, FaultSpec};
use super::universe::{self, INSTRUMENTS};

/// Decimals of an average price.
const AVERAGE_SCALE: u32 = 9;

/// What never changes of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Its place in the order of acceptance, from 0.
    pub(super) index: usize,
    pub(super) id: Uuid,
    pub(super) account_id: Arc<str>,
    /// The key that it is shown under.
    pub(super) client_order_id: String,
    /// The key that the client sent, where the broker shows another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sent_key: Option<String>,
    /// The order whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) replaces: Option<Uuid>,
    pub(super) symbol: String,
    pub(super) side: Side,
    pub(super) order_type: OrderType,
    pub(super) time_in_force: TimeInForce,
    pub(super) qty: Decimal,
    pub(super) limit_price: Option<Decimal>,
    #[serde(with = "rfc3339")]
    pub(super) created_at: OffsetDateTime,
    /// When it can first trade.
    #[serde(with = "rfc3339")]
    pub(super) opens_at: OffsetDateTime,
    #[serde(with = "rfc3339")]
    pub(super) expires_at: OffsetDateTime,
    /// From when on it can be seen.
    #[serde(with = "rfc3339")]
    pub(super) visible_at: OffsetDateTime,
    /// Placed by somebody else at this broker.
    pub(super) foreign: bool,
    /// Into which parts it is going to be filled.
    pub(super) parts: Vec<Decimal>,
    /// What goes wrong with it.
    pub(super) faults: Vec<FaultSpec>,
}

impl Terms {
    /// The key that its client knows it by, which faults are named and drawn by.
    pub(super) fn key(&self) -> &str {
        self.sent_key.as_deref().unwrap_or(&self.client_order_id)
    }

    /// The instrument's place in the universe.
    pub(super) fn instrument(&self) -> usize {
        universe::find(&self.symbol).map_or(usize::MAX, |(index, _)| index)
    }

    pub(super) fn fault(&self, kind: FaultKind) -> Option<FaultSpec> {
        self.faults.iter().find(|spec| spec.kind == kind).copied()
    }

    /// Whether its limit lets it trade at a price.
    pub(super) fn crosses(&self, price: Decimal) -> bool {
        match (self.limit_price, &self.side) {
            (None, _) => true,
            (Some(limit), Side::Buy) => price <= limit,
            (Some(limit), _) => price >= limit,
        }
    }
}

/// What changes of an order, as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Snapshot {
    /// Goes up by one with every change; of two snapshots the higher one is the later.
    pub(super) revision: u32,
    pub(super) status: OrderStatus,
    pub(super) filled_qty: Decimal,
    /// Sum of quantity × price over all executions.
    pub(super) amount: Decimal,
    #[serde(with = "rfc3339")]
    pub(super) updated_at: OffsetDateTime,
    #[serde(default, with = "rfc3339::option")]
    pub(super) filled_at: Option<OffsetDateTime>,
    #[serde(default, with = "rfc3339::option")]
    pub(super) canceled_at: Option<OffsetDateTime>,
    #[serde(default, with = "rfc3339::option")]
    pub(super) expired_at: Option<OffsetDateTime>,
    #[serde(default, with = "rfc3339::option")]
    pub(super) failed_at: Option<OffsetDateTime>,
    #[serde(default, with = "rfc3339::option")]
    pub(super) cancel_requested_at: Option<OffsetDateTime>,
    #[serde(default, with = "rfc3339::option")]
    pub(super) replaced_at: Option<OffsetDateTime>,
    #[serde(default)]
    pub(super) replaced_by: Option<Uuid>,
}

impl Snapshot {
    pub(super) fn new(at: OffsetDateTime) -> Self {
        Self {
            revision: 0,
            status: OrderStatus::PendingNew,
            filled_qty: Decimal::ZERO,
            amount: Decimal::ZERO,
            updated_at: at,
            filled_at: None,
            canceled_at: None,
            expired_at: None,
            failed_at: None,
            cancel_requested_at: None,
            replaced_at: None,
            replaced_by: None,
        }
    }

    /// The average price of what is filled.
    pub(super) fn average_price(&self) -> Option<Decimal> {
        let average = self.amount.checked_div(self.filled_qty)?;
        Some(average.round_dp_with_strategy(AVERAGE_SCALE, RoundingStrategy::MidpointNearestEven))
    }

    /// The order at that moment, as the dialect shows it.
    pub(super) fn entity(&self, terms: &Terms) -> OrderEntity {
        let asset_id = INSTRUMENTS.get(terms.instrument()).map(|instrument| instrument.asset_id);
        OrderEntity {
            id: terms.id,
            client_order_id: terms.client_order_id.clone(),
            created_at: terms.created_at,
            updated_at: self.updated_at,
            submitted_at: terms.created_at,
            filled_at: self.filled_at,
            expired_at: self.expired_at,
            expires_at: Some(terms.expires_at),
            canceled_at: self.canceled_at,
            failed_at: self.failed_at,
            replaced_at: self.replaced_at,
            cancel_requested_at: self.cancel_requested_at,
            replaced_by: self.replaced_by,
            replaces: terms.replaces,
            asset_id,
            symbol: terms.symbol.clone(),
            asset_class: AssetClass::UsEquity,
            notional: None,
            qty: Some(terms.qty),
            filled_qty: self.filled_qty,
            filled_avg_price: self.average_price(),
            order_class: OrderClass::Unset,
            order_type_twin: Some(terms.order_type.clone()),
            order_type: terms.order_type.clone(),
            side: terms.side.clone(),
            position_intent: None,
            time_in_force: terms.time_in_force.clone(),
            limit_price: terms.limit_price,
            stop_price: None,
            trail_percent: None,
            trail_price: None,
            hwm: None,
            status: self.status.clone(),
            extended_hours: false,
            legs: None,
            ratio_qty: None,
            commission: Some(Decimal::ZERO),
            currency: Some("USD".to_owned()),
            source: None,
            subtag: None,
        }
    }
}

/// What an execution report is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ExecutionKind {
    /// Shares were traded.
    #[default]
    Trade,
    /// An execution is void.
    Bust,
    /// An execution had other figures, which are these.
    Correct,
}

/// One execution report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Execution {
    pub(super) execution_id: Uuid,
    /// Negative in a bust.
    pub(super) qty: Decimal,
    pub(super) price: Decimal,
    #[serde(with = "rfc3339")]
    pub(super) at: OffsetDateTime,
    #[serde(default)]
    pub(super) kind: ExecutionKind,
    /// The execution that a bust or a correction takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Uuid>,
}

/// An order with all that happened to it.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) terms: Arc<Terms>,
    pub(super) now: Snapshot,
    /// Every execution report, in the order in which they were told.
    pub(super) executions: Vec<Execution>,
    /// Shares that were traded, whatever was taken back since, and whatever is not told yet.
    pub(super) traded: Decimal,
    /// The one trade of those that nobody was told of yet.
    pub(super) untold: Option<Execution>,
    /// How many trades that were.
    pub(super) trades: usize,
    /// Events of it that are in the stream.
    pub(super) events_told: u64,
    /// Whether lookups and events show it yet.
    pub(super) visible: bool,
    /// Whether it may trade now.
    pub(super) live: bool,
    /// Going to be rejected, so it does not trade.
    pub(super) doomed: bool,
    /// An event that waits for the one after it.
    pub(super) held: Option<Fact>,
    /// Whether an event was held already: once is enough.
    pub(super) reordered: bool,
}

impl Order {
    pub(super) fn new(terms: Arc<Terms>) -> Self {
        let now = Snapshot::new(terms.created_at);
        Self {
            terms,
            now,
            executions: Vec::new(),
            traded: Decimal::ZERO,
            untold: None,
            trades: 0,
            events_told: 0,
            visible: false,
            live: false,
            doomed: false,
            held: None,
            reordered: false,
        }
    }

    /// What can still trade. A bust gives nothing back: the broker does not work it again.
    pub(super) fn remaining(&self) -> Decimal {
        (self.terms.qty - self.traded).max(Decimal::ZERO)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.now.status.is_terminal()
    }

    /// The part that is filled next.
    pub(super) fn next_part(&self) -> Decimal {
        let planned = self.terms.parts.get(self.trades).copied();
        planned.unwrap_or_else(|| self.remaining()).min(self.remaining())
    }

    /// Changes it; every change makes a new revision.
    pub(super) fn change(&mut self, at: OffsetDateTime, change: impl FnOnce(&mut Snapshot)) {
        self.now.revision += 1;
        self.now.updated_at = at;
        change(&mut self.now);
    }

    /// Shares were traded, told or not.
    pub(super) fn trade(&mut self, qty: Decimal) {
        self.traded += qty;
        self.trades += 1;
    }

    /// Tells an execution of shares that were traded, at that time.
    pub(super) fn tell(&mut self, at: OffsetDateTime, execution: Execution) {
        let filled = self.now.filled_qty + execution.qty;
        let whole = self.remaining().is_zero() && self.untold.is_none();
        let over = !self.is_open();
        self.change(at, |now| {
            now.filled_qty = filled;
            now.amount += execution.qty * execution.price;
            if over {
                return;
            }
            if whole {
                now.status = OrderStatus::Filled;
                now.filled_at = Some(execution.at);
            } else if !matches!(now.status, OrderStatus::PendingCancel | OrderStatus::PendingReplace) {
                now.status = OrderStatus::PartiallyFilled;
            }
        });
        self.executions.push(execution);
    }

    /// Takes an execution back or corrects it; the order's status stays what it is.
    pub(super) fn amend(&mut self, at: OffsetDateTime, amended: &Execution, amendment: Execution) {
        let corrected = if amendment.kind == ExecutionKind::Bust { Decimal::ZERO } else { amendment.qty };
        self.change(at, |now| {
            now.filled_qty += corrected - amended.qty;
            now.amount += corrected * amendment.price - amended.qty * amended.price;
        });
        self.executions.push(amendment);
    }

    /// The places of the executions that still count.
    pub(super) fn standing(&self) -> Vec<usize> {
        let taken_back = |id: Uuid| self.executions.iter().any(|execution| execution.previous == Some(id));
        let counts =
            |execution: &Execution| execution.kind != ExecutionKind::Bust && !taken_back(execution.execution_id);
        let places = self.executions.iter().enumerate();
        places.filter(|(_, execution)| counts(execution)).map(|(place, _)| place).collect()
    }

    pub(super) fn entity(&self) -> OrderEntity {
        self.now.entity(&self.terms)
    }
}
