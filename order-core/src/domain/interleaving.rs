//! Any interleaving of the three logs, with duplicates, ends in the same status, hold and cash, and
//! every ledger balances on the way.

use super::account::tests::account;
use super::account::{Account, Balance};
use super::execution::Execution;
use super::hold::{Hold, required};
use super::journal::{Ledger, Line};
use super::order::Order;
use super::place::tests::{asset, charges, context, order_for};
use super::place::{cancel, place};
use super::reply::{FactContext, apply_broker, apply_gateway, execution_of};
use super::status::Status;
use contracts::event::{BrokerEvent, BrokerFact, EvidenceSource, GatewayEvent, NotSentReason, ObservedOrder};
use contracts::{BrokerId, BrokerOrderId, EventId, ExecutionId, OrderId, Price, Quantity, Side, Symbol};
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Gateway(GatewayEvent),
    Broker(BrokerEvent),
    Cancel,
}

pub(crate) fn order_id() -> OrderId {
    OrderId::new(Uuid::from_u128(9))
}

fn broker() -> BrokerId {
    BrokerId::new("sim").unwrap()
}

fn broker_event(fact: BrokerFact, cumulative: Option<Decimal>) -> BrokerEvent {
    BrokerEvent {
        broker: broker(),
        broker_order_id: BrokerOrderId::new("b-1").unwrap(),
        order_id: Some(order_id()),
        broker_client_order_id: None,
        event: "x".to_owned(),
        order_status: "x".to_owned(),
        symbol: Symbol::new("AAPL").unwrap(),
        side: Side::Buy,
        cumulative_quantity: cumulative,
        at: OffsetDateTime::UNIX_EPOCH,
        fact,
    }
}

fn fill(n: usize, quantity: Quantity, price: Price) -> BrokerFact {
    BrokerFact::Fill { execution_id: ExecutionId::new(format!("e{n}")).unwrap(), quantity, price }
}

/// What the gateway may tell about one order, in its own order.
pub(crate) fn gateway_log() -> impl Strategy<Value = Vec<Step>> {
    let doubt = GatewayEvent::InDoubt {
        order_id: order_id(),
        broker: Some(broker()),
        attempt: 1,
        reason: "timeout".to_owned(),
    };
    let observed = ObservedOrder {
        broker_order_id: BrokerOrderId::new("b-1").unwrap(),
        status: "new".to_owned(),
        cumulative_quantity: Some(Decimal::ZERO),
    };
    let ack =
        GatewayEvent::Acknowledged { order_id: order_id(), broker: broker(), observed, source: EvidenceSource::Reply };
    let refused = GatewayEvent::Refused { order_id: order_id(), code: 40_310_000, message: "no".to_owned() };
    let manual = GatewayEvent::Manual { order_id: order_id(), reason: "window over".to_owned() };
    let cancel_refused =
        GatewayEvent::CancelRefused { order_id: order_id(), request: 1, code: 42_210_000, message: "late".to_owned() };
    let not_sent = GatewayEvent::NotSent { order_id: order_id(), reason: NotSentReason::CancelRequested };
    prop_oneof![
        Just(vec![ack.clone()]),
        Just(vec![doubt.clone(), ack.clone(), cancel_refused]),
        Just(vec![doubt.clone(), manual]),
        Just(vec![doubt, refused.clone()]),
        Just(vec![refused]),
        Just(vec![not_sent]),
    ]
    .prop_map(|events| events.into_iter().map(Step::Gateway).collect())
}

/// What the broker may tell, in its own order: fills, perhaps a bust or a correction, perhaps an end.
pub(crate) fn broker_log(fills: Vec<(u64, u64)>, bust: bool, correct: bool, end: u8) -> Vec<Step> {
    let mut facts = vec![broker_event(BrokerFact::Live, Some(Decimal::ZERO))];
    let mut cumulative = Decimal::ZERO;
    for (n, (quantity, cents)) in fills.iter().enumerate() {
        let quantity = Quantity::new(Decimal::new(i64::try_from(*quantity).unwrap(), 3)).unwrap();
        let price = Price::new(Decimal::new(i64::try_from(*cents).unwrap(), 2)).unwrap();
        cumulative += quantity.value();
        facts.push(broker_event(fill(n, quantity, price), Some(cumulative)));
    }
    let first = ExecutionId::new("e0").unwrap();
    if correct && !fills.is_empty() {
        let (quantity, price) = (Quantity::parse("0.5").unwrap(), Price::parse("99.99").unwrap());
        let execution_id = ExecutionId::new("c0").unwrap();
        let fact = BrokerFact::Correct { execution_id, previous_execution_id: first.clone(), quantity, price };
        facts.push(broker_event(fact, Some(cumulative)));
    }
    if bust && !fills.is_empty() {
        let execution_id = ExecutionId::new("b0").unwrap();
        let fact = BrokerFact::Bust { execution_id, previous_execution_id: first };
        facts.push(broker_event(fact, Some(cumulative)));
    }
    match end {
        0 => facts.push(broker_event(BrokerFact::Canceled, Some(cumulative))),
        1 => facts.push(broker_event(BrokerFact::Expired, Some(cumulative))),
        _ => {}
    }
    facts.into_iter().map(Step::Broker).collect()
}

