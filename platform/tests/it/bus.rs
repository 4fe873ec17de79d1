//! What stands on the bus.

use crate::world::{
    PATIENCE, PRODUCER, bus_config, commit, consumer_config, database, look_into, new_event, partition, publisher,
};
use contracts::event::Envelope;
use platform::bus::BusConfig;
use platform::config::RedisConfig;
use platform::eventlog;
use platform::keys;
use platform::testing::{TestRedis, eventually};
use redis::AsyncCommands;

async fn stream_seqs(redis: &RedisConfig, number: i16) -> Vec<i64> {
    let mut connection = look_into(redis).await;
    let entries: redis::streams::StreamRangeReply =
        connection.xrange_all(keys::log(PRODUCER, partition(number))).await.unwrap();
    entries.ids.iter().map(|entry| entry.id.split_once('-').unwrap().0.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_entry_is_the_envelope_and_its_id_the_sequence_number() {
    let (log, redis) = (database().await, TestRedis::start());
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let committed = commit(&log.pool, partition(3), 2).await;
    publisher.committed(committed.clone());
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 3).await == [1, 2] }).await);
    let mut connection = look_into(&redis.config()).await;
    let entries: redis::streams::StreamRangeReply =
        connection.xrange_all(keys::log(PRODUCER, partition(3))).await.unwrap();
    let json: String = entries.ids[1].get(keys::ENTRY_FIELD).unwrap();
    assert_eq!(serde_json::from_str::<Envelope>(&json).unwrap(), committed[1]);
}

#[tokio::test]
async fn publishing_an_event_twice_or_late_is_no_error_and_changes_nothing() {
    let (log, redis) = (database().await, TestRedis::start());
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let committed = commit(&log.pool, partition(3), 3).await;
    publisher.committed(vec![committed[2].clone()]);
    publisher.committed(committed[..2].to_vec());
    publisher.committed(committed.clone());
    let next = commit(&log.pool, partition(3), 1).await;
    publisher.committed(next);
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 3).await == [3, 4] }).await);
}

#[tokio::test]
async fn heads_are_announced_from_the_log_and_vanish_with_the_publisher() {
    let (log, redis) = (database().await, TestRedis::start());
    let (_publisher, stop) = publisher(&log.pool, redis.config(), bus_config());
    commit(&log.pool, partition(9), 4).await;
    let connection = look_into(&redis.config()).await;
    let announced = eventually(PATIENCE, || {
        let mut connection = connection.clone();
        async move { connection.hget::<_, _, Option<i64>>(keys::heads(PRODUCER), 9).await.unwrap() == Some(4) }
    });
    assert!(announced.await);
    drop(stop);
    let gone = eventually(PATIENCE, || {
        let mut connection = connection.clone();
        async move { !connection.exists::<_, bool>(keys::heads(PRODUCER)).await.unwrap() }
    });
    assert!(gone.await);
}

#[tokio::test]
async fn streams_are_trimmed_below_the_slowest_registered_consumer_only() {
    let (log, redis) = (database().await, TestRedis::start());
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    // More than the nodes that redis trims by.
    publisher.committed(commit(&log.pool, partition(2), 1000).await);
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 2).await.len() == 1000 }).await);
    let mut connection = look_into(&redis.config()).await;
    let key = keys::applied(PRODUCER);
    // The slow one first: alone, the fast one would let everything be trimmed.
    let _new: i64 = connection.hset(&key, keys::applied_field("slow", partition(2)), 500).await.unwrap();
    let _new: i64 = connection.hset(&key, keys::applied_field("fast", partition(2)), 1000).await.unwrap();
    let trimmed = eventually(PATIENCE, || async {
        let left = stream_seqs(&redis.config(), 2).await;
        // What is left still has all that the slow consumer lacks.
        left.first().is_some_and(|first| (2..=501).contains(first)) && left.last() == Some(&1000)
    });
    assert!(trimmed.await);
}

#[tokio::test]
async fn a_stream_never_grows_beyond_its_cap_for_long() {
    let (log, redis) = (database().await, TestRedis::start());
    let config = BusConfig { stream_len_max: 200, ..bus_config() };
    let (publisher, _stop) = publisher(&log.pool, redis.config(), config);
    publisher.committed(commit(&log.pool, partition(2), 2000).await);
    let last = eventually(PATIENCE, || async { stream_seqs(&redis.config(), 2).await.last() == Some(&2000) });
    assert!(last.await);
    // Redis trims whole nodes of a hundred entries.
    assert!(stream_seqs(&redis.config(), 2).await.len() <= 300);
}

#[tokio::test]
async fn a_stream_that_is_ahead_of_the_log_is_removed() {
    let (log, redis) = (database().await, TestRedis::start());
    let foreign = {
        let other = database().await;
        commit(&other.pool, partition(4), 5).await
    };
    let mut connection = look_into(&redis.config()).await;
    for event in &foreign {
        let json = serde_json::to_string(event).unwrap();
        let id = format!("{}-0", event.seq);
        let _id: Option<String> =
            connection.xadd(keys::log(PRODUCER, partition(4)), id, &[(keys::ENTRY_FIELD, json)]).await.unwrap();
    }
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 4).await.is_empty() }).await);
    publisher.committed(commit(&log.pool, partition(4), 1).await);
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 4).await == [1] }).await);
}

