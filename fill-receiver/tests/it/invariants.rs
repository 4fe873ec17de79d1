//! Planted violations show in health and as a metric.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};

#[tokio::test]
async fn a_planted_violation_shows_in_health_and_as_a_metric() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.watch.invariant_interval_ms = 10;
    let receiver = world.receiver_with(settings).await;
    let events: Vec<Event> = (0..5).map(|n| Event::fill(n, &format!("e-{n}"), position(500, n))).collect();
    world.broker.publish_all(&events);
    world.logged(5).await;
    let report = async || receiver.get("/ops/v1/health").await.1;
    eventually("a walk over all", || async { report().await["invariants"]["complete_walks"].as_u64() > Some(0) }).await;
    assert_eq!(report().await["degraded"], serde_json::json!([]));
    for (name, sql) in [
        ("I3: stored_event_is_logged", "update event_log set event_id = gen_random_uuid() where seq = 1"),
        (
            "I3: nothing_is_parked",
            "insert into parked (broker, raw_sha256, body, reason, detail, parked_at)
            values ('b', sha256(''), '', 'malformed', '', now())",
        ),
        ("I2: order_has_one_broker_order", "update broker_events set broker_order_id = 'another'"),
        ("I8: log_is_gapless", "update event_heads set seq = seq + 1"),
    ] {
        sqlx::query(sql).execute(world.pool()).await.unwrap();
        eventually(name, || async {
            let report = report().await;
            report["degraded"].as_array().unwrap().iter().any(|text| text.as_str().unwrap().contains(name))
        })
        .await;
    }
    let (_, metrics) = receiver.get("/metrics").await;
    let line = "invariant_violations{service=\"fill-receiver\",invariant=\"I3\",check=\"nothing_is_parked\"} ";
    assert!(metrics.as_str().unwrap().contains(line), "{metrics}");
    receiver.stop().await;
}
