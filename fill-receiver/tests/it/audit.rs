//! How far the stream was read a second time, over restarts, and what could not be.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};
use fill_receiver::adapters::db::PgStore;
use fill_receiver::application::ports::{AuditMove, EventStore, StoreError};
use fill_receiver::domain::cumulative::ExecutionsShown;
use fill_receiver::domain::cursor::{Cursor, CursorMove};
use fill_receiver::domain::identity::ExecutionScope;
use fill_receiver::domain::reading::BrokerProfile;
use serde_json::json;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

async fn audited_before(world: &World, age_ms: u64) {
    sqlx::query("update streams set audited = $1")
        .bind(position(age_ms, 0).to_string())
        .execute(world.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_restart_audits_from_where_the_last_run_came_to() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    receiver.stop().await;
    // Five minutes ago, far before what a connection replays; the last audit came to ten minutes ago.
    world.broker.lose(&Event::fill(1, "e-2", position(300_000, 2)));
    audited_before(&world, 600_000).await;
    let mut settings = world.settings();
    settings.audit.interval_ms = 50;
    settings.audit.stretch_max_ms = 120_000;
    let receiver = world.receiver_with(settings).await;
    world.logged(2).await;
    eventually("the audit to come to now", || async {
        let audited: String = sqlx::query_scalar("select audited from streams").fetch_one(world.pool()).await.unwrap();
        audited > position(10_000, 0).to_string()
    })
    .await;
    assert_eq!(world.count("select count(*) from unproven_ranges").await, 0);
    receiver.stop().await;
}

#[tokio::test]
async fn a_stretch_that_cannot_be_audited_becomes_one_unproven_range() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    receiver.stop().await;
    audited_before(&world, 600_000).await;
    world.broker.forget_before(position(250_000, 0));
    let mut settings = world.settings();
    settings.audit.interval_ms = 50;
    settings.audit.stretch_max_ms = 100_000;
    let receiver = world.receiver_with(settings).await;
    let open = "select count(*) from unproven_ranges where closed_at is null";
    eventually("the audit to come to now", || async {
        let audited: String = sqlx::query_scalar("select audited from streams").fetch_one(world.pool()).await.unwrap();
        audited > position(10_000, 0).to_string()
    })
    .await;
    assert_eq!(world.count(open).await, 1, "stretches that touch are one range");
    let (_, body) = receiver.get("/ops/v1/unproven").await;
    let range = &body["unproven"][0];
    assert_eq!(range["reason"], "audit: replay refused");
    let age_ms = |field: &str| {
        let cursor = Cursor::parse(range[field].as_str().unwrap()).unwrap();
        position(0, 0).timestamp_ms() - cursor.unix_ms()
    };
    assert!(age_ms("from_cursor") >= 600_000 && age_ms("to_cursor") < 310_000, "{range}");
    receiver.stop().await;
}

fn store(world: &World) -> PgStore {
    let broker = contracts::BrokerId::new("sim").unwrap();
    let profile =
        BrokerProfile { broker, execution_scope: ExecutionScope::Broker, executions: ExecutionsShown::Single };
    PgStore::new(world.pool().clone(), profile, "trades".to_owned(), Uuid::now_v7(), 1000, Duration::from_secs(10))
}

fn cursor(age_ms: u64) -> Cursor {
    Cursor::parse(&position(age_ms, 0).to_string()).unwrap()
}

