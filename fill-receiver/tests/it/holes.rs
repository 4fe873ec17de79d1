//! Nothing is stored past a hole, and every hole is replayed.

use crate::broker::{Event, position};
use crate::harness::{World, eventually};
use fill_receiver::domain::intake::StopReason;

const DROPPED: &[u8] = b": you are reading too slowly, dropped 2 messages\n\n";

#[tokio::test]
async fn dropped_messages_force_a_replay_from_before_the_cursor() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let first = position(1000, 1);
    world.broker.publish(&Event::fill(1, "e-1", first));
    world.logged(1).await;
    world.broker.lose(&Event::fill(1, "e-2", position(900, 2)));
    world.broker.lose(&Event::fill(1, "e-3", position(800, 3)));
    world.broker.inject(DROPPED);
    world.logged(3).await;
    assert_eq!(receiver.service.status.last_stop(), Some(StopReason::Dropped));
    let again = world.broker.connects()[1].since;
    assert_eq!(again.timestamp_ms(), first.timestamp_ms() - 120_000);
    receiver.stop().await;
}

#[tokio::test]
async fn what_arrives_together_with_news_of_a_hole_is_not_stored_and_moves_no_cursor() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let first = position(1000, 1);
    world.broker.publish(&Event::fill(1, "e-1", first));
    world.logged(1).await;
    for bad in [DROPPED, b": internal server error\n\n", b"torn half of a line\n\n"] {
        world.broker.refuse_all(true);
        world.broker.inject_event_and(&Event::fill(1, "e-9", position(100, 9)), bad);
        let refused = world.broker.connects().len();
        eventually("the connection is left", || async { world.broker.connects().len() > refused + 1 }).await;
        assert_eq!(world.cursor().await, first.to_string());
        assert_eq!(world.log().await.len(), 1);
        world.broker.refuse_all(false);
        eventually("connected again", || async { world.broker.open() == 1 }).await;
    }
    world.broker.publish(&Event::fill(1, "e-2", position(50, 2)));
    world.logged(2).await;
    receiver.stop().await;
}

#[tokio::test]
async fn silence_longer_than_a_heartbeat_takes_reconnects() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.stream.silence_deadline_ms = 300;
    let receiver = world.receiver_with(settings).await;
    world.broker.silence(true);
    world.broker.lose(&Event::fill(1, "e-1", position(500, 1)));
    world.logged(1).await;
    assert_eq!(receiver.service.status.last_stop(), Some(StopReason::Silence));
    receiver.stop().await;
}

#[tokio::test]
async fn heartbeats_alone_keep_a_connection() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.stream.silence_deadline_ms = 500;
    settings.stream.alive_interval_ms = 100;
    let receiver = world.receiver_with(settings).await;
    let before = "select count(*) from streams where alive_at > moved_at + interval '1 second'";
    eventually("the stream was noted alive for longer than the deadline", || async { world.count(before).await == 1 })
        .await;
    assert_eq!(receiver.service.status.connections(), 1);
    receiver.stop().await;
}

#[tokio::test]
async fn an_oversize_frame_is_refused_and_the_rest_of_its_connection_with_it() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.stream.frame_bytes_max = 4096;
    let receiver = world.receiver_with(settings).await;
    let mut bad = b"data: ".to_vec();
    bad.extend(std::iter::repeat_n(b'x', 5000));
    bad.extend_from_slice(b"\n\n");
    world.broker.inject_event_and(&Event::fill(1, "e-1", position(900, 1)), &bad);
    receiver.connections(2).await;
    assert_eq!(receiver.service.status.last_stop(), Some(StopReason::BadFraming));
    world.broker.publish(&Event::fill(1, "e-2", position(800, 2)));
    world.logged(1).await;
    receiver.stop().await;
}

#[tokio::test]
async fn an_event_that_a_live_stream_lost_without_a_word_is_found_by_the_audit() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.audit.interval_ms = 600;
    settings.audit.lag_ms = 50;
    let receiver = world.receiver_with(settings).await;
    world.broker.publish(&Event::fill(1, "e-1", position(0, 1)));
    world.logged(1).await;
    let cursor = world.cursor().await;
    world.broker.lose(&Event::fill(1, "e-2", position(0, 2)));
    world.logged(2).await;
    assert_eq!(receiver.service.status.connections(), 1, "the stream itself was not left");
    assert_eq!(world.cursor().await, cursor, "an audit moves no cursor");
    receiver.stop().await;
}
