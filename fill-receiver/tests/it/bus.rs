//! What is passed on, and when.

use crate::broker::{Event, key, position};
use crate::harness::{World, eventually};
use platform::testing::TestRedis;
use serde_json::Value;

async fn feed(receiver: &crate::harness::Running, partition: i16) -> Vec<Value> {
    let path = format!("/feed/{partition}?after=0&limit=100");
    let (status, body) = receiver.call(reqwest::Method::GET, &path, "peer").await;
    assert_eq!(status, 200, "{body}");
    body["events"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_event_reaches_feed_and_bus_only_after_its_commit() {
    let world = World::new().await;
    let redis = TestRedis::start();
    let mut settings = world.settings();
    settings.redis = redis.config();
    let receiver = world.receiver_with(settings).await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut bus = client.get_multiplexed_async_connection().await.unwrap();
    let stream = platform::keys::log(contracts::event::Producer::FillReceiver, key(1).partition());
    let mut heads = world.pool().begin().await.unwrap();
    sqlx::query("select seq from event_heads for update").fetch_all(&mut *heads).await.unwrap();
    world.broker.publish(&Event::fill(1, "e-1", position(500, 1)));
    let waiting = "select count(*) from pg_stat_activity
                   where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the receiver waits for the heads", || async { world.count(waiting).await == 1 }).await;
    assert_eq!(feed(&receiver, 1).await.len(), 0);
    let len: i64 = redis::cmd("XLEN").arg(&stream).query_async(&mut bus).await.unwrap();
    assert_eq!(len, 0);
    heads.rollback().await.unwrap();
    world.logged(1).await;
    assert_eq!(feed(&receiver, 1).await.len(), 1);
    eventually("the event on the bus", || {
        let (mut bus, stream) = (bus.clone(), stream.clone());
        async move { redis::cmd("XLEN").arg(&stream).query_async::<i64>(&mut bus).await.unwrap() == 1 }
    })
    .await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_database_that_goes_away_for_a_while_costs_nothing() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(900, 1)));
    world.logged(1).await;
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .execute(world.pool())
        .await
        .unwrap();
    world.broker.publish(&Event::fill(1, "e-2", position(800, 2)));
    eventually("the second event", || async {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from event_log").fetch_one(world.pool()).await;
        count.is_ok_and(|count| count == 2)
    })
    .await;
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn thousands_of_events_at_once_go_through_in_batches() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let events: Vec<Event> = (0..5000_u128).map(|n| Event::fill(n % 900, &format!("e-{n}"), position(0, n))).collect();
    for piece in events.chunks(50) {
        world.broker.publish_all(piece);
    }
    world.logged(5000).await;
    let transactions = world.count("select count(distinct stored_at) from broker_events").await;
    assert!(transactions < 2500, "{transactions} transactions for 5000 events");
    receiver.stop().await;
}
