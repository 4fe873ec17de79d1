//! What the first account is worth, as its owner sees it.

use contracts::alpaca::{
    AccountEntity, AccountStatus, AssetClass, Exchange as Listing, OrderRequest, OrderType, PositionEntity,
    PositionSide, Side, TimeInForce, TradeEventKind, codes,
};
use contracts::calendar::MarketCalendar;
use rust_decimal::Decimal;
use serde::Serialize;
use time::OffsetDateTime;
use time::serde::rfc3339;
use uuid::Uuid;

use super::Exchange;
use crate::broker::order::ExecutionKind;
use crate::broker::reply::Reply;
use crate::broker::universe::{self, INSTRUMENTS};

/// Decimals of an average price and of a ratio.
const AVERAGE_SCALE: u32 = 4;

/// A fill as `GET /v2/account/activities` shows it.
#[derive(Debug, Serialize)]
pub struct Activity {
    id: String,
    activity_type: &'static str,
    #[serde(with = "rfc3339")]
    transaction_time: OffsetDateTime,
    #[serde(rename = "type")]
    kind: String,
    price: Decimal,
    qty: Decimal,
    side: Side,
    symbol: String,
    leaves_qty: Decimal,
    cum_qty: Decimal,
    order_id: Uuid,
    order_status: String,
}

impl Exchange {
    /// The account that the Trading API serves.
    #[must_use]
    pub fn first_account(&self) -> String {
        self.accounts.first().map(|book| book.id.to_string()).unwrap_or_default()
    }

    /// The exchange's sessions.
    #[must_use]
    pub fn calendar(&self) -> &MarketCalendar {
        &self.calendar
    }

    /// Ids of the open orders of an account that can be seen, oldest first.
    #[must_use]
    pub fn open_orders(&self, account_id: &str) -> Vec<Uuid> {
        let book = self.account(account_id).and_then(|account| self.accounts.get(account));
        let open = book.map(|book| &book.open).into_iter().flatten();
        let orders = open.filter_map(|index| self.orders.get(*index)).filter(|order| order.visible);
        orders.map(|order| order.terms.id).collect()
    }

    /// The account.
    #[must_use]
    pub fn account_entity(&self) -> AccountEntity {
        let (cash, held) = (self.accounts.first().map_or(Decimal::ZERO, |book| book.cash), self.held(0, usize::MAX).0);
        let values: Vec<Decimal> = self.position_entities().iter().filter_map(|one| one.market_value).collect();
        let long: Decimal = values.iter().filter(|value| value.is_sign_positive()).sum();
        let short: Decimal = values.iter().filter(|value| value.is_sign_negative()).sum();
        let equity = cash + long + short;
        let available = (cash - held).max(Decimal::ZERO);
        let account_id = self.first_account();
        AccountEntity {
            id: Uuid::try_parse(&account_id).unwrap_or_default(),
            account_number: account_id.chars().filter(|c| *c != '-').take(12).collect(),
            status: AccountStatus::Active,
            currency: "USD".to_owned(),
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
            trading_blocked: false,
            transfers_blocked: false,
            account_blocked: false,
            trade_suspended_by_user: false,
            shorting_enabled: !self.config.checks_funds,
            created_at: Some(OffsetDateTime::UNIX_EPOCH),
        }
    }

