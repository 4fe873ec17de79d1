//! The customer, the share and the figures of every model.

#![expect(clippy::expect_used, reason = "the figures are fixed and valid")]

use crate::memory::Market;
use contracts::calendar::{MarketCalendar, MarketHours};
use contracts::event::{BrokerEvent, BrokerFact, Envelope, GatewayEvent, Payload, Producer};
use contracts::{
    AccountId, BrokerOrderId, ClientOrderId, Currency, EventId, ExecutionId, OrderId, OrderTerms, OrderType, Partition,
    Price, Quantity, Side, Symbol, TimeInForce,
};
use order_core::application::command::PlaceOrder;
use order_core::domain::account::{Account, AccountStatus, Balance, Position};
use order_core::domain::asset::{Asset, ReferencePrice};
use order_core::domain::hold::Charges;
use order_core::domain::update::UpdateMark;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// The order server's clock.
pub const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// The customer.
pub const ACCOUNT: AccountId = AccountId::new(Uuid::from_u128(1));

/// A market that never closes.
#[must_use]
pub fn calendar() -> MarketCalendar {
    MarketCalendar::new(MarketHours::Always).expect("the build has time zones")
}

/// The share.
#[must_use]
pub fn symbol() -> Symbol {
    Symbol::new("AAPL").expect("a symbol")
}

/// The share at 10 dollars.
#[must_use]
pub fn market() -> Market {
    Market {
        asset: Asset {
            id: Uuid::from_u128(7),
            symbol: symbol(),
            name: "Apple".to_owned(),
            exchange: "NASDAQ".to_owned(),
            tradable: true,
            fractionable: true,
        },
        price: ReferencePrice { price: price(10), at: NOW },
    }
}

/// No commission, so that figures are easily read.
#[must_use]
pub const fn charges() -> Charges {
    Charges { commission_bps: Decimal::ZERO, collar_bps: Decimal::ZERO }
}

/// The customer with cash and ten shares.
#[must_use]
pub fn account(cash: i64) -> Account {
    let balance = |amount| Balance { available: Decimal::from(amount), ..Balance::default() };
    let position = Position { shares: balance(10), cost_basis: Decimal::ZERO };
    Account {
        id: ACCOUNT,
        version: 1,
        status: AccountStatus::Active,
        halt_reason: None,
        currency: Currency::USD,
        cash: balance(cash),
        positions: BTreeMap::from([(symbol(), position)]),
        last_update: UpdateMark::START,
    }
}

/// A price of whole dollars.
#[must_use]
pub fn price(dollars: i64) -> Price {
    Price::new(Decimal::from(dollars)).expect("a price")
}

/// A number of shares.
#[must_use]
pub fn shares(count: i64) -> Quantity {
    Quantity::new(Decimal::from(count)).expect("a quantity")
}

/// Terms of a day order with a limit.
#[must_use]
pub fn terms(side: Side, count: i64, limit: i64) -> OrderTerms {
    let (quantity, limit) = (shares(count), Some(price(limit)));
    OrderTerms::new(symbol(), side, OrderType::Limit, TimeInForce::Day, quantity, limit).expect("terms")
}

/// The n-th order: one share at a limit.
#[must_use]
pub fn order(n: usize, limit: i64) -> PlaceOrder {
    PlaceOrder {
        account_id: ACCOUNT,
        order_id: OrderId::new(Uuid::from_u64_pair(9, n as u64)),
        client_order_id: ClientOrderId::new(format!("c-{n}")).expect("a name"),
        client_order_id_given: true,
        terms: terms(Side::Buy, 1, limit),
    }
}

/// The broker's id of its n-th execution.
#[must_use]
pub fn execution(n: i64) -> ExecutionId {
    ExecutionId::new(format!("e-{n}")).expect("an id")
}

/// What the fill receiver's log says of an order: facts, each with the broker's count after it.
#[must_use]
pub fn receiver_log(order: OrderId, facts: impl Iterator<Item = (BrokerFact, i64)>) -> Vec<Envelope> {
    let mut log: Vec<Envelope> = Vec::new();
    for (seq, (fact, count)) in (1..).zip(facts) {
        let event = BrokerEvent {
            broker: crate::broker_id(),
            broker_order_id: BrokerOrderId::new("b-1").expect("an id"),
            order_id: Some(order),
            broker_client_order_id: None,
            event: "x".to_owned(),
            order_status: "x".to_owned(),
            symbol: symbol(),
            side: Side::Buy,
            cumulative_quantity: Some(Decimal::from(count)),
            at: NOW,
            fact,
        };
        log.push(Envelope {
            id: EventId::new(Uuid::from_u64_pair(0xf1, seq)),
            producer: Producer::FillReceiver,
            partition: Partition::of_account(ACCOUNT),
            seq: i64::try_from(seq).expect("few events"),
            prev_id: log.last().map(|last| last.id),
            kind: event.kind().to_owned(),
            version: BrokerEvent::VERSION,
            account_id: Some(ACCOUNT),
            order_id: Some(order),
            at: NOW,
            traceparent: None,
            payload: serde_json::value::to_raw_value(&event).expect("an event"),
        });
    }
    log
}

/// What the gateway's log says.
#[must_use]
pub fn gateway_log(events: &[GatewayEvent]) -> Vec<Envelope> {
    let mut log: Vec<Envelope> = Vec::new();
    for (seq, event) in (1..).zip(events) {
        log.push(Envelope {
            id: EventId::new(Uuid::from_u64_pair(0x6a, seq)),
            producer: Producer::BrokerGateway,
            partition: Partition::of_account(ACCOUNT),
            seq: i64::try_from(seq).expect("few events"),
            prev_id: log.last().map(|last| last.id),
            kind: event.kind().to_owned(),
            version: GatewayEvent::VERSION,
            account_id: Some(ACCOUNT),
            order_id: Some(event.order_id()),
            at: NOW,
            traceparent: None,
            payload: serde_json::value::to_raw_value(event).expect("an event"),
        });
    }
    log
}
