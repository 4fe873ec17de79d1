//! How our orders, accounts, holdings and assets look in the dialect. Values only; no reads.

use crate::application::query::{AccountView, PositionView};
use crate::domain::account::{Account, AccountStatus};
use crate::domain::asset::{Asset, ReferencePrice};
use crate::domain::execution::Executed;
use crate::domain::order::Order;
use crate::domain::status::Status;
use crate::domain::update::UpdateMark;
use contracts::alpaca::{
    self, AccountEntity, AssetClass, AssetEntity, AssetStatus, Exchange, OrderClass, OrderEntity, PositionEntity,
    PositionIntent, PositionSide,
};
use contracts::{ClientOrderId, OrderId, OrderTerms, OrderType, Side, TimeInForce};
use rust_decimal::Decimal;
use time::OffsetDateTime;
use uuid::Uuid;

/// Decimals of a quotient, such as an average price. Informative only: nothing is computed on.
const QUOTIENT_SCALE: u32 = 9;

/// A quotient, rounded; none over zero.
fn quotient(dividend: Decimal, divisor: Decimal) -> Option<Decimal> {
    Some(dividend.checked_div(divisor)?.round_dp(QUOTIENT_SCALE))
}

/// What is shown of an order, as it stands now or stood then.
pub(super) struct Shown<'a> {
    pub(super) id: OrderId,
    pub(super) client_order_id: &'a ClientOrderId,
    pub(super) terms: &'a OrderTerms,
    pub(super) asset_id: Uuid,
    pub(super) accepted: OffsetDateTime,
    pub(super) updated: OffsetDateTime,
    pub(super) cancel_requested: Option<OffsetDateTime>,
    pub(super) ended: Option<OffsetDateTime>,
    pub(super) status: Status,
    pub(super) word: alpaca::OrderStatus,
    pub(super) executed: Executed,
    pub(super) commission: Decimal,
}

/// An order for its owner.
#[must_use]
pub fn order(order: &Order) -> OrderEntity {
    let status = order.status();
    shown(&Shown {
        id: order.id,
        client_order_id: &order.client_order_id,
        terms: &order.terms,
        asset_id: order.asset_id,
        accepted: order.times.accepted,
        updated: order.times.updated,
        cancel_requested: order.times.cancel_requested,
        ended: order.times.ended,
        status,
        word: status.api(&order.facts),
        executed: order.facts.executed,
        commission: order.commission,
    })
}

pub(super) fn shown(order: &Shown<'_>) -> OrderEntity {
    let executed = order.executed;
    let ended = |at: Status| if order.status == at { order.ended } else { None };
    let order_type = match order.terms.order_type() {
        OrderType::Market => alpaca::OrderType::Market,
        OrderType::Limit => alpaca::OrderType::Limit,
    };
    let (side, intent) = match order.terms.side() {
        Side::Buy => (alpaca::Side::Buy, PositionIntent::BuyToOpen),
        Side::Sell => (alpaca::Side::Sell, PositionIntent::SellToClose),
    };
    OrderEntity {
        id: order.id.as_uuid(),
        client_order_id: order.client_order_id.as_str().to_owned(),
        created_at: order.accepted,
        updated_at: order.updated,
        submitted_at: order.accepted,
        filled_at: ended(Status::Filled),
        expired_at: ended(Status::Expired),
        expires_at: None,
        canceled_at: ended(Status::Canceled),
        failed_at: ended(Status::Rejected),
        replaced_at: None,
        cancel_requested_at: order.cancel_requested,
        replaced_by: None,
        replaces: None,
        asset_id: Some(order.asset_id),
        symbol: order.terms.symbol().as_str().to_owned(),
        asset_class: AssetClass::UsEquity,
        notional: None,
        qty: Some(order.terms.quantity().value()),
        filled_qty: executed.net_quantity,
        filled_avg_price: quotient(executed.net_notional, executed.net_quantity),
        order_class: OrderClass::Unset,
        order_type_twin: Some(order_type.clone()),
        order_type,
        side,
        position_intent: Some(intent),
        time_in_force: match order.terms.time_in_force() {
            TimeInForce::Day => alpaca::TimeInForce::Day,
            TimeInForce::Gtc => alpaca::TimeInForce::Gtc,
        },
        limit_price: order.terms.limit_price().map(contracts::Price::value),
        stop_price: None,
        trail_percent: None,
        trail_price: None,
        hwm: None,
        status: order.word.clone(),
        extended_hours: false,
        legs: None,
        ratio_qty: None,
        commission: (order.commission > Decimal::ZERO).then_some(order.commission),
        currency: None,
        source: None,
        subtag: None,
    }
}

/// A holding with the price that it is valued at.
#[derive(Debug, Clone, Copy)]
pub struct Valued<'a> {
    /// The holding.
    pub view: &'a PositionView,
    /// The last known price, of whatever age.
    pub last: Option<ReferencePrice>,
}

