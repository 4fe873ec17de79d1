//! The comparison must find every way in which a world can be wrong.

use super::super::oracle::{BrokerExecution, Report};
use super::*;
use contracts::broker_key::BrokerKey;
use contracts::ids::OrderId;
use contracts::partition::Partition;
use serde_json::json;

const PRICE: i64 = 100;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn ordered(number: u128, side: &'static str, qty: i64) -> Order {
    Order {
        client_order_id: format!("c{number}"),
        symbol: "KO".to_owned(),
        qty: Decimal::from(qty),
        side,
        order_type: "market",
        time_in_force: "day",
        limit_price: None,
    }
}

fn listed(number: u128, side: &str, qty: i64, filled: i64, status: &str) -> OrderEntity {
    serde_json::from_value(json!({
        "id": id(number), "client_order_id": format!("c{number}"), "symbol": "KO", "qty": qty.to_string(),
        "filled_qty": filled.to_string(), "type": "market", "side": side, "time_in_force": "day", "status": status
    }))
    .unwrap()
}

fn at_broker(number: u128, side: &str, qty: i64, fills: &[i64], status: &str) -> BrokerOrder {
    let execution = |(place, qty): (usize, &i64)| BrokerExecution {
        execution_id: id(number * 1_000 + place as u128),
        qty: Decimal::from(*qty),
        price: Decimal::from(PRICE),
    };
    BrokerOrder {
        id: id(number + 1_000_000),
        client_order_id: BrokerKey::new(Partition::new(3).unwrap(), OrderId::new(id(number))).to_string(),
        symbol: "KO".to_owned(),
        side: side.to_owned(),
        qty: Decimal::from(qty),
        limit_price: None,
        status: status.to_owned(),
        filled_qty: fills.iter().map(|qty| Decimal::from(*qty)).sum(),
        foreign: false,
        executions: fills.iter().enumerate().map(execution).collect(),
        reports: Vec::new(),
    }
}

/// An account that bought 5 and sold 2, had one order canceled and one refused.
fn world() -> (AccountView, Vec<BrokerOrder>) {
    let refused = Placed::Refused { status: 403, code: 40_310_000, message: "no cash".to_owned() };
    let view = AccountView {
        deposit: Decimal::from(1_000),
        posted: vec![
            (ordered(1, "buy", 5), Placed::Accepted(id(1))),
            (ordered(2, "sell", 2), Placed::Accepted(id(2))),
            (ordered(3, "buy", 4), Placed::Accepted(id(3))),
            (ordered(4, "buy", 900), refused),
        ],
        orders: vec![
            listed(1, "buy", 5, 5, "filled"),
            listed(2, "sell", 2, 2, "filled"),
            listed(3, "buy", 4, 0, "canceled"),
        ],
        account: serde_json::from_value(json!({
            "id": id(9), "account_number": "1", "status": "ACTIVE", "cash": "700", "buying_power": "700"
        }))
        .unwrap(),
        positions: vec![
            serde_json::from_value(json!({
                "asset_id": id(8), "symbol": "KO", "qty": "3", "qty_available": "3", "avg_entry_price": "100",
                "side": "long", "cost_basis": "300"
            }))
            .unwrap(),
        ],
    };
    let broker = vec![
        at_broker(1, "buy", 5, &[2, 3], "filled"),
        at_broker(2, "sell", 2, &[2], "filled"),
        at_broker(3, "buy", 4, &[], "canceled"),
    ];
    (view, broker)
}

#[test]
fn a_right_world_is_clean_and_counted() {
    let (view, broker) = world();
    let verdict = compare(&[view], &broker);
    assert_eq!(verdict.violations, []);
    let tally = Tally { orders: 4, filled: 2, canceled: 1, rejected: 1, ..Tally::default() };
    assert_eq!(verdict.tally, tally);
}

