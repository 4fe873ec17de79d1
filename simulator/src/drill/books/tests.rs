//! Each way in which the databases can be wrong, planted one at a time in a right world.

use super::super::oracle::{BrokerExecution, Report};
use super::super::records::{Cleared, Left, Position, ReceiverFact};
use super::*;
use contracts::ids::OrderId;
use contracts::partition::Partition;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn report(number: u128, kind: ReportKind, previous: Option<u128>, qty: i64) -> Report {
    let execution = BrokerExecution { execution_id: id(number), qty: Decimal::from(qty), price: Decimal::ONE_HUNDRED };
    Report { kind, previous: previous.map(id), execution }
}

fn at_broker(number: u128, side: &str, reports: Vec<Report>, status: &str) -> BrokerOrder {
    let standing: Vec<BrokerExecution> = match reports.as_slice() {
        [_, bust] if bust.kind == ReportKind::Bust => Vec::new(),
        trades => trades.iter().map(|report| report.execution.clone()).collect(),
    };
    BrokerOrder {
        id: id(number + 1_000),
        client_order_id: BrokerKey::new(Partition::new(3).unwrap(), OrderId::new(id(number))).to_string(),
        symbol: "KO".to_owned(),
        side: side.to_owned(),
        qty: Decimal::from(5),
        limit_price: None,
        status: status.to_owned(),
        filled_qty: standing.iter().map(|execution| execution.qty).sum(),
        foreign: false,
        executions: standing,
        reports,
    }
}

fn ordered(number: u128, side: &str, status: &str, shares: i64) -> CoreOrder {
    CoreOrder {
        id: id(number),
        symbol: "KO".to_owned(),
        side: side.to_owned(),
        status: status.to_owned(),
        closed: true,
        net_quantity: Decimal::from(shares),
        net_notional: Decimal::from(shares * 100),
        hold_cash: Decimal::ZERO,
        hold_shares: Decimal::ZERO,
    }
}

fn executed(event: u128, order: u128, kind: &str, execution: u128, previous: Option<u128>) -> CoreExecution {
    let figures = (kind != "bust").then_some((Decimal::from(5), Decimal::ONE_HUNDRED));
    CoreExecution {
        event_id: id(event),
        order_id: id(order),
        kind: kind.to_owned(),
        execution_id: id(execution).to_string(),
        previous_execution_id: previous.map(|number| id(number).to_string()),
        quantity: figures.map(|(quantity, _)| quantity),
        price: figures.map(|(_, price)| price),
    }
}

fn requested(number: u128, state: &str, at_broker: bool) -> Request {
    Request {
        order_id: id(number),
        state: state.to_owned(),
        broker_order_id: at_broker.then(|| id(number + 1_000).to_string()),
        contradiction: None,
        attempts: 2,
        attempts_open: 0,
        attempts_arrived: 1,
        keys: 1,
        contents: 1,
        none_since: false,
        heard_of: at_broker,
        persons: 0,
    }
}

fn moved(order: u128, asset: &str, amount: i64) -> Cleared {
    Cleared { order_id: id(order), asset: asset.to_owned(), amount: Decimal::from(amount) }
}

fn received(event: u128, order: u128) -> ReceiverFact {
    ReceiverFact { event_id: id(event), order_id: Some(id(order)), broker_order_id: id(order + 1_000).to_string() }
}

/// One bought, one sold, one bought and busted, one canceled at the broker, one that was proven never to have arrived.
fn world() -> (Records, Vec<BrokerOrder>) {
    let broker = vec![
        at_broker(1, "buy", vec![report(11, ReportKind::Trade, None, 5)], "filled"),
        at_broker(2, "sell", vec![report(21, ReportKind::Trade, None, 5)], "filled"),
        at_broker(
            3,
            "buy",
            vec![report(31, ReportKind::Trade, None, 5), report(32, ReportKind::Bust, Some(31), -5)],
            "filled",
        ),
        at_broker(4, "buy", Vec::new(), "canceled"),
    ];
    let records = Records {
        orders: vec![
            ordered(1, "buy", "filled", 5),
            ordered(2, "sell", "filled", 5),
            ordered(3, "buy", "filled", 0),
            ordered(4, "buy", "canceled", 0),
            ordered(5, "buy", "expired", 0),
        ],
        executions: vec![
            executed(101, 1, "fill", 11, None),
            executed(102, 2, "fill", 21, None),
            executed(103, 3, "fill", 31, None),
            executed(104, 3, "bust", 32, Some(31)),
        ],
        cleared: vec![moved(1, "USD", 500), moved(1, "KO", -5), moved(2, "USD", -500), moved(2, "KO", 5)],
        requests: vec![
            requested(1, "closed", true),
            requested(2, "closed", true),
            requested(3, "closed", true),
            requested(4, "closed", true),
            Request { none_since: true, ..requested(5, "absent", false) },
        ],
        facts: vec![received(101, 1), received(102, 2), received(103, 3), received(104, 3)],
        positions: vec![Position {
            consumer: "order-core",
            producer: "fill-receiver",
            partition: 3,
            applied: 9,
            head: 9,
        }],
        left: Vec::new(),
    };
    (records, broker)
}

