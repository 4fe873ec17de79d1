//! A database that hangs, and one that forgets.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};
use crate::push::{Push, url};
use crate::wire::Wire;
use fill_receiver::domain::intake::StopReason;
use platform::config::Secret;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;

async fn wire_of(world: &World) -> (Wire, String) {
    let options = PgConnectOptions::from_str(&world.db.url).unwrap();
    let server = tokio::net::lookup_host((options.get_host(), options.get_port())).await.unwrap().next().unwrap();
    let wire = Wire::to(server).await;
    let url = options.host("127.0.0.1").port(wire.addr.port()).to_url_lossy().to_string();
    (wire, url)
}

#[tokio::test]
async fn a_database_that_hangs_makes_it_unready_and_pushes_are_answered_in_time_and_stored_once_later() {
    let world = World::new().await;
    let (wire, database) = wire_of(&world).await;
    let mut settings = world.push_settings();
    settings.database.url = Secret::new(database);
    settings.database.connections_max = 3;
    settings.database.acquire_timeout_ms = 200;
    settings.store.call_timeout_ms = 300;
    settings.push.deadline_ms = 1_000;
    settings.push.in_flight_max = 64;
    settings.watch.database_interval_ms = 50;
    settings.watch.database_timeout_ms = 200;
    let receiver = world.receiver_with(settings).await;
    let push = Push::of("nonce-0000000001", &Event::fill(1, "e-1", position(900, 1)).bytes());
    wire.freeze(true);
    world.broker.publish(&Event::fill(1, "e-2", position(800, 2)));
    // More pushes than the pool has connections: a hung connection is not waited for.
    for _ in 0..5 {
        let answer = push.to(&url(&receiver)).await;
        assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("1")), "{answer:?}");
    }
    eventually("unready", || async { receiver.get("/ops/v1/ready").await.0 == 503 }).await;
    let (_, reason) = receiver.get("/ops/v1/ready").await;
    assert_eq!(reason["reason"], "database does not answer");
    eventually("the stream is left", || async { receiver.service.status.last_stop() == Some(StopReason::StoreFailed) })
        .await;
    wire.freeze(false);
    eventually("ready", || async { receiver.get("/ops/v1/ready").await.0 == 200 }).await;
    eventually("the push", || async { push.to(&url(&receiver)).await.status == 200 }).await;
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn what_a_failed_over_database_has_lost_is_stored_again_although_it_is_remembered() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish_all(&[Event::fill(1, "e-1", position(2000, 1)), Event::fill(1, "e-2", position(1000, 2))]);
    world.logged(2).await;
    // The cursor is where it was: only the connections tell that something happened.
    sqlx::raw_sql(
        "begin; truncate repeats, broker_events, broker_orders, event_log;
         update event_heads set seq = 0, event_id = null; commit;
         select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()",
    )
    .execute(world.pool())
    .await
    .unwrap();
    world.broker.publish(&Event::fill(1, "e-3", position(500, 3)));
    eventually("all three", || async {
        let count = sqlx::query_scalar::<_, i64>("select count(*) from event_log").fetch_one(world.pool()).await;
        count.is_ok_and(|count| count == 3)
    })
    .await;
    receiver.stop().await;
}