struct World {
    account: Account,
    order: Order,
    ledger: BTreeMap<EventId, Execution>,
    lines: Vec<Line>,
    opening: BTreeMap<(String, Ledger), Decimal>,
}

impl World {
    fn new(side: Side, cash: i64) -> Self {
        let mut account = account(cash);
        let symbol = Symbol::new("AAPL").unwrap();
        let shares = Balance { available: Decimal::from(20), ..Balance::default() };
        account.positions.entry(symbol).or_default().shares = shares;
        let opening = balances(&account);
        let asset = asset();
        let mut lines = Vec::new();
        let order = place(&mut account, order_for(side, "10", Some("100")), &context(&asset), &mut lines).unwrap();
        Self { account, order, ledger: BTreeMap::new(), lines, opening }
    }

    fn apply(&mut self, n: usize, step: &Step) {
        let now = OffsetDateTime::UNIX_EPOCH;
        let event_id = EventId::new(Uuid::from_u128(1000 + n as u128));
        let context = FactContext { event_id, charges: charges(), now };
        let (account, order) = (&mut self.account, &mut self.order);
        match step {
            Step::Cancel => {
                let _refused_at_the_end = cancel(account, order, &charges(), now, &mut self.lines);
            }
            Step::Gateway(event) => {
                apply_gateway(account, order, event, &context, &mut self.lines).unwrap();
            }
            Step::Broker(event) => {
                if let Some(execution) = execution_of(event, event_id) {
                    self.ledger.insert(event_id, execution);
                }
                let ledger: Vec<_> = self.ledger.values().cloned().collect();
                apply_broker(account, order, event, &ledger, &context, &mut self.lines).unwrap();
            }
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.order.hold, required(&self.order, &charges()).unwrap(), "hold is what remains needs");
        if self.order.status().is_terminal() {
            assert_eq!(self.order.hold, Hold::default(), "a terminal order holds nothing");
        }
        let mut sums = self.opening.clone();
        for line in &self.lines {
            assert!(line.amount > Decimal::ZERO);
            *sums.entry((line.asset.clone(), line.debit)).or_default() -= line.amount;
            *sums.entry((line.asset.clone(), line.credit)).or_default() += line.amount;
        }
        for (key, balance) in balances(&self.account) {
            assert_eq!(sums.get(&key).copied().unwrap_or_default(), balance, "balance is its journal sum: {key:?}");
        }
        let account = &self.account;
        assert!(account.cash.available.is_zero() || account.cash.shortfall.is_zero());
    }

    fn outcome(&self) -> (Status, Hold, Balance, Balance, Decimal) {
        let shares = self.account.positions.values().next().unwrap().shares;
        (self.order.status(), self.order.hold, self.account.cash, shares, self.order.commission)
    }
}

fn balances(account: &Account) -> BTreeMap<(String, Ledger), Decimal> {
    let mut all = BTreeMap::new();
    let mut put = |asset: String, balance: Balance| {
        all.insert((asset.clone(), Ledger::Available), balance.available);
        all.insert((asset.clone(), Ledger::Held), balance.held);
        all.insert((asset, Ledger::Shortfall), -balance.shortfall);
    };
    put(account.currency.to_string(), account.cash);
    for (symbol, position) in &account.positions {
        put(symbol.to_string(), position.shares);
    }
    all
}

/// Merges the logs by a list of choices, repeating an earlier step of a log now and then (delivery
/// is at least once, so a repeat is always of a prefix).
pub(crate) fn merge(logs: &[Vec<Step>], choices: &[(usize, bool)]) -> Vec<(usize, Step)> {
    let ids = |log: usize, at: usize| log * 100 + at;
    let mut at = vec![0; logs.len()];
    let mut merged = Vec::new();
    let mut take = |log: usize, repeat: bool, at: &mut Vec<usize>| {
        if repeat && at[log] > 0 {
            merged.push((ids(log, at[log] - 1), logs[log][at[log] - 1].clone()));
        }
        if at[log] < logs[log].len() {
            merged.push((ids(log, at[log]), logs[log][at[log]].clone()));
            at[log] += 1;
        }
    };
    for (log, repeat) in choices {
        take(log % logs.len(), *repeat, &mut at);
    }
    for log in 0..logs.len() {
        while at[log] < logs[log].len() {
            take(log, false, &mut at);
        }
    }
    merged
}