fn found(records: &Records, broker: &[BrokerOrder]) -> Verdict {
    let mut verdict = Verdict::default();
    let _figures = compare(records, broker, &mut verdict);
    verdict
}

#[test]
fn a_right_world_has_no_violation_and_its_figures() {
    let (records, broker) = world();
    let mut verdict = Verdict::default();
    let figures = compare(&records, &broker, &mut verdict);
    assert_eq!(verdict.violations, []);
    assert_eq!(figures, Figures { fills: 2, manual: 0, attempts_open: 0, resent: 0 });
}

type Spoil = fn(&mut Records, &mut Vec<BrokerOrder>);

#[test]
fn every_planted_violation_is_found_under_its_promise() {
    use Invariant::{I2, I3, I5, I6, I7, I8};
    use Kind::{Duplicated, Lost, Unsettled, Wrong};
    let cases: Vec<(&str, Invariant, Kind, Spoil)> = vec![
        ("the ledger lacks a fill", I3, Lost, |records, _| drop(records.executions.remove(0))),
        ("a fill is in the ledger twice, as two events", I3, Duplicated, |records, _| {
            records.executions.push(executed(199, 1, "fill", 11, None));
        }),
        ("the ledger has an execution of nobody", I3, Duplicated, |records, _| {
            records.executions.push(executed(198, 4, "fill", 77, None));
        }),
        ("the price differs", I3, Wrong, |records, _| records.executions[0].price = Some(Decimal::from(99))),
        ("the quantity differs", I3, Wrong, |records, _| records.executions[0].quantity = Some(Decimal::from(4))),
        ("a bust did not arrive", I3, Lost, |records, _| drop(records.executions.remove(3))),
        ("a bust takes back another execution", I3, Wrong, |records, _| {
            records.executions[3].previous_execution_id = Some(id(11).to_string());
        }),
        ("a fill went to another order", I3, Lost, |records, _| records.executions[0].order_id = id(4)),
        ("the cash of a fill moved twice", I3, Wrong, |records, _| records.cleared.push(moved(1, "USD", 500))),
        ("the shares of a fill did not move", I3, Wrong, |records, _| drop(records.cleared.remove(1))),
        ("the order's sum is another than its fills", I3, Wrong, |records, _| {
            records.orders[0].net_notional = Decimal::from(499);
        }),
        ("the receiver stored a fill that was never applied", I3, Lost, |records, _| {
            records.facts.push(received(150, 4));
        }),
        ("a fill was applied that the receiver never stored", I3, Wrong, |records, _| drop(records.facts.remove(0))),
        ("an order at its end holds cash", I5, Wrong, |records, _| records.orders[3].hold_cash = Decimal::ONE),
        ("an order at its end holds shares", I5, Wrong, |records, _| records.orders[1].hold_shares = Decimal::ONE),
        ("called canceled while the broker has it live", I6, Wrong, |_, broker| broker[3].status = "new".to_owned()),
        ("called canceled while the broker has filled it", I6, Wrong, |_, broker| {
            broker[3].status = "filled".to_owned();
        }),
        ("called absent while the broker has it live", I6, Wrong, |_, broker| {
            broker.push(at_broker(5, "buy", Vec::new(), "new"));
        }),
        ("absent by silence", I7, Wrong, |records, _| records.requests[4].none_since = false),
        ("absent by one person", I7, Wrong, |records, _| {
            records.requests[4] = Request { persons: 1, ..requested(5, "absent", false) };
        }),
        ("expired, not at the broker, and in doubt", I7, Wrong, |records, _| {
            records.requests[4].state = "doubt".to_owned();
        }),
        ("still in doubt", I7, Unsettled, |records, _| records.requests[4].state = "doubt".to_owned()),
        ("never sent to the end", I7, Unsettled, |records, _| records.requests[0].state = "queued".to_owned()),
        ("a new key for another attempt", I2, Wrong, |records, _| records.requests[0].keys = 2),
        ("other terms in another attempt", I2, Wrong, |records, _| records.requests[0].contents = 2),
        ("the gateway knows another broker order", I2, Wrong, |records, _| {
            records.requests[0].broker_order_id = Some(id(7).to_string());
        }),
        ("the broker has what the gateway never asked for", I2, Wrong, |records, _| {
            drop(records.requests.remove(0));
        }),
        ("the broker lost what the gateway knows", I2, Lost, |_, broker| drop(broker.remove(3))),
        ("the broker's order contradicts the request", I2, Wrong, |records, _| {
            records.requests[0].contradiction = Some("qty".to_owned());
        }),
        ("an event was never applied", I8, Unsettled, |records, _| records.positions[0].applied = 8),
        ("more was applied than there is", I8, Wrong, |records, _| records.positions[0].applied = 10),
        ("an event of ours is an orphan", I8, Unsettled, |records, _| {
            records.left.push(left(None, Some(id(1_001).to_string())));
        }),
        ("an event waits", I8, Unsettled, |records, _| records.left.push(left(Some(id(1)), None))),
        ("a frame was parked", I8, Unsettled, |records, _| records.left.push(left(None, None))),
    ];
    for (name, invariant, kind, spoil) in cases {
        let (mut records, mut broker) = world();
        spoil(&mut records, &mut broker);
        let verdict = found(&records, &broker);
        let named = verdict.violations.iter().any(|found| (found.invariant, found.kind) == (invariant, kind));
        assert!(named, "{name}: {:?}", verdict.violations);
    }
}

