//! What the gateway's and the brokers' events do to an account, in any order and more than once.

use crate::world::{Flow, World, acknowledged, broker_event, charges, fill, in_doubt, limit, operator, place};
use contracts::event::{BrokerFact, GatewayEvent, Producer};
use contracts::{AccountId, ExecutionId, OrderId, Partition, Side};
use order_core::adapters::db::PgStore;
use order_core::application::audit::Audit;
use order_core::application::command::{CommandError, Commands};
use order_core::application::facts::{FactApplier, SliceResult};
use order_core::application::parked::{Parked, ParkedEvent, ParkedPlace};
use order_core::application::query::Queries;
use order_core::application::store::{LockMode, Store, Transaction};
use order_core::domain::refusal::Refusal;
use order_core::domain::status::Status;
use platform::testing::eventually;
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

#[tokio::test]
async fn a_fill_before_the_acknowledgement_counts_and_a_late_doubt_changes_nothing() {
    let world = World::new().await;
    let account = world.account("10000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    world.broker(account, &[broker_event(Some(order.id), "b-1", "4", fill("e1", "4", "99"))]).await;
    world.gateway(account, &[in_doubt(order.id)]).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::PartiallyFilled);
    world.gateway(account, &[acknowledged(order.id, "b-1")]).await;
    world.broker(account, &[broker_event(Some(order.id), "b-1", "10", fill("e2", "6", "98"))]).await;
    let filled = world.order(account, order.id).await;
    assert_eq!((filled.status(), filled.facts.executed.net_notional), (Status::Filled, Decimal::from(984)));
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::from(9016), Decimal::ZERO));
    assert_eq!(world.store.positions(account).await.unwrap()[0].position.shares.available, Decimal::TEN);
    world.audit().await;
}

#[tokio::test]
async fn a_slice_delivered_twice_takes_effect_once() {
    let world = World::new().await;
    let account = world.account("10000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    let event = broker_event(Some(order.id), "b-1", "4", fill("e1", "4", "99"));
    let slice = world.log.slice(Producer::FillReceiver, Partition::of_account(account), &[event]);
    let other = world.another();
    let results = tokio::join!(world.shards.apply(slice.clone()), other.apply(slice));
    let applied = [results.0.unwrap(), results.1.unwrap()];
    assert_eq!(applied.iter().filter(|result| matches!(result, SliceResult::Applied(_))).count(), 1);
    assert_eq!(world.order(account, order.id).await.facts.executed.net_quantity, Decimal::from(4));
    world.audit().await;
}

#[tokio::test]
async fn a_canceled_order_keeps_its_hold_until_every_fill_is_here() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    world.shards.cancel(account, order.id).await.unwrap();
    world.broker(account, &[broker_event(Some(order.id), "b-1", "7", BrokerFact::Canceled)]).await;
    assert!(!world.order(account, order.id).await.status().is_terminal());
    assert_eq!(world.cash(account).await.available, Decimal::ZERO);
    world.broker(account, &[broker_event(Some(order.id), "b-1", "7", fill("e1", "7", "100"))]).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::Canceled);
    assert_eq!(world.cash(account).await.available, Decimal::from(300));
    world.audit().await;
}

#[tokio::test]
async fn a_bust_after_the_money_is_spent_leaves_a_shortfall_and_a_restricted_account() {
    let world = World::new().await;
    let account = world.account("1000").await;
    world.bought(account, "buy", "10", "100").await;
    let sell = place(&world.shards, account, "sell", limit(Side::Sell, "10", "100")).await.unwrap().order;
    world.broker(account, &[broker_event(Some(sell.id), "b-s", "10", fill("e-s", "10", "100"))]).await;
    world.bought(account, "again", "10", "100").await;
    let bust = BrokerFact::Bust {
        execution_id: ExecutionId::new("x-1").unwrap(),
        previous_execution_id: ExecutionId::new("e-s").unwrap(),
    };
    world.broker(account, &[broker_event(Some(sell.id), "b-s", "10", bust)]).await;
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.shortfall), (Decimal::ZERO, Decimal::from(1000)));
    let refused = place(&world.shards, account, "more", limit(Side::Buy, "1", "1")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
    world.audit().await;
}