fn without_repeated_cancels(merged: Vec<(usize, Step)>) -> Vec<(usize, Step)> {
    let mut seen = false;
    merged
        .into_iter()
        .filter(|(_, step)| !matches!(step, Step::Cancel) || !std::mem::replace(&mut seen, true))
        .collect()
}

#[test]
fn a_fill_counts_in_every_status_that_an_order_can_be_filled_in() {
    let (id, reason) = (order_id(), || "x".to_owned());
    let doubt =
        || Step::Gateway(GatewayEvent::InDoubt { order_id: id, broker: Some(broker()), attempt: 1, reason: reason() });
    let manual = || Step::Gateway(GatewayEvent::Manual { order_id: id, reason: reason() });
    let refused = || Step::Gateway(GatewayEvent::Refused { order_id: id, code: 1, message: reason() });
    let told = |fact, cumulative: i64| Step::Broker(broker_event(fact, Some(Decimal::from(cumulative))));
    let live = || told(BrokerFact::Live, 0);
    let filled = |n, quantity| {
        let (quantity, price) = (Quantity::parse(quantity).unwrap(), Price::parse("100").unwrap());
        told(fill(n, quantity, price), 0)
    };
    let earlier = [
        (Status::PendingSend, vec![]),
        (Status::InDoubt, vec![doubt()]),
        (Status::Manual, vec![doubt(), manual()]),
        (Status::Rejected, vec![refused()]),
        (Status::Working, vec![live()]),
        (Status::PendingCancel, vec![live(), Step::Cancel]),
        (Status::PartiallyFilled, vec![filled(1, "4")]),
        (Status::Filled, vec![filled(1, "10")]),
        (Status::Canceled, vec![live(), told(BrokerFact::Canceled, 0)]),
        (Status::Expired, vec![live(), told(BrokerFact::Expired, 0)]),
    ];
    // A reserved order is not at any broker.
    assert_eq!(earlier.len() + 1, Status::ALL.len());
    for (status, steps) in earlier {
        let mut world = World::new(Side::Buy, 1_000_000);
        for (n, step) in steps.iter().enumerate() {
            world.apply(n, step);
        }
        assert_eq!(world.order.status(), status);
        let before = world.order.facts.executed.net_quantity;
        world.apply(50, &filled(2, "1"));
        assert_eq!(world.order.facts.executed.net_quantity - before, Decimal::ONE, "{status:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_of_the_logs_with_repeats_ends_the_same(
        gateway in gateway_log(),
        fills in prop::collection::vec((1u64..6000, 1u64..20_000), 0..5),
        (bust, correct, end) in (any::<bool>(), any::<bool>(), 0u8..3),
        sell in any::<bool>(),
        cash in prop_oneof![Just(1001i64), Just(1_000_000)],
        one in prop::collection::vec((0usize..2, any::<bool>()), 0..25),
        two in prop::collection::vec((0usize..2, any::<bool>()), 0..25),
    ) {
        let side = if sell { Side::Sell } else { Side::Buy };
        let logs = [gateway, broker_log(fills, bust, correct, end)];
        let mut outcomes = Vec::new();
        for choices in [one, two] {
            let mut world = World::new(side, cash);
            for (n, step) in merge(&logs, &choices) {
                world.apply(n, &step);
            }
            outcomes.push(world.outcome());
        }
        prop_assert_eq!(outcomes[0], outcomes[1]);
    }

    #[test]
    fn a_cancel_at_any_moment_keeps_every_invariant(
        gateway in gateway_log(),
        fills in prop::collection::vec((1u64..6000, 1u64..20_000), 0..5),
        (bust, correct, end) in (any::<bool>(), any::<bool>(), 0u8..3),
        choices in prop::collection::vec((0usize..3, any::<bool>()), 0..30),
    ) {
        let logs = [gateway, broker_log(fills, bust, correct, end), vec![Step::Cancel]];
        let mut world = World::new(Side::Buy, 5000);
        for (n, step) in without_repeated_cancels(merge(&logs, &choices)) {
            world.apply(n, &step);
        }
    }
}
