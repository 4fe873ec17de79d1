//! Several copies of the receiver at once.

use crate::broker::{Event, position};
use crate::harness::{World, eventually, start};
use contracts::BrokerId;
use fill_receiver::adapters::db::PgStore;
use fill_receiver::application::ports::{EventStore, StoreError};
use fill_receiver::application::status::StreamState;
use fill_receiver::domain::cumulative::ExecutionsShown;
use fill_receiver::domain::cursor::{Cursor, CursorMove};
use fill_receiver::domain::identity::ExecutionScope;
use fill_receiver::domain::intake::StopReason;
use fill_receiver::domain::reading::{BrokerProfile, RawFrame, Reading, read_frame};
use time::OffsetDateTime;
use uuid::Uuid;

fn profile() -> BrokerProfile {
    BrokerProfile {
        broker: BrokerId::new("sim").unwrap(),
        execution_scope: ExecutionScope::Broker,
        executions: ExecutionsShown::Single,
    }
}

pub(crate) fn store(world: &World, stream: &str) -> PgStore {
    PgStore::new(
        world.pool().clone(),
        profile(),
        stream.to_owned(),
        Uuid::now_v7(),
        1000,
        std::time::Duration::from_secs(10),
    )
}

fn reading(event: &Event) -> Reading {
    read_frame(&profile(), RawFrame::new(event.bytes()))
}

#[tokio::test]
async fn one_copy_reads_and_the_other_takes_over_when_it_ends() {
    let world = World::new().await;
    let first = world.receiver().await;
    let second = start(world.settings()).await;
    let status = std::sync::Arc::clone(&second.service.status);
    eventually("standing by", || async { status.state() == StreamState::Standby }).await;
    assert_eq!(second.get("/ops/v1/ready").await.0, 200, "a copy that stands by is ready");
    world.broker.publish(&Event::fill(1, "e-1", position(500, 1)));
    world.logged(1).await;
    first.stop().await;
    second.connections(1).await;
    world.broker.publish(&Event::fill(1, "e-2", position(400, 2)));
    world.logged(2).await;
    second.stop().await;
}

#[tokio::test]
async fn two_readers_without_a_lease_log_everything_once_and_only_one_moves_the_cursor() {
    let world = World::new().await;
    // The lease only saves work: with one that is over at once, both read.
    let mut settings = world.settings();
    settings.lease.duration_ms = 0;
    let first = world.receiver_with(settings.clone()).await;
    let second = world.receiver_with(settings).await;
    for n in 0..200_u128 {
        world.broker.publish(&Event::fill(n % 7, &format!("e-{n}"), position(0, n)));
        tokio::task::yield_now().await;
    }
    let last = position(0, 1000);
    world.broker.publish(&Event::fill(1, "e-last", last));
    eventually("everything", || async { world.log().await.len() >= 201 }).await;
    assert_eq!(world.logged(201).await.len(), 201);
    eventually("the cursor at the end", || async { world.cursor().await == last.to_string() }).await;
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_reader_whose_cursor_was_moved_by_another_stores_nothing_and_resumes() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    let moved = position(900, 7);
    sqlx::query("update streams set cursor = $1").bind(moved.to_string()).execute(world.pool()).await.unwrap();
    world.broker.publish(&Event::fill(1, "e-2", position(800, 2)));
    world.logged(2).await;
    assert_eq!(receiver.service.status.last_stop(), Some(StopReason::CursorLost));
    assert_eq!(world.broker.connects()[1].since.timestamp_ms(), moved.timestamp_ms() - 120_000);
    receiver.stop().await;
}