#[tokio::test]
async fn a_refused_order_that_lives_after_all_takes_its_hold_again() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    let refused = GatewayEvent::Refused { order_id: order.id, code: 40_310_000, message: "no".to_owned() };
    world.gateway(account, &[refused]).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::Rejected);
    assert_eq!(world.cash(account).await.held, Decimal::ZERO);
    world.broker(account, &[broker_event(Some(order.id), "b-1", "0", BrokerFact::Live)]).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::Working);
    assert_eq!(world.cash(account).await.held, Decimal::from(1000));
    world.audit().await;
}

#[tokio::test]
async fn an_end_without_the_brokers_count_asks_for_a_lookup_once() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    let mut event = broker_event(Some(order.id), "b-1", "0", BrokerFact::Canceled);
    event.cumulative_quantity = None;
    world.broker(account, &[event.clone(), event]).await;
    assert_eq!(world.count("select count(*) from event_log where type = 'order.lookup'").await, 1);
    assert!(!world.order(account, order.id).await.status().is_terminal());
    world.audit().await;
}

#[tokio::test]
async fn events_of_a_busy_account_wait_in_order_and_the_neighbours_go_on() {
    let world = World::new().await;
    let busy = world.account("1000").await;
    let order = place(&world.shards, busy, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    let mut tx = world.store.begin().await.unwrap();
    tx.lock(&BTreeSet::from([busy]), LockMode::Wait).await.unwrap();
    let first = broker_event(Some(order.id), "b-1", "4", fill("e1", "4", "100"));
    assert!(matches!(world.broker(busy, &[first]).await, SliceResult::Applied(_)));
    let second = broker_event(Some(order.id), "b-1", "10", fill("e2", "6", "100"));
    assert!(matches!(world.broker(busy, &[second]).await, SliceResult::Applied(_)));
    assert_eq!(world.count("select count(*) from deferred").await, 2);
    drop(tx);
    let settled =
        eventually(Duration::from_secs(10), || async { world.order(busy, order.id).await.status() == Status::Filled });
    assert!(settled.await);
    assert_eq!(world.count("select count(*) from deferred").await, 0);
    world.audit().await;
}

#[tokio::test]
async fn a_poison_event_parks_its_account_and_holds_up_nobody_else() {
    let world = World::new().await;
    let (account, other) = (world.account("1000").await, world.account("1000").await);
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "10")).await.unwrap().order;
    let partition = Partition::of_account(account);
    let mut slice = world.log.raw_slice(
        Producer::FillReceiver,
        partition,
        vec![("broker.fill".to_owned(), "{\"nonsense\":true}".to_owned())],
    );
    slice.events[0].order_id = Some(order.id);
    slice.events[0].account_id = Some(account);
    assert!(matches!(world.shards.apply(slice).await.unwrap(), SliceResult::Applied(_)));
    world.broker(account, &[broker_event(Some(order.id), "b-1", "4", fill("e1", "4", "10"))]).await;
    assert_eq!(world.count("select count(*) from deferred where reason = 'poison'").await, 1);
    assert_eq!(world.count("select count(*) from deferred where reason = 'behind'").await, 1);
    let refused = place(&world.shards, account, "c-2", limit(Side::Buy, "1", "10")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
    world.shards.cancel(account, order.id).await.unwrap();
    place(&world.shards, other, "c-1", limit(Side::Buy, "1", "10")).await.unwrap();
    let violations = world.store.audit().await.unwrap();
    assert!(matches!(violations.as_slice(), [one] if one.invariant == "nothing_is_parked"), "{violations:?}");
}

