//! Resuming: from before the cursor, over siblings of a millisecond, and past what is gone.

use crate::broker::{Event, position};
use crate::harness::{World, eventually, start};
use fill_receiver::domain::intake::StopReason;
use ulid::Ulid;

#[tokio::test]
async fn a_sibling_in_the_cursors_millisecond_with_a_smaller_random_part_is_not_skipped() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let last = position(500, 900);
    world.broker.publish(&Event::fill(1, "e-1", last));
    world.logged(1).await;
    world.broker.lose(&Event::fill(1, "e-2", Ulid::from_parts(last.timestamp_ms(), 100)));
    world.broker.lose(&Event::fill(1, "e-3", Ulid::from_parts(last.timestamp_ms() - 50, 1)));
    world.broker.reset();
    world.logged(3).await;
    assert_eq!(receiver.service.status.last_stop(), Some(StopReason::Broken));
    assert_eq!(world.cursor().await, last.to_string(), "an older event does not move the cursor back");
    receiver.stop().await;
}

#[tokio::test]
async fn what_happened_while_the_receiver_was_away_is_replayed_and_the_rest_is_not_logged_again() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let events: Vec<Event> =
        (0..40).map(|n| Event::fill(n % 5, &format!("e-{n}"), position(2000 - n as u64, n))).collect();
    world.broker.publish_all(&events[..20]);
    world.logged(20).await;
    receiver.stop().await;
    assert_eq!(world.count("select count(*) from stream_leases").await, 0, "the lease is given up");
    world.broker.publish_all(&events[20..]);
    let receiver = world.receiver().await;
    world.logged(40).await;
    receiver.stop().await;
}

#[tokio::test]
async fn an_outage_longer_than_the_replay_is_recorded_and_reading_goes_on() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    receiver.stop().await;
    // The broker forgets everything up to just now, the receiver was away for ten minutes.
    let kept = position(60_000, 0);
    world.broker.forget_before(kept);
    let old = position(600_000, 0);
    sqlx::query("update streams set cursor = $1, alive_at = now() - interval '11 minutes'")
        .bind(old.to_string())
        .execute(world.pool())
        .await
        .unwrap();
    let receiver = world.receiver().await;
    let (_, body) = receiver.get("/ops/v1/unproven").await;
    let range = &body["unproven"][0];
    assert_eq!(range["reason"], "replay refused");
    assert_eq!(range["from_cursor"], Ulid::from_parts(old.timestamp_ms() - 120_000, 0).to_string());
    assert!(range["to_cursor"].as_str().unwrap() >= kept.to_string().as_str());
    world.broker.publish(&Event::fill(1, "e-2", position(0, 2)));
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn a_broker_that_refuses_everything_proves_no_loss() {
    let world = World::new().await;
    let settings = world.settings();
    world.broker.forget_before(Ulid::max());
    let receiver = start(settings).await;
    eventually("several rounds", || async { world.broker.connects().len() > 8 }).await;
    assert_eq!(world.count("select count(*) from unproven_ranges").await, 0);
    let (status, body) = receiver.get("/ops/v1/ready").await;
    assert_eq!(status, 503, "{body}");
    receiver.stop().await;
}

#[tokio::test]
async fn one_position_far_in_the_future_does_not_drag_the_cursor_along() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let now = position(0, 1);
    let far = Ulid::from_parts(now.timestamp_ms() + 86_400_000, 1);
    let last = position(0, 2);
    world.broker.publish_all(&[Event::fill(1, "e-1", far), Event::fill(1, "e-2", last)]);
    world.logged(2).await;
    assert_eq!(world.cursor().await, last.to_string());
    receiver.stop().await;
}

#[tokio::test]
async fn a_database_that_was_set_back_is_filled_again_from_the_replay() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let first = position(2000, 1);
    world.broker.publish_all(&[Event::fill(1, "e-1", first), Event::fill(1, "e-2", position(1000, 2))]);
    world.logged(2).await;
    // As a restore from a backup: the cursor is older, and what came after is gone.
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
        "begin; truncate repeats, broker_events, broker_orders, event_log;
         update event_heads set seq = 0, event_id = null;
         update streams set cursor = '{first}'; commit;"
    )))
    .execute(world.pool())
    .await
    .unwrap();
    world.broker.publish(&Event::fill(1, "e-3", position(500, 3)));
    world.logged(3).await;
    receiver.stop().await;
}