#[tokio::test]
async fn a_stream_that_holds_another_event_in_the_place_is_removed() {
    let (log, redis) = (database().await, TestRedis::start());
    let ours = commit(&log.pool, partition(4), 6).await;
    let mut connection = look_into(&redis.config()).await;
    let key = keys::log(PRODUCER, partition(4));
    let foreign = {
        let other = database().await;
        commit(&other.pool, partition(4), 6).await
    };
    let json = serde_json::to_string(&foreign[5]).unwrap();
    let (publisher, _stop) =
        publisher(&log.pool, redis.config(), BusConfig { trim_interval_ms: 60_000, ..bus_config() });
    let _id: Option<String> = connection.xadd(&key, "6-0", &[(keys::ENTRY_FIELD, json)]).await.unwrap();
    publisher.committed(ours[5..].to_vec());
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 4).await.is_empty() }).await);
    publisher.committed(commit(&log.pool, partition(4), 1).await);
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 4).await == [7] }).await);
}

#[tokio::test]
async fn a_commit_never_waits_for_a_frozen_bus_and_what_does_not_fit_is_dropped() {
    let (log, redis) = (database().await, TestRedis::start());
    let config = BusConfig { queue_len_max: 2, ..bus_config() };
    let (publisher, _stop) = publisher(&log.pool, redis.config(), config);
    redis.pause();
    let committed = commit(&log.pool, partition(1), 1).await;
    // Far more than the queue holds; a call that waited would never come back.
    for _ in 0..1000 {
        publisher.committed(committed.clone());
    }
    redis.resume();
    let next = commit(&log.pool, partition(1), 1).await;
    let published = eventually(PATIENCE, || {
        publisher.committed(next.clone());
        async { stream_seqs(&redis.config(), 1).await.last() == Some(&2) }
    });
    assert!(published.await);
}

#[tokio::test]
async fn what_is_queued_at_shutdown_is_still_published() {
    let (log, redis) = (database().await, TestRedis::start());
    let (publisher, stop) = publisher(&log.pool, redis.config(), bus_config());
    for _ in 0..50 {
        publisher.committed(commit(&log.pool, partition(6), 1).await);
    }
    drop(stop);
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 6).await.len() == 50 }).await);
}

#[tokio::test]
async fn writers_of_one_partition_leave_a_gapless_chain() {
    let log = database().await;
    let writers = (0..8).map(|_| {
        let pool = log.pool.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                let events = vec![new_event(partition(0)), new_event(partition(7)), new_event(partition(0))];
                let mut tx = pool.begin().await.unwrap();
                eventlog::append(&mut tx, PRODUCER, events).await.unwrap();
                tx.commit().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    for (number, count) in [(0, 320), (7, 160)] {
        let events = eventlog::read_after(&log.pool, PRODUCER, partition(number), 0, 1000).await.unwrap();
        let slice = platform::consumer::Slice::new(PRODUCER, partition(number), eventlog::Position::default(), events);
        assert_eq!(slice.unwrap().end().seq, count);
    }
}

#[test]
fn contradictory_limits_are_refused_by_name() {
    assert!(bus_config().validate().is_ok());
    assert!(BusConfig::default().validate().is_ok());
    assert!(consumer_config().validate().is_ok());
    let text = |config: BusConfig| config.validate().unwrap_err().to_string();
    assert!(text(BusConfig { queue_len_max: 0, ..bus_config() }).contains("queue_len_max"));
    assert!(text(BusConfig { heads_ttl_ms: 60, ..bus_config() }).contains("heads_ttl_ms"));
}

#[tokio::test]
async fn a_healthy_stream_stays_when_a_head_was_read_late() {
    let (log, redis) = (database().await, TestRedis::start());
    let committed = commit(&log.pool, partition(4), 5).await;
    // What a late read of the head sees: the log has the events, the head does not say so yet.
    sqlx::query("update event_heads set seq = 3 where partition = 4").execute(&log.pool).await.unwrap();
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    publisher.committed(committed);
    let other = {
        let other = database().await;
        commit(&other.pool, partition(5), 2).await
    };
    let mut connection = look_into(&redis.config()).await;
    let json = serde_json::to_string(&other[1]).unwrap();
    let key = keys::log(PRODUCER, partition(5));
    let _id: Option<String> = connection.xadd(key, "2-0", &[(keys::ENTRY_FIELD, json)]).await.unwrap();
    // The foreign stream shows that the streams were looked at.
    assert!(eventually(PATIENCE, || async { stream_seqs(&redis.config(), 5).await.is_empty() }).await);
    assert_eq!(stream_seqs(&redis.config(), 4).await, [1, 2, 3, 4, 5]);
}