#[tokio::test]
async fn overlapping_ranges_are_one_and_a_closed_range_hides_no_new_loss() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let store = store(&world);
    let now = OffsetDateTime::now_utc();
    let at = [cursor(9_000), cursor(8_000), cursor(7_000), cursor(6_000), cursor(5_000), cursor(4_000)];
    let stored = store.open_stream(at[0], now).await.unwrap().cursor;
    let still = CursorMove { from: stored, to: stored };
    let record = async |from: Cursor, to: Cursor| store.record_unproven(still, (from, to), "test", now).await.unwrap();
    record(at[0], at[1]).await;
    record(at[4], at[5]).await;
    let first = receiver.get("/ops/v1/unproven").await.1["unproven"][0].clone();
    assert_eq!(first["to_cursor"], json!(at[1].to_string()));
    // It bridges both: one range from the first's start to the second's end.
    record(at[1], at[4]).await;
    let (_, body) = receiver.get("/ops/v1/unproven").await;
    assert_eq!(body["unproven"].as_array().unwrap().len(), 1, "{body}");
    let range = &body["unproven"][0];
    assert_eq!((&range["from_cursor"], &range["to_cursor"]), (&json!(at[0].to_string()), &json!(at[5].to_string())));
    let path = format!("/ops/v1/unproven/{}/close", range["id"]);
    let close = |to: &serde_json::Value| {
        json!({"from_cursor": range["from_cursor"], "to_cursor": to, "why": "statement of the broker compared",
               "evidence": "statement 2026-04-12, page 3"})
    };
    // What was seen before it grew closes nothing.
    assert_eq!(receiver.send(&path, close(&first["to_cursor"])).await.0, 409);
    assert_eq!(receiver.send(&path, json!({"by": "ann"})).await.0, 400);
    let mut as_bob = close(&range["to_cursor"]);
    as_bob["by"] = json!("bob");
    assert_eq!(receiver.send(&path, as_bob).await.0, 400, "another's name with one's own token");
    assert_eq!(receiver.send(&path, close(&range["to_cursor"])).await.1["result"], "closed");
    assert_eq!(receiver.send(&path, close(&range["to_cursor"])).await.1["result"], "already_closed");
    assert_eq!(receiver.send("/ops/v1/unproven/999999/close", close(&range["to_cursor"])).await.0, 404);
    let (_, closed) = receiver.get("/ops/v1/unproven?closed=true").await;
    let closed_by: Vec<_> = closed["unproven"].as_array().unwrap().iter().map(|r| &r["closed_by"]).collect();
    assert_eq!(closed_by, ["ann", "fill-receiver"]);
    // The same stretch lost again is a range of its own.
    record(at[0], at[1]).await;
    assert_eq!(receiver.get("/ops/v1/unproven").await.1["unproven"].as_array().unwrap().len(), 1);
    receiver.stop().await;
}

#[tokio::test]
async fn of_two_auditors_only_one_moves_the_position() {
    let world = World::new().await;
    let store = store(&world);
    let now = OffsetDateTime::now_utc();
    store.open_stream(cursor(9_000), now).await.unwrap();
    let first = AuditMove { from: None, to: cursor(8_000) };
    store.record_audited(first, None, now).await.unwrap();
    let lost = store.record_audited(AuditMove { from: None, to: cursor(1_000) }, Some("x"), now).await;
    assert!(matches!(lost, Err(StoreError::CursorLost)), "{lost:?}");
    let next = AuditMove { from: Some(first.to), to: cursor(7_000) };
    store.record_audited(next, Some("refused"), now).await.unwrap();
    assert_eq!(store.open_stream(cursor(0), now).await.unwrap().audited, Some(next.to));
    assert_eq!(world.count("select count(*) from unproven_ranges").await, 1);
}

#[tokio::test]
async fn a_suspect_is_closed_by_a_person_with_a_reason_and_counts_no_longer() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.watch.count_interval_ms = 20;
    let receiver = world.receiver_with(settings).await;
    let fill = Event::fill(1, "e-1", position(900, 1));
    let other = Event::fill(1, "e-1", position(800, 2)).with("price", json!("1.00"));
    world.broker.publish_all(&[fill, other]);
    eventually("the suspect", || async { world.count("select count(*) from suspects").await == 1 }).await;
    let id = receiver.get("/ops/v1/suspects").await.1["suspects"][0]["id"].clone();
    let path = format!("/ops/v1/suspects/{id}/close");
    let body = json!({"by": "ann", "why": "the broker corrected its price", "evidence": "mail of 12 April"});
    assert_eq!(receiver.send(&path, json!({"why": " ", "evidence": "x"})).await.0, 400);
    assert_eq!(receiver.send_as("ops", &path, body.clone()).await.0, 400, "a name with the token that all may know");
    assert_eq!(receiver.send_as("wrong", &path, body.clone()).await.0, 401);
    assert_eq!(world.count("select count(*) from suspects where closed_at is null").await, 1);
    assert_eq!(receiver.send(&path, body.clone()).await.1["result"], "closed");
    assert_eq!(receiver.send(&path, body).await.1["result"], "already_closed");
    assert!(receiver.get("/ops/v1/suspects").await.1["suspects"].as_array().unwrap().is_empty());
    let (_, closed) = receiver.get("/ops/v1/suspects?closed=true").await;
    assert_eq!(closed["suspects"][0]["closed_why"], "the broker corrected its price");
    assert_eq!(closed["suspects"][0]["closed_by"], "ann", "whose token it was");
    receiver.stop().await;
}
