//! Redis stopped, emptied, frozen, or never there: nothing is lost, and the bus is used again.

use crate::world::{FeedServer, PATIENCE, Reader, bus_config, commit, database, partition, publisher};
use contracts::event::Envelope;
use platform::consumer::Mode;
use platform::testing::{TestRedis, eventually};

#[tokio::test]
async fn redis_stopped_means_polling_and_started_again_means_the_bus() {
    let (log, reader, mut redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    let mut sent = commit(&log.pool, partition(4), 2).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(4), &sent).await);

    redis.stop();
    assert!(running.reaches(Mode::Polling).await);
    let events = commit(&log.pool, partition(4), 2).await;
    publisher.committed(events.clone());
    sent.extend(events);
    assert!(reader.has_exactly(partition(4), &sent).await);

    redis.start_again();
    assert!(running.reaches(Mode::Bus).await);
    assert!(brings_by_bus(&log.pool, &publisher, &feed, &reader, &mut sent).await);
}

#[tokio::test]
async fn redis_restarted_empty_loses_nothing() {
    let (log, reader, mut redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    let mut sent = Vec::new();
    for round in 0..60 {
        let events = commit(&log.pool, partition(4), 3).await;
        publisher.committed(events.clone());
        sent.extend(events);
        if round % 20 == 10 {
            redis.start_again();
        }
    }
    assert!(reader.has_exactly(partition(4), &sent).await);
    assert!(running.reaches(Mode::Bus).await);
    assert!(!running.snapshot().is_stopped());
}

#[tokio::test]
async fn a_frozen_redis_means_polling_and_heals() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    assert!(running.reaches(Mode::Bus).await);
    redis.pause();
    let mut sent = commit(&log.pool, partition(4), 2).await;
    publisher.committed(sent.clone());
    assert!(running.reaches(Mode::Polling).await);
    assert!(reader.has_exactly(partition(4), &sent).await);
    redis.resume();
    assert!(running.reaches(Mode::Bus).await);
    assert!(brings_by_bus(&log.pool, &publisher, &feed, &reader, &mut sent).await);
}

#[tokio::test]
async fn everything_starts_without_redis_and_uses_it_once_it_is_there() {
    let (log, reader, mut redis) = (database().await, Reader::create().await, TestRedis::start());
    redis.stop();
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    let mut sent = commit(&log.pool, partition(4), 2).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(4), &sent).await);
    assert_eq!(running.snapshot().mode, Mode::Polling);
    redis.start_again();
    assert!(running.reaches(Mode::Bus).await);
    assert!(brings_by_bus(&log.pool, &publisher, &feed, &reader, &mut sent).await);
}

#[tokio::test]
async fn redis_and_feed_away_together_delay_events_and_lose_none() {
    let (log, reader, mut redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    assert!(running.reaches(Mode::Bus).await);
    redis.stop();
    feed.set_down(true);
    let sent = commit(&log.pool, partition(4), 5).await;
    publisher.committed(sent.clone());
    let both_gone = || running.snapshot().mode == Mode::Polling && !running.snapshot().feed_reachable;
    assert!(eventually(PATIENCE, || async { both_gone() }).await);
    assert!(reader.effects(partition(4)).await.is_empty());
    feed.set_down(false);
    assert!(reader.has_exactly(partition(4), &sent).await);
    assert!(eventually(PATIENCE, || async { running.snapshot().feed_reachable }).await);
}

/// Whether new events arrive again without a read of the feed. The publisher may still be finding
/// out that the bus is back, so this is tried until one round needs none.
async fn brings_by_bus(
    log: &sqlx::PgPool,
    publisher: &platform::bus::Publisher,
    feed: &FeedServer,
    reader: &Reader,
    sent: &mut Vec<Envelope>,
) -> bool {
    for _ in 0..50 {
        let reads_before = feed.reads();
        let events = commit(log, partition(4), 2).await;
        publisher.committed(events.clone());
        sent.extend(events);
        assert!(reader.has_exactly(partition(4), sent).await);
        if feed.reads() == reads_before {
            return true;
        }
    }
    false
}
