//! Whatever happens to an order in whatever order, what its owner is told folds to where it stands.

use super::books::Books;
use super::store::{Plan, Snapshot};
use crate::domain::account::Balance;
use crate::domain::account::tests::account;
use crate::domain::execution::{Execution, ExecutionKind};
use crate::domain::interleaving::{Step, broker_log, gateway_log, merge, order_id};
use crate::domain::order::Order;
use crate::domain::place::place;
use crate::domain::place::tests::{asset, charges, context, order_for};
use crate::domain::update::{Update, UpdateEvent};
use contracts::{EventId, Side, Symbol};
use proptest::prelude::*;
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// An account with one order, kept from batch to batch as the database would.
struct World {
    snapshot: Snapshot,
    told: Vec<(Update, crate::domain::status::Status)>,
    executions: Vec<Execution>,
}

impl World {
    fn new(side: Side) -> Self {
        let mut account = account(1_000_000);
        let shares = Balance { available: Decimal::from(20), ..Balance::default() };
        account.positions.entry(Symbol::new("AAPL").unwrap()).or_default().shares = shares;
        let asset = asset();
        let new = order_for(side, "10", Some("100"));
        let order = place(&mut account, new, &context(&asset), &mut Vec::new()).unwrap();
        let mut snapshot = Snapshot::default();
        snapshot.orders.insert(order.id, order);
        snapshot.accounts.insert(account.id, account);
        Self { snapshot, told: Vec::new(), executions: Vec::new() }
    }

    fn order(&self) -> &Order {
        &self.snapshot.orders[&order_id()]
    }

    /// One batch of steps, and its effect.
    fn batch(&mut self, steps: &[(usize, Step)], now: OffsetDateTime) {
        let mut books = Books::open(self.snapshot.clone(), charges(), now);
        for (n, step) in steps {
            let event = EventId::new(Uuid::from_u128(1000 + *n as u128));
            match step {
                Step::Gateway(fact) => drop(books.gateway_event(fact, event).unwrap()),
                Step::Broker(fact) => drop(books.broker_event(order_id(), fact, event).unwrap()),
                Step::Cancel => drop(books.cancel(self.order().account_id, order_id())),
            }
        }
        for plan in books.close() {
            self.keep(plan);
        }
    }

    fn keep(&mut self, plan: Plan) {
        let steps = plan.transitions.iter();
        self.told.extend(steps.filter_map(|step| step.update.map(|update| (update, step.to))));
        self.snapshot.orders.extend(plan.changed_orders);
        for (order, execution) in plan.executions {
            self.executions.push(execution.clone());
            self.snapshot.executions.entry(order).or_default().push(execution);
        }
        self.snapshot.accounts.insert(plan.account.id, plan.account);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_updates_of_an_account_fold_to_where_its_order_stands(
        gateway in gateway_log(),
        fills in prop::collection::vec((1u64..6000, 1u64..20_000), 0..5),
        (bust, correct, end) in (any::<bool>(), any::<bool>(), 0u8..3),
        sell in any::<bool>(),
        choices in prop::collection::vec((0usize..3, any::<bool>()), 0..30),
        batch_len in 1usize..5,
        clock in prop::collection::vec(-2000i64..2000, 60),
    ) {
        let mut world = World::new(if sell { Side::Sell } else { Side::Buy });
        let logs = [gateway, broker_log(fills, bust, correct, end), vec![Step::Cancel]];
        let before = world.order().status();
        let mut now = OffsetDateTime::UNIX_EPOCH + Duration::days(1);
        for (steps, millis) in merge(&logs, &choices).chunks(batch_len).zip(clock) {
            now += Duration::milliseconds(millis);
            world.batch(steps, now);
        }
        let order = world.order();
        // No number is missing, none comes twice, and no time goes back.
        let numbers: Vec<i64> = world.told.iter().map(|(update, _)| update.mark.seq).collect();
        prop_assert_eq!(&numbers, &(1..=i64::try_from(numbers.len()).unwrap()).collect::<Vec<_>>());
        prop_assert!(world.told.is_sorted_by_key(|(update, _)| update.mark.at));
        let account = &world.snapshot.accounts[&order.account_id];
        prop_assert_eq!(account.last_update.seq, i64::try_from(world.told.len()).unwrap());
        // The last word is where the order stands, with its figures and the holding.
        let told_last = world.told.last().map_or(before, |(_, status)| *status);
        prop_assert_eq!(told_last.api(&order.facts), order.status().api(&order.facts));
        let last = world.told.last().map(|(update, _)| (update.filled_quantity, update.filled_notional));
        let executed = order.facts.executed;
        prop_assert_eq!(last.unwrap_or_default(), (executed.net_quantity, executed.net_notional));
        let holding = account.positions[&Symbol::new("AAPL").unwrap()].shares.total();
        let told_holding = world.told.iter().rev().find_map(|(update, _)| update.position_quantity);
        prop_assert_eq!(told_holding.unwrap_or(Decimal::from(20)), holding);
        // Each execution of the ledger is told once, under its own word.
        let word = |kind: &ExecutionKind| match kind {
            ExecutionKind::Fill { .. } => 0,
            ExecutionKind::Correct { .. } => 1,
            ExecutionKind::Bust { .. } => 2,
        };
        let in_ledger: Vec<_> = world.executions.iter().map(|execution| word(&execution.kind)).collect();
        let told: Vec<_> = world.told.iter().filter_map(|(update, _)| match update.event {
            UpdateEvent::Fill | UpdateEvent::PartialFill => Some(0),
            UpdateEvent::Correct => Some(1),
            UpdateEvent::Bust => Some(2),
            _ => None,
        }).collect();
        prop_assert_eq!(told, in_ledger);
        let ids: BTreeSet<_> = world.executions.iter().map(|execution| execution.event_id).collect();
        prop_assert_eq!(ids.len(), world.executions.len());
    }
}