#[tokio::test]
async fn a_fill_of_an_unknown_broker_order_waits_until_the_acknowledgement_names_it() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "10")).await.unwrap().order;
    let orphan = broker_event(None, "b-9", "10", fill("e1", "10", "10"));
    let elsewhere = Partition::of_broker_order(&orphan.broker, &orphan.broker_order_id);
    let slice = world.log.slice(Producer::FillReceiver, elsewhere, &[orphan]);
    world.shards.apply(slice).await.unwrap();
    assert_eq!(world.count("select count(*) from orphans").await, 1);
    world.gateway(account, &[acknowledged(order.id, "b-9")]).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::Filled);
    assert_eq!(world.count("select count(*) from orphans").await, 0);
    world.audit().await;
}

#[tokio::test]
async fn an_orphan_that_comes_after_the_binding_finds_its_order() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "10")).await.unwrap().order;
    world.gateway(account, &[acknowledged(order.id, "b-9")]).await;
    let late = broker_event(None, "b-9", "10", fill("e1", "10", "10"));
    let elsewhere = Partition::of_broker_order(&late.broker, &late.broker_order_id);
    world.shards.apply(world.log.slice(Producer::FillReceiver, elsewhere, &[late])).await.unwrap();
    assert_eq!(world.order(account, order.id).await.status(), Status::Filled);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_and_orders_of_one_account_at_once_neither_deadlock_nor_lose_anything() {
    let world = World::new().await;
    let account = world.account("100000").await;
    let shards = world.another();
    let placing = tokio::spawn(async move {
        let mut ids = Vec::new();
        for n in 0..40 {
            ids.push(place(&shards, account, &format!("n-{n}"), limit(Side::Buy, "1", "10")).await.unwrap().order.id);
        }
        ids
    });
    for n in 0..40 {
        world.bought(account, &format!("f-{n}"), "1", "10").await;
    }
    assert_eq!(placing.await.unwrap().len(), 40);
    let settled =
        eventually(Duration::from_secs(20), || async { world.count("select count(*) from executions").await == 40 });
    assert!(settled.await);
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::from(99_200), Decimal::from(400)));
    world.audit().await;
}

async fn retry(world: &World, parked: &ParkedEvent) -> bool {
    let partition = Partition::new(parked.partition).unwrap();
    let place = ParkedPlace { producer: parked.producer.clone(), partition, seq: parked.seq };
    world.store.retry(&place, &operator(), OffsetDateTime::now_utc()).await.unwrap()
}

#[tokio::test]
async fn a_fill_that_the_database_refuses_parks_its_account_and_counts_once_after_a_retry() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "20", "10")).await.unwrap().order;
    let run = |sql: &'static str| {
        let pool = world.database.pool.clone();
        async move { sqlx::query(sql).execute(&pool).await.unwrap() }
    };
    run("alter table executions add constraint no_thirteen check (quantity <> 13)").await;
    let bad = broker_event(Some(order.id), "b-1", "13", fill("e1", "13", "10"));
    let good = broker_event(Some(order.id), "b-1", "20", fill("e2", "7", "10"));
    let result = world.broker(account, &[bad, good]).await;
    assert!(matches!(result, SliceResult::Applied(_)), "{result:?}");
    let parked = world.store.parked(10).await.unwrap();
    assert_eq!((parked.len(), parked[0].account_id, parked[0].behind), (1, Some(account.as_uuid()), 1));
    let refused = place(&world.shards, account, "c-2", limit(Side::Buy, "1", "10")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
    run("alter table executions drop constraint no_thirteen").await;
    // Nobody can try it while another copy holds the position; the account stays held that long.
    let mut elsewhere = world.database.pool.begin().await.unwrap();
    sqlx::query("select 1 from applied for update").execute(&mut *elsewhere).await.unwrap();
    assert!(retry(&world, &parked[0]).await && !retry(&world, &parked[0]).await);
    let refused = place(&world.shards, account, "c-3", limit(Side::Buy, "1", "10")).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refusal::Restricted(_)))), "{refused:?}");
    let still = world.store.parked(10).await.unwrap();
    assert_eq!((still.len(), still[0].retried, still[0].behind), (1, true, 1));
    elsewhere.rollback().await.unwrap();
    let settled = eventually(Duration::from_secs(10), || async {
        world.order(account, order.id).await.status() == Status::Filled
    });
    assert!(settled.await);
    assert_eq!(world.count("select count(*) from deferred").await, 0);
    place(&world.shards, account, "c-4", limit(Side::Buy, "1", "10")).await.unwrap();
    let recorded = "select count(*) from operator_actions where action = 'event.retried' and operator = 'kim'";
    assert_eq!(world.count(recorded).await, 1);
    world.audit().await;
}

