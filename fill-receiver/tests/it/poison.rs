//! What cannot become an event is parked, and what follows goes on.

use crate::broker::{Event, key, position};
use crate::harness::World;
use serde_json::{Value, json};

async fn parked(world: &World) -> Vec<(i64, String)> {
    sqlx::query_as("select id, reason from parked where settled_at is null order by id")
        .fetch_all(world.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn poison_is_parked_with_its_bytes_and_later_events_go_on() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish_raw(position(1000, 1), b"{\"event_id\": \"nonsense\", \xff\x00");
    world.broker.publish(&Event::fill(1, "e-1", position(900, 2)).with("qty", json!("-1")));
    let last = position(800, 3);
    world.broker.publish(&Event::fill(1, "e-2", last));
    world.logged(1).await;
    assert_eq!(world.cursor().await, last.to_string());
    let reasons: Vec<String> = parked(&world).await.into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["malformed", "out_of_range"]);
    let (status, body) = receiver.get("/ops/v1/parked").await;
    assert_eq!(status, 200);
    assert!(body["parked"][0]["body"].as_str().unwrap().starts_with("{\"event_id\": \"nonsense\""));
    // A replay brings them again, and they stay parked once.
    world.broker.reset();
    receiver.connections(2).await;
    world.broker.publish(&Event::fill(1, "e-3", position(100, 4)));
    world.logged(2).await;
    assert_eq!(parked(&world).await.len(), 2);
    receiver.stop().await;
}

#[tokio::test]
async fn poison_alone_in_its_batch_is_parked_at_its_own_position() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let place = position(1000, 1);
    let mut event = Event::new("new", 1, place);
    event.json["order"] = Value::Null;
    world.broker.publish(&event);
    crate::harness::eventually("parking", || async { parked(&world).await.len() == 1 }).await;
    assert_eq!(world.cursor().await, place.to_string());
    receiver.stop().await;
}

#[tokio::test]
async fn a_broker_order_that_changes_its_name_is_parked_for_a_person() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::new("new", 1, position(1000, 1)));
    world.logged(1).await;
    world.broker.publish_all(&[
        Event::fill(1, "e-1", position(900, 2)).named(json!(key(2).to_string())),
        Event::fill(1, "e-2", position(800, 3)),
    ]);
    world.logged(2).await;
    assert_eq!(parked(&world).await[0].1, "identity_conflict");
    receiver.stop().await;
}

#[tokio::test]
async fn an_event_that_the_database_refuses_is_parked_alone() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    sqlx::query(
        "alter table broker_events add constraint no_bad check (position(convert_to('e-bad', 'UTF8') in body) = 0)",
    )
    .execute(world.pool())
    .await
    .unwrap();
    world.broker.publish_all(&[
        Event::fill(1, "e-1", position(1000, 1)),
        Event::fill(2, "e-bad", position(900, 2)),
        Event::fill(3, "e-3", position(800, 3)),
    ]);
    world.logged(2).await;
    assert_eq!(parked(&world).await[0].1, "unstorable");
    // What changed may be tried again.
    sqlx::query("alter table broker_events drop constraint no_bad").execute(world.pool()).await.unwrap();
    let id = parked(&world).await[0].0;
    let (status, body) = receiver.post(&format!("/ops/v1/parked/{id}/redrive")).await;
    assert_eq!((status, &body["result"], &body["logged"]), (200, &json!("settled"), &json!(1)));
    world.logged(3).await;
    let (_, body) = receiver.post(&format!("/ops/v1/parked/{id}/redrive")).await;
    assert_eq!(body["result"], "already_settled");
    world.logged(3).await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_redrive_of_what_still_is_poison_says_why_and_changes_nothing() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let cursor = position(900, 1);
    world.broker.publish(&Event::fill(1, "e-1", cursor).with("price", Value::Null));
    crate::harness::eventually("parking", || async { parked(&world).await.len() == 1 }).await;
    let id = parked(&world).await[0].0;
    let (status, body) = receiver.post(&format!("/ops/v1/parked/{id}/redrive")).await;
    assert_eq!((status, &body["code"]), (422, &json!(42_210_000)));
    assert!(body["message"].as_str().unwrap().contains("price"), "{body}");
    assert_eq!(parked(&world).await.len(), 1);
    assert_eq!(world.log().await.len(), 0);
    assert_eq!(receiver.post("/ops/v1/parked/999999/redrive").await.0, 404);
    receiver.stop().await;
}