    /// Its positions, in the order of the instruments.
    #[must_use]
    pub fn position_entities(&self) -> Vec<PositionEntity> {
        let Some(book) = self.accounts.first() else { return Vec::new() };
        let mut held: Vec<_> = book.positions.iter().collect();
        held.sort_by_key(|(instrument, _)| **instrument);
        let rows = held.into_iter().filter_map(|(index, position)| {
            let instrument = INSTRUMENTS.get(*index)?;
            let price = self.path.price(*index);
            let market_value = position.qty * price;
            let gain = market_value - position.cost;
            let ratio = gain.checked_div(position.cost.abs()).unwrap_or_default().round_dp(AVERAGE_SCALE);
            Some(PositionEntity {
                asset_id: instrument.asset_id,
                symbol: instrument.symbol.to_owned(),
                exchange: if instrument.nasdaq { Listing::Nasdaq } else { Listing::Nyse },
                asset_class: AssetClass::UsEquity,
                asset_marginable: true,
                qty: position.qty,
                qty_available: Some(position.qty - self.held(0, *index).1),
                avg_entry_price: position.average().round_dp(AVERAGE_SCALE),
                side: if position.qty.is_sign_negative() { PositionSide::Short } else { PositionSide::Long },
                cost_basis: position.cost,
                market_value: Some(market_value),
                unrealized_pl: Some(gain),
                unrealized_plpc: Some(ratio),
                unrealized_intraday_pl: Some(gain),
                unrealized_intraday_plpc: Some(ratio),
                current_price: Some(price),
                lastday_price: Some(price),
                change_today: Some(Decimal::ZERO),
            })
        });
        rows.collect()
    }

    /// A market order against a position, or a part of it.
    pub fn close_position(&mut self, symbol: &str, qty: Option<Decimal>, percentage: Option<Decimal>) -> Reply {
        let position = universe::find(symbol).and_then(|(index, _)| self.accounts.first()?.positions.get(&index));
        let Some(owned) = position.map(|position| position.qty) else {
            return Reply::error(404, codes::NOT_FOUND, "position does not exist");
        };
        let part = percentage.map(|percent| (owned.abs() * percent / Decimal::ONE_HUNDRED).round_dp(9));
        let request = OrderRequest {
            symbol: symbol.to_owned(),
            qty: qty.or(part).unwrap_or_else(|| owned.abs()).normalize(),
            side: if owned.is_sign_negative() { Side::Buy } else { Side::Sell },
            order_type: OrderType::Market,
            time_in_force: TimeInForce::Day,
            limit_price: None,
            client_order_id: String::new(),
            extended_hours: false,
            valid_until: None,
        };
        match serde_json::to_vec(&request) {
            Ok(body) => self.submit(&self.first_account(), &body),
            Err(error) => Reply::error(500, codes::INTERNAL, error.to_string()),
        }
    }

    /// Trades of the account after the one that `token` names.
    #[must_use]
    pub fn activities(&self, token: Option<&str>, ascending: bool, limit: usize) -> Vec<Activity> {
        let account_id = self.first_account();
        let mut all: Vec<Activity> = Vec::new();
        for (index, place) in &self.executions {
            let Some(order) = self.orders.get(*index).filter(|order| *order.terms.account_id == *account_id) else {
                continue;
            };
            let Some(execution) = order.executions.get(*place).filter(|one| one.kind == ExecutionKind::Trade) else {
                continue;
            };
            let told = order.executions.iter().take(place + 1).filter(|one| one.kind == ExecutionKind::Trade);
            let cum_qty: Decimal = told.map(|one| one.qty).sum();
            let leaves_qty = order.terms.qty - cum_qty;
            let kind = if leaves_qty.is_zero() { TradeEventKind::Fill } else { TradeEventKind::PartialFill };
            all.push(Activity {
                id: format!("{:020}::{}", execution.at.unix_timestamp_nanos() / 1_000, execution.execution_id),
                activity_type: "FILL",
                transaction_time: execution.at,
                kind: kind.as_str().to_owned(),
                price: execution.price,
                qty: execution.qty,
                side: order.terms.side.clone(),
                symbol: order.terms.symbol.clone(),
                leaves_qty,
                cum_qty,
                order_id: order.terms.id,
                order_status: order.now.status.to_string(),
            });
        }
        if !ascending {
            all.reverse();
        }
        let start = token.and_then(|token| all.iter().position(|one| one.id == token)).map_or(0, |place| place + 1);
        all.into_iter().skip(start).take(limit).collect()
    }
}