#[tokio::test]
async fn a_correction_downward_after_the_end_opens_nothing() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "20", "10")).await.unwrap().order;
    let correct = BrokerFact::Correct {
        execution_id: ExecutionId::new("x1").unwrap(),
        previous_execution_id: ExecutionId::new("e1").unwrap(),
        quantity: contracts::Quantity::parse("8").unwrap(),
        price: contracts::Price::parse("10").unwrap(),
    };
    let events = [
        broker_event(Some(order.id), "b-1", "10", fill("e1", "10", "10")),
        broker_event(Some(order.id), "b-1", "10", BrokerFact::Canceled),
        broker_event(Some(order.id), "b-1", "8", correct),
    ];
    world.broker(account, &events).await;
    assert_eq!(world.order(account, order.id).await.status(), Status::Canceled);
    let cash = world.cash(account).await;
    assert_eq!((cash.available, cash.held), (Decimal::from(920), Decimal::ZERO));
    world.audit().await;
}

#[tokio::test]
async fn an_execution_that_is_logged_again_under_another_event_counts_once() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "20", "10")).await.unwrap().order;
    let event = || broker_event(Some(order.id), "b-1", "10", fill("e1", "10", "10"));
    world.broker(account, &[event()]).await;
    world.broker(account, &[event(), broker_event(Some(order.id), "b-1", "20", fill("e2", "10", "10"))]).await;
    let filled = world.order(account, order.id).await;
    assert_eq!((filled.status(), filled.facts.executed.net_quantity), (Status::Filled, Decimal::from(20)));
    assert_eq!(world.count("select count(*) from executions").await, 2);
    world.audit().await;
}

#[tokio::test]
async fn waiting_events_are_taken_in_the_order_of_their_log_by_one_copy_at_a_time() {
    let world = World::new().await;
    let account = world.account("1000").await;
    let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
    let mut holder = world.store.begin().await.unwrap();
    holder.lock(&BTreeSet::from([account]), LockMode::Wait).await.unwrap();
    for (n, cumulative) in [(1, "1"), (2, "2"), (3, "3")] {
        let event = broker_event(Some(order.id), "b-1", cumulative, fill(&format!("e{n}"), "1", "100"));
        assert!(matches!(world.broker(account, &[event]).await, SliceResult::Applied(_)));
    }
    // By time they would come the other way round.
    let pool = &world.database.pool;
    sqlx::query("update deferred set deferred_at = deferred_at - seq * interval '1 minute'")
        .execute(pool)
        .await
        .unwrap();
    let partitions: Vec<Partition> = Partition::all().collect();
    let taken = eventually(Duration::from_secs(10), || async {
        // The workers try as well, and whoever comes second gets nothing.
        let (mut first, mut second) = (world.store.begin().await.unwrap(), world.store.begin().await.unwrap());
        let taken = first.take_deferred(&partitions, 200).await.unwrap();
        assert!(taken.is_empty() || second.take_deferred(&partitions, 200).await.unwrap().is_empty());
        taken.iter().map(|event| event.seq).collect::<Vec<_>>() == [1, 2, 3]
    });
    assert!(taken.await);
    holder.rollback().await;
    let settled =
        eventually(Duration::from_secs(10), || async { world.count("select count(*) from deferred").await == 0 });
    assert!(settled.await);
    world.audit().await;
}