/// The first order's two trades, which the receiver has seen as one increase, in two parts.
fn derived_world() -> (Records, Vec<BrokerOrder>) {
    let (mut records, mut broker) = world();
    broker[0] = at_broker(
        1,
        "buy",
        vec![report(11, ReportKind::Trade, None, 2), report(12, ReportKind::Trade, None, 3)],
        "filled",
    );
    let part = |event, cumulative: i64, shares: i64| CoreExecution {
        execution_id: format!("{DERIVED}{}:{cumulative}", id(1_001)),
        quantity: Some(Decimal::from(shares)),
        ..executed(event, 1, "fill", 0, None)
    };
    records.executions[0] = part(101, 1, 1);
    records.executions.push(part(105, 5, 4));
    // Such a broker shows no key of ours.
    records.facts[0].order_id = None;
    records.facts.push(ReceiverFact { order_id: None, ..received(105, 1) });
    (records, broker)
}

#[test]
fn derived_fills_come_to_the_brokers_shares_and_money_or_are_found() {
    let (records, broker) = derived_world();
    assert_eq!(found(&records, &broker).violations, []);
    let cases: [(&str, Kind, Spoil); 4] = [
        ("one is missing", Kind::Lost, |records, _| drop(records.executions.pop())),
        ("one is there twice", Kind::Duplicated, |records, _| {
            let again = CoreExecution { event_id: id(106), ..records.executions[0].clone() };
            records.executions.push(again);
        }),
        ("the money differs", Kind::Wrong, |records, _| records.executions[0].price = Some(Decimal::from(99))),
        ("one was stored and not applied", Kind::Lost, |records, _| {
            records.facts.push(ReceiverFact { order_id: None, ..received(107, 1) });
        }),
    ];
    for (name, kind, spoil) in cases {
        let (mut records, mut broker) = derived_world();
        spoil(&mut records, &mut broker);
        let violations = found(&records, &broker).violations;
        let named = violations.iter().any(|found| (found.invariant, found.kind) == (Invariant::I3, kind));
        assert!(named, "{name}: {violations:?}");
    }
}

fn left(order_id: Option<Uuid>, broker_order_id: Option<String>) -> Left {
    Left { place: "here".to_owned(), order_id, broker_order_id, detail: "it".to_owned() }
}

#[test]
fn what_is_left_of_somebody_elses_order_is_no_violation() {
    let (mut records, broker) = world();
    records.left.push(left(None, Some(id(9_999).to_string())));
    assert_eq!(found(&records, &broker).violations, []);
}

#[test]
fn figures_count_persons_dead_senders_and_second_sendings() {
    let (mut records, broker) = world();
    records.requests[0].attempts_open = 1;
    records.requests[1].attempts_arrived = 2;
    records.requests.push(requested(6, "manual", false));
    let figures = compare(&records, &broker, &mut Verdict::default());
    assert_eq!(figures, Figures { fills: 2, manual: 1, attempts_open: 1, resent: 1 });
}

#[test]
fn an_order_that_several_comparisons_miss_is_lost_once() {
    let (mut records, broker) = world();
    drop(records.executions.remove(0));
    let verdict = found(&records, &broker);
    assert!(verdict.violations.len() > 1, "{:?}", verdict.violations);
    assert_eq!(verdict.tally.lost, 1);
}
