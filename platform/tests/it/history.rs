//! A log that is not the one that was applied stops its partition, and is never skipped over.

use crate::world::{FeedServer, PRODUCER, Reader, bus_config, commit, database, look_into, partition, publisher};
use contracts::Partition;
use platform::consumer::Mode;
use platform::keys;
use platform::testing::TestRedis;
use redis::AsyncCommands;
use sqlx::PgPool;

/// What a restore from an older backup does to a log.
async fn lose_tail(log: &PgPool, partition: Partition, last_kept: i64) {
    let mut tx = log.begin().await.unwrap();
    sqlx::query("delete from event_log where partition = $1 and seq > $2")
        .bind(partition.number())
        .bind(last_kept)
        .execute(&mut *tx)
        .await
        .unwrap();
    sqlx::query(
        "update event_heads set seq = $2,
         event_id = (select event_id from event_log where partition = $1 and seq = $2) where partition = $1",
    )
    .bind(partition.number())
    .bind(last_kept)
    .execute(&mut *tx)
    .await
    .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_feed_that_ends_below_the_applied_position_stops_the_partition() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let running = reader.run(redis.config(), feed.client());
    let sent = commit(&log.pool, partition(6), 5).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(6), &sent).await);

    lose_tail(&log.pool, partition(6), 3).await;
    let reason = running.stops(partition(6)).await;
    assert!(reason.contains("ends at 3"), "{reason}");
    assert!(running.snapshot().is_stopped());

    // The numbers are used again; the new events must not count as already applied, nor be applied
    // on top of the lost ones.
    publisher.committed(commit(&log.pool, partition(6), 4).await);
    let others = commit(&log.pool, partition(7), 2).await;
    publisher.committed(others.clone());
    assert!(reader.has_exactly(partition(7), &others).await, "other partitions go on");
    assert!(reader.has_exactly(partition(6), &sent).await);
}

#[tokio::test]
async fn a_history_mismatch_stops_the_partition_and_never_skips() {
    let (log, reader, mut redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let sent = {
        let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
        let running = reader.run(redis.config(), feed.client());
        let sent = commit(&log.pool, partition(6), 5).await;
        publisher.committed(sent.clone());
        assert!(reader.has_exactly(partition(6), &sent).await);
        drop(running);
        sent
    };
    // While the consumer is away the log loses two events and grows past our position: only the
    // predecessor shows it.
    lose_tail(&log.pool, partition(6), 3).await;
    commit(&log.pool, partition(6), 6).await;
    for with_bus in [true, false] {
        if !with_bus {
            redis.stop();
        }
        let (_publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
        let running = reader.run(redis.config(), feed.client());
        let reason = running.stops(partition(6)).await;
        assert!(reason.contains("predecessor"), "{reason}");
        assert!(reader.has_exactly(partition(6), &sent).await);
    }
}

#[tokio::test]
async fn another_event_at_the_applied_position_stops_the_partition() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let sent = commit(&log.pool, partition(6), 5).await;
    {
        let running = reader.run(redis.config(), feed.client());
        publisher.committed(sent.clone());
        assert!(reader.has_exactly(partition(6), &sent).await);
        drop(running);
    }
    lose_tail(&log.pool, partition(6), 4).await;
    commit(&log.pool, partition(6), 1).await;
    let running = reader.run(redis.config(), feed.client());
    let reason = running.stops(partition(6)).await;
    assert!(reason.contains("another event at 5"), "{reason}");
}

#[tokio::test]
async fn an_old_copy_on_the_bus_is_not_believed_and_stops_nothing() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let mut sent = commit(&log.pool, partition(6), 2).await;
    publisher.committed(sent.clone());
    let running = reader.run(redis.config(), feed.client());
    assert!(reader.has_exactly(partition(6), &sent).await);
    // Another database's event 3, and something that is no event at 4.
    let foreign = {
        let other = database().await;
        commit(&other.pool, partition(6), 3).await
    };
    sent.extend(commit(&log.pool, partition(6), 2).await);
    let mut connection = look_into(&redis.config()).await;
    let key = keys::log(PRODUCER, partition(6));
    let json = serde_json::to_string(&foreign[2]).unwrap();
    let _id: Option<String> = connection.xadd(&key, "3-0", &[(keys::ENTRY_FIELD, json.as_str())]).await.unwrap();
    let _id: Option<String> = connection.xadd(&key, "4-0", &[(keys::ENTRY_FIELD, "{not json")]).await.unwrap();
    let next = commit(&log.pool, partition(6), 2).await;
    publisher.committed(next.clone());
    sent.extend(next);
    assert!(reader.has_exactly(partition(6), &sent).await);
    assert!(!running.snapshot().is_stopped());
    assert!(running.reaches(Mode::Bus).await);
}

#[tokio::test]
async fn a_log_that_no_longer_reaches_back_stops_the_partition() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (_publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    commit(&log.pool, partition(6), 5).await;
    sqlx::query("delete from event_log where partition = 6 and seq <= 2").execute(&log.pool).await.unwrap();
    let running = reader.run(redis.config(), feed.client());
    let reason = running.stops(partition(6)).await;
    assert!(reason.contains("Gone"), "{reason}");
    assert!(reader.effects(partition(6)).await.is_empty());
}

#[tokio::test]
async fn a_bus_left_over_from_another_deployment_is_never_applied() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let foreign = {
        let other = database().await;
        commit(&other.pool, partition(6), 3).await
    };
    let mut connection = look_into(&redis.config()).await;
    for event in &foreign {
        let (id, json) = (format!("{}-0", event.seq), serde_json::to_string(event).unwrap());
        let key = keys::log(PRODUCER, partition(6));
        let _id: Option<String> = connection.xadd(key, id, &[(keys::ENTRY_FIELD, json)]).await.unwrap();
    }
    let running = reader.run(redis.config(), feed.client());
    assert!(running.reaches(Mode::Polling).await, "nobody announces heads yet");
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let sent = commit(&log.pool, partition(6), 2).await;
    publisher.committed(sent.clone());
    assert!(reader.has_exactly(partition(6), &sent).await);
    assert!(!running.snapshot().is_stopped());
}