#[tokio::test]
async fn a_lost_cursor_undoes_the_whole_transaction() {
    let world = World::new().await;
    let store = store(&world, "trades");
    let now = OffsetDateTime::now_utc();
    let first = Cursor::at(now);
    store.open_stream(first, now).await.unwrap();
    let event = Event::fill(1, "e-1", position(0, 1));
    let wrong = CursorMove { from: first.rewound(1), to: first };
    let lost = store.store(&[reading(&event)], Some(wrong), now).await;
    assert!(matches!(lost, Err(StoreError::CursorLost)), "{lost:?}");
    for table in ["repeats", "broker_events", "broker_orders", "event_log"] {
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
}

#[tokio::test]
async fn events_that_cannot_be_stored_move_no_cursor() {
    let world = World::new().await;
    let store = store(&world, "trades");
    let now = OffsetDateTime::now_utc();
    let first = Cursor::at(now);
    store.open_stream(first.rewound(1), now).await.unwrap();
    let full = "create function full_disk() returns trigger language plpgsql as $$ begin raise 'full'; end $$;
                create trigger full_disk before insert on event_log for each row execute function full_disk()";
    sqlx::raw_sql(full).execute(world.pool()).await.unwrap();
    let moved = CursorMove { from: first.rewound(1), to: first };
    let reading = reading(&Event::fill(1, "e-1", position(0, 1)));
    store.store(std::slice::from_ref(&reading), Some(moved), now).await.unwrap_err();
    assert_eq!(world.cursor().await, moved.from.to_string());
    // The same move is good once they can be stored.
    sqlx::raw_sql("drop trigger full_disk on event_log").execute(world.pool()).await.unwrap();
    store.store(&[reading], Some(moved), now).await.unwrap();
    assert_eq!((world.cursor().await, world.log().await.len()), (moved.to.to_string(), 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crosswise_batches_of_two_receivers_do_not_deadlock() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    for round in 0..20_u128 {
        let mut readings: Vec<Reading> = (0..60_u128)
            .map(|n| reading(&Event::fill(n % 11, &format!("e-{round}-{n}"), position(0, round * 100 + n))))
            .collect();
        let forward = readings.clone();
        readings.reverse();
        let (one, two) = (store(&world, "one"), store(&world, "two"));
        let (a, b) = tokio::join!(
            tokio::spawn(async move { one.store(&forward, None, now).await }),
            tokio::spawn(async move { two.store(&readings, None, now).await }),
        );
        let inserted = a.unwrap().unwrap().inserted + b.unwrap().unwrap().inserted;
        assert_eq!(inserted, 60, "round {round}");
    }
    assert_eq!(world.log().await.len(), 1200);
}

#[tokio::test]
async fn an_orphan_and_its_name_stored_by_two_receivers_at_once_always_meet() {
    let world = World::new().await;
    let now = OffsetDateTime::now_utc();
    for round in 0..40_u128 {
        let orphan = Event::fill(round, &format!("e-{round}"), position(0, round)).named(serde_json::Value::Null);
        let named = Event::new("new", round, position(0, 1000 + round));
        let (one, two) = (store(&world, "one"), store(&world, "two"));
        let (orphan, named) = (reading(&orphan), reading(&named));
        let (a, b) = tokio::join!(
            tokio::spawn(async move { one.store(&[orphan], None, now).await }),
            tokio::spawn(async move { two.store(&[named], None, now).await }),
        );
        a.unwrap().unwrap();
        b.unwrap().unwrap();
    }
    let with_order =
        "select count(distinct order_id) from event_log where type = 'broker.fill' and order_id is not null";
    assert_eq!(world.count(with_order).await, 40);
    assert_eq!(world.count("select count(*) from broker_events where order_id is null").await, 0);
}

#[tokio::test]
async fn executions_are_never_identified_in_another_way_than_before() {
    let world = World::new().await;
    let mut settings = world.settings();
    world.receiver().await.stop().await;
    settings.broker.execution_scope = ExecutionScope::Account;
    let scoped = PgStore::new(
        world.pool().clone(),
        BrokerProfile { execution_scope: ExecutionScope::Account, ..profile() },
        "trades".to_owned(),
        Uuid::now_v7(),
        1000,
        std::time::Duration::from_secs(10),
    );
    let now = OffsetDateTime::now_utc();
    assert!(matches!(scoped.open_stream(Cursor::at(now), now).await, Err(StoreError::ScopeChanged { .. })));
}
