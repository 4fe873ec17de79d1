//! Delivery: each event once, in order, over the bus or from the feed.

use crate::world::{FeedServer, PATIENCE, Reader, bus_config, commit, database, partition, publisher};
use platform::consumer::Mode;
use platform::testing::{TestRedis, eventually};
use std::sync::atomic::Ordering;

#[tokio::test]
async fn events_reach_the_consumer_over_the_bus_in_order_and_once() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    // The very first event of a partition comes from the feed.
    let mut sent: Vec<Vec<_>> = vec![Vec::new(); 16];
    for number in 0..16_i16 {
        let first = commit(&log.pool, partition(number), 1).await;
        publisher.committed(first.clone());
        assert!(reader.has_exactly(partition(number), &first).await, "partition {number}");
        sent[usize::try_from(number).unwrap()].extend(first);
    }
    for round in 0..20 {
        for number in 0..16_i16 {
            let events = commit(&log.pool, partition(number), 1 + round % 3).await;
            publisher.committed(events.clone());
            sent[usize::try_from(number).unwrap()].extend(events);
        }
    }
    for (number, expected) in sent.iter().enumerate() {
        let number = i16::try_from(number).unwrap();
        assert!(reader.has_exactly(partition(number), expected).await, "partition {number}");
    }
    // How much came over the bus depends on the machine's load: a late entry is fetched from the feed.
    assert!(running.reaches(Mode::Bus).await);
}

#[tokio::test]
async fn the_bus_alone_delivers_while_the_producer_is_away() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, stop) = publisher(&log.pool, redis.config(), bus_config());
    let mut sent = commit(&log.pool, partition(5), 1).await;
    publisher.committed(sent.clone());
    let before = reader.run(redis.config(), feed.client());
    assert!(reader.has_exactly(partition(5), &sent).await);
    drop(before);
    let unread = commit(&log.pool, partition(5), 3).await;
    publisher.committed(unread.clone());
    sent.extend(unread);
    drop(stop);
    feed.set_down(true);
    let running = reader.run(redis.config(), feed.client());
    assert!(reader.has_exactly(partition(5), &sent).await);
    assert!(running.reaches(Mode::Polling).await, "nobody announces heads");
    assert!(!running.snapshot().feed_reachable);
}

#[tokio::test]
async fn a_lost_bus_entry_is_fetched_from_the_feed() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    let mut sent = commit(&log.pool, partition(5), 2).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(5), &sent).await);
    sent.extend(commit(&log.pool, partition(5), 1).await);
    let next = commit(&log.pool, partition(5), 2).await;
    publisher.committed(next.clone());
    sent.extend(next);
    assert!(reader.has_exactly(partition(5), &sent).await);
    assert!(feed.reads() > 0);
    assert!(running.reaches(Mode::Bus).await, "a hole does not leave the bus for good");
}

#[tokio::test]
async fn a_lost_last_event_is_noticed_through_the_heads() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (_publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    assert!(running.reaches(Mode::Bus).await);
    let never_published = commit(&log.pool, partition(11), 1).await;
    assert!(reader.has_exactly(partition(11), &never_published).await);
}

#[tokio::test]
async fn a_long_hole_is_filled_in_many_reads() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let mut sent = commit(&log.pool, partition(0), 1800).await;
    let last = commit(&log.pool, partition(0), 1).await;
    publisher.committed(last.clone());
    sent.extend(last);
    let _running = reader.run(redis.config(), feed.client());
    assert!(reader.has_exactly(partition(0), &sent).await);
}

#[tokio::test]
async fn two_consumers_on_one_partition_apply_each_event_once() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let copies = [reader.run(redis.config(), feed.client()), reader.run(redis.config(), feed.client())];
    let mut sent = Vec::new();
    for _ in 0..100 {
        let events = commit(&log.pool, partition(8), 2).await;
        publisher.committed(events.clone());
        sent.extend(events);
    }
    assert!(reader.has_exactly(partition(8), &sent).await);
    for copy in &copies {
        let both_know = || copy.snapshot().partitions[&partition(8)].applied == 200;
        assert!(eventually(PATIENCE, || async { both_know() }).await);
        assert!(!copy.snapshot().is_stopped());
    }
}

#[tokio::test]
async fn a_consumer_started_again_goes_on_where_its_database_stands() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let mut sent = Vec::new();
    for _ in 0..5 {
        let running = reader.run(redis.config(), feed.client());
        let events = commit(&log.pool, partition(8), 7).await;
        publisher.committed(events.clone());
        sent.extend(events);
        assert!(reader.has_exactly(partition(8), &sent).await);
        drop(running);
    }
}

#[tokio::test]
async fn infrastructure_errors_and_panics_are_retried_until_the_events_take_effect() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    reader.sink.failures.store(5, Ordering::SeqCst);
    reader.sink.panics.store(2, Ordering::SeqCst);
    let running = reader.run(redis.config(), feed.client());
    let sent = commit(&log.pool, partition(1), 3).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(1), &sent).await);
    assert_eq!(reader.sink.failures.load(Ordering::SeqCst), 0);
    assert_eq!(reader.sink.panics.load(Ordering::SeqCst), 0);
    assert!(running.snapshot().last_error.is_some());
}

#[tokio::test]
async fn a_partition_in_trouble_does_not_hold_up_the_others() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let _running = reader.run(redis.config(), feed.client());
    let mut sent = commit(&log.pool, partition(3), 1).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(3), &sent).await);
    // The next event of partition 2 is not on the bus, and the feed does not answer.
    feed.set_down(true);
    commit(&log.pool, partition(2), 1).await;
    publisher.committed(commit(&log.pool, partition(2), 1).await);
    let more = commit(&log.pool, partition(3), 5).await;
    publisher.committed(more.clone());
    sent.extend(more);
    assert!(reader.has_exactly(partition(3), &sent).await);
    assert!(reader.effects(partition(2)).await.is_empty(), "a hole is never skipped");
    feed.set_down(false);
    assert!(eventually(PATIENCE, || async { reader.effects(partition(2)).await.len() == 2 }).await);
}