/// An applier beside the workers, and accounts of different partitions with an order each.
async fn spread(world: &World, len: usize) -> (FactApplier<PgStore>, Vec<(AccountId, OrderId)>) {
    let mut orders = Vec::new();
    let mut partitions = BTreeSet::new();
    while orders.len() < len {
        let account = world.account("1000").await;
        if partitions.insert(Partition::of_account(account)) {
            let order = place(&world.shards, account, "c-1", limit(Side::Buy, "10", "100")).await.unwrap().order;
            orders.push((account, order.id));
        }
    }
    (FactApplier { store: Arc::new(world.store.clone()), charges: charges() }, orders)
}

#[tokio::test]
async fn slices_that_wait_take_effect_in_one_transaction_and_a_moved_one_stops_none() {
    let world = World::new().await;
    let (applier, orders) = spread(&world, 3).await;
    let mut slices = Vec::new();
    for (n, (account, order)) in orders.iter().enumerate() {
        let (partition, name) = (Partition::of_account(*account), format!("b-{n}"));
        let filled = broker_event(Some(*order), &name, "10", fill(&format!("e{n}"), "10", "100"));
        slices.push(world.log.slice(Producer::BrokerGateway, partition, &[acknowledged(*order, &name)]));
        slices.push(world.log.slice(Producer::FillReceiver, partition, &[filled]));
    }
    let now = OffsetDateTime::now_utc();
    // Another copy was here first.
    assert!(matches!(applier.apply(&slices[1], now).await.unwrap(), SliceResult::Applied(_)));
    let results = applier.apply_together(&slices, now).await;
    for (n, result) in results.into_iter().map(Result::unwrap).enumerate() {
        assert_eq!(result == SliceResult::Moved, n == 1, "slice {n}: {result:?}");
    }
    assert_eq!(world.count("select count(distinct xmin::text) from applied where seq > 0").await, 2);
    for (account, order) in orders {
        assert_eq!(world.order(account, order).await.status(), Status::Filled);
    }
    assert_eq!(world.count("select count(*) from executions").await, 3);
    world.audit().await;
}

#[tokio::test]
async fn one_event_that_spoils_slices_of_several_partitions_is_parked_alone() {
    let world = World::new().await;
    let (applier, orders) = spread(&world, 3).await;
    let statement = "alter table executions add constraint no_thirteen check (price <> 13)";
    sqlx::query(statement).execute(&world.database.pool).await.unwrap();
    let mut slices = Vec::new();
    for (n, (account, order)) in orders.iter().enumerate() {
        let price = if n == 1 { "13" } else { "100" };
        let filled = broker_event(Some(*order), &format!("b-{n}"), "10", fill(&format!("e{n}"), "10", price));
        slices.push(world.log.slice(Producer::FillReceiver, Partition::of_account(*account), &[filled]));
    }
    for result in applier.apply_together(&slices, OffsetDateTime::now_utc()).await {
        assert!(matches!(result, Ok(SliceResult::Applied(_))), "{result:?}");
    }
    let parked = world.store.parked(10).await.unwrap();
    assert_eq!((parked.len(), parked[0].account_id), (1, Some(orders[1].0.as_uuid())));
    for n in [0, 2] {
        assert_eq!(world.order(orders[n].0, orders[n].1).await.status(), Status::Filled);
    }
    let statement = "alter table executions drop constraint no_thirteen";
    sqlx::query(statement).execute(&world.database.pool).await.unwrap();
    assert!(retry(&world, &parked[0]).await);
    let settled = eventually(Duration::from_secs(10), || async {
        world.order(orders[1].0, orders[1].1).await.status() == Status::Filled
    });
    assert!(settled.await);
    world.audit().await;
}