#[test]
fn every_wrong_world_is_found() {
    type Spoil = fn(&mut AccountView, &mut Vec<BrokerOrder>);
    let cases: Vec<(&str, Kind, Spoil)> = vec![
        ("an accepted order is gone", Kind::Lost, |view, _| drop(view.orders.remove(2))),
        ("the broker has an order that nobody knows", Kind::Lost, |_, broker| {
            broker.push(at_broker(77, "buy", 1, &[], "canceled"));
        }),
        ("a fill did not arrive", Kind::Lost, |view, _| view.orders[0].filled_qty = Decimal::from(2)),
        ("a fill arrived twice", Kind::Duplicated, |view, _| view.orders[0].filled_qty = Decimal::from(8)),
        ("the broker has an order twice", Kind::Duplicated, |_, broker| {
            broker.push(at_broker(3, "buy", 4, &[], "canceled"));
        }),
        ("one client order id is two orders", Kind::Duplicated, |view, _| {
            let mut twin = view.orders[2].clone();
            twin.id = id(33);
            view.orders.push(twin);
        }),
        ("another order was answered", Kind::Duplicated, |view, _| view.posted[0].1 = Placed::Accepted(id(55))),
        ("a refused order exists", Kind::Wrong, |view, _| {
            view.orders.push(listed(4, "buy", 900, 0, "rejected"));
        }),
        ("an order was never answered", Kind::Unsettled, |view, _| {
            view.posted[3].1 = Placed::Unknown("reset".to_owned());
        }),
        ("the stored terms differ", Kind::Wrong, |view, _| view.posted[2].0.qty = Decimal::from(40)),
        ("the broker's terms differ", Kind::Wrong, |_, broker| broker[2].qty = Decimal::from(40)),
        ("nobody posted it", Kind::Wrong, |view, _| drop(view.posted.remove(2))),
        ("called canceled while it is live", Kind::Wrong, |_, broker| broker[2].status = "new".to_owned()),
        ("called filled and never sent", Kind::Wrong, |_, broker| drop(broker.remove(0))),
        ("still open", Kind::Unsettled, |view, broker| {
            view.orders[2] = listed(3, "buy", 4, 0, "new");
            broker[2].status = "new".to_owned();
        }),
        ("the cash is wrong", Kind::Wrong, |view, _| view.account.cash = Decimal::new(70_001, 2)),
        ("a hold was left behind", Kind::Wrong, |view, _| view.account.buying_power = Decimal::from(300)),
        ("a position is wrong", Kind::Wrong, |view, _| view.positions[0].qty = Decimal::from(4)),
        ("a position is missing", Kind::Wrong, |view, _| view.positions.clear()),
        ("shares are held by no order", Kind::Wrong, |view, _| {
            view.positions[0].qty_available = Some(Decimal::ONE);
        }),
    ];
    for (name, kind, spoil) in cases {
        let (mut view, mut broker) = world();
        spoil(&mut view, &mut broker);
        let verdict = compare(&[view], &broker);
        assert!(verdict.violations.iter().any(|found| found.kind == kind), "{name}: {:?}", verdict.violations);
    }
}

#[test]
fn an_order_that_was_traded_whole_after_its_end_is_filled_and_one_that_was_not_is_wrong() {
    for (traded, clean) in [(5, true), (4, false)] {
        let (view, mut broker) = world();
        broker[0].status = "canceled".to_owned();
        let execution = BrokerExecution { execution_id: id(1), qty: Decimal::from(traded), price: Decimal::ONE };
        broker[0].reports = vec![Report { kind: ReportKind::Trade, previous: None, execution }];
        assert_eq!(compare(&[view], &broker).is_clean(), clean, "{traded} traded");
    }
}

/// A bust takes shares back that were sold on, and cash that was spent: the customer owes them.
#[test]
fn owed_cash_and_shares_are_neither_buying_power_nor_held() {
    let (mut view, mut broker) = world();
    broker[0].executions.clear();
    view.orders[0].filled_qty = Decimal::ZERO;
    view.deposit = Decimal::from(-500);
    view.account.cash = Decimal::from(-300);
    view.account.buying_power = Decimal::ZERO;
    view.positions[0].qty = Decimal::from(-2);
    view.positions[0].qty_available = Some(Decimal::ZERO);
    assert_eq!(compare(&[view], &broker).violations, []);
}

#[test]
fn foreign_orders_are_none_of_ours() {
    let (view, mut broker) = world();
    let mut foreign = at_broker(5, "buy", 9, &[9], "filled");
    foreign.foreign = true;
    foreign.client_order_id = "somebody-else".to_owned();
    broker.push(foreign);
    assert!(compare(&[view], &broker).is_clean());
}