impl Valued<'_> {
    fn shares(&self) -> Decimal {
        self.view.position.shares.total()
    }

    fn market_value(&self) -> Option<Decimal> {
        self.last?.price.value().checked_mul(self.shares())
    }

    /// What the holding counts in the equity: its cost while no price is known.
    fn value(&self) -> Decimal {
        self.market_value().unwrap_or(self.view.position.cost_basis)
    }
}

/// A holding for its owner.
#[must_use]
pub fn position(valued: Valued<'_>) -> PositionEntity {
    let (asset, position) = (&valued.view.asset, &valued.view.position);
    let shares = valued.shares();
    let market_value = valued.market_value();
    let gain = market_value.map(|value| value - position.cost_basis);
    PositionEntity {
        asset_id: asset.id,
        symbol: asset.symbol.as_str().to_owned(),
        exchange: exchange(&asset.exchange),
        asset_class: AssetClass::UsEquity,
        asset_marginable: false,
        qty: shares,
        qty_available: Some(position.shares.available),
        avg_entry_price: quotient(position.cost_basis, shares).unwrap_or_default(),
        side: if shares < Decimal::ZERO { PositionSide::Short } else { PositionSide::Long },
        cost_basis: position.cost_basis,
        market_value,
        unrealized_pl: gain,
        unrealized_plpc: gain.and_then(|gain| quotient(gain, position.cost_basis)),
        unrealized_intraday_pl: None,
        unrealized_intraday_plpc: None,
        current_price: valued.last.map(|last| last.price.value()),
        lastday_price: None,
        change_today: None,
    }
}

/// A cash account for its owner: no margin, no short sales.
#[must_use]
pub fn account(view: &AccountView, positions: &[Valued<'_>]) -> AccountEntity {
    let cash = view.cash.total();
    let available = view.cash.available;
    let sum = |keep: fn(Decimal) -> bool| -> Decimal {
        positions.iter().map(Valued::value).filter(|value| keep(*value)).sum()
    };
    let (long, short) = (sum(|value| value > Decimal::ZERO), sum(|value| value < Decimal::ZERO));
    let equity = cash + long + short;
    let closed = view.status == AccountStatus::Closed;
    AccountEntity {
        id: view.id.as_uuid(),
        account_number: view.number.clone(),
        status: if closed { alpaca::AccountStatus::AccountClosed } else { alpaca::AccountStatus::Active },
        currency: view.currency.to_string(),
        cash,
        buying_power: available,
        regt_buying_power: available,
        daytrading_buying_power: Decimal::ZERO,
        non_marginable_buying_power: available,
        equity,
        last_equity: equity,
        portfolio_value: equity,
        long_market_value: long,
        short_market_value: short,
        initial_margin: Decimal::ZERO,
        maintenance_margin: Decimal::ZERO,
        last_maintenance_margin: Decimal::ZERO,
        sma: Decimal::ZERO,
        multiplier: Decimal::ONE,
        accrued_fees: Decimal::ZERO,
        pattern_day_trader: false,
        daytrade_count: 0,
        trading_blocked: view.halt_reason.is_some() || restriction(view, positions).is_some(),
        transfers_blocked: closed,
        account_blocked: closed,
        trade_suspended_by_user: false,
        shorting_enabled: false,
        created_at: Some(view.created_at),
    }
}

/// Why the account may not trade, by the same rule that refuses its orders.
fn restriction(view: &AccountView, positions: &[Valued<'_>]) -> Option<String> {
    let positions = positions.iter().map(|p| (p.view.asset.symbol.clone(), p.view.position)).collect();
    let (id, status, currency, cash) = (view.id, view.status, view.currency, view.cash);
    let last_update = UpdateMark::START;
    Account { id, version: 0, status, halt_reason: None, currency, cash, positions, last_update }.restriction()
}

/// A listed asset.
#[must_use]
pub fn asset(asset: &Asset) -> AssetEntity {
    AssetEntity {
        id: asset.id,
        asset_class: AssetClass::UsEquity,
        exchange: exchange(&asset.exchange),
        symbol: asset.symbol.as_str().to_owned(),
        name: Some(asset.name.clone()),
        status: AssetStatus::Active,
        tradable: asset.tradable,
        marginable: false,
        shortable: false,
        easy_to_borrow: false,
        fractionable: asset.fractionable,
        min_order_size: None,
        min_trade_increment: None,
        price_increment: None,
        attributes: Vec::new(),
    }
}

/// Client libraries refuse a whole answer for one exchange that they do not know.
fn exchange(word: &str) -> Exchange {
    match Exchange::from(word) {
        Exchange::Other(_) => Exchange::Unlisted,
        known => known,
    }
}
