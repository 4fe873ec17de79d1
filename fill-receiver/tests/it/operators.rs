//! The operator's port.

use crate::broker::{Event, broker_order, key, position};
use crate::harness::World;
use serde_json::json;

#[tokio::test]
async fn the_story_of_an_order_is_found_by_each_of_its_names() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish_all(&[
        Event::new("new", 4, position(900, 1)),
        Event::fill(4, "e-1", position(800, 2)),
        Event::fill(5, "e-2", position(700, 3)),
    ]);
    world.logged(3).await;
    let names = ["e-1".to_owned(), broker_order(4), key(4).order_id().to_string()];
    for name in names {
        let (status, story) = receiver.get(&format!("/ops/v1/events/{name}")).await;
        assert_eq!(status, 200, "{name}");
        assert_eq!(story["broker_orders"][0]["broker_order_id"], json!(broker_order(4)), "{name}");
        let kinds: Vec<_> = story["facts"].as_array().unwrap().iter().map(|fact| &fact["kind"]).collect();
        assert_eq!(kinds, ["state", "fill"], "{name}");
        assert_eq!(story["log"].as_array().unwrap().len(), 2, "{name}");
        assert_eq!(story["log"][1]["payload"]["price"], "187.12", "{name}");
    }
    assert_eq!(receiver.get("/ops/v1/events/unknown").await.0, 404);
    receiver.stop().await;
}

#[tokio::test]
async fn health_tells_the_streams_state_and_needs_no_token_but_records_do() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let last = position(500, 1);
    world.broker.publish(&Event::fill(1, "e-1", last));
    world.logged(1).await;
    crate::harness::eventually("health to follow", || async {
        let (_, health) = receiver.call(reqwest::Method::GET, "/ops/v1/health", "").await;
        health["stream_status"]["cursor"] == json!(last.to_string())
    })
    .await;
    let (status, health) = receiver.call(reqwest::Method::GET, "/ops/v1/health", "").await;
    assert_eq!((status, &health["stream_status"]["state"]), (200, &json!("connected")));
    assert!(health["stream_status"]["last_event_age_ms"].is_i64(), "{health}");
    for path in ["/ops/v1/parked", "/ops/v1/suspects", "/ops/v1/unproven", "/ops/v1/events/e-1"] {
        assert_eq!(receiver.call(reqwest::Method::GET, path, "wrong").await.0, 401, "{path}");
        assert_ne!(receiver.get(path).await.0, 401, "{path}");
    }
    assert_eq!(receiver.get("/ops/v1/parked?limit=0").await.0, 400);
    assert_eq!(receiver.get("/feed/heads").await.0, 401, "the operator's token is not the peers'");
    let (_, metrics) = receiver.call(reqwest::Method::GET, "/metrics", "").await;
    assert!(metrics.as_str().unwrap().contains("fill_receiver_events_total"), "{metrics}");
    receiver.stop().await;
}
