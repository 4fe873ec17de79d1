//! Several copies of a process on one database.

use crate::world::{FeedServer, PATIENCE, Reader, bus_config, commit, database, partition, publisher};
use contracts::Partition;
use platform::lease::{Ability, Keeper, LeaseConfig, Leases};
use platform::testing::{TestRedis, eventually};
use sqlx::PgPool;
use std::collections::BTreeSet;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const CONFIG: LeaseConfig = LeaseConfig { duration_ms: 3_000, renewal_ms: 40, trouble_ms_max: 300, rest_ms: 600 };

/// A copy whose leases are kept until it is stopped or killed.
struct Copy {
    leases: Leases,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Copy {
    fn start(pool: &PgPool) -> Self {
        let (keeper, leases) = Keeper::new(Uuid::now_v7(), pool.clone(), CONFIG);
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(keeper.run(shutdown.clone()));
        Self { leases, shutdown, task }
    }

    fn held(&self) -> BTreeSet<Partition> {
        self.leases.snapshot().partitions
    }

    /// Without a word to the others.
    fn kill(&self) {
        self.task.abort();
    }
}

async fn shares(copies: &[&Copy], expected: &[usize]) -> bool {
    eventually(PATIENCE, || async { copies.iter().map(|copy| copy.held().len()).collect::<Vec<_>>() == expected }).await
}

#[tokio::test]
async fn copies_share_the_partitions_and_each_has_a_holder() {
    let db = database().await;
    let first = Copy::start(&db.pool);
    assert!(shares(&[&first], &[16]).await);
    let second = Copy::start(&db.pool);
    assert!(shares(&[&first, &second], &[8, 8]).await);
    let third = Copy::start(&db.pool);
    assert!(shares(&[&first, &second, &third], &[6, 5, 5]).await);
    assert_eq!(first.leases.copies(), 3);
    let all: BTreeSet<Partition> = [&first, &second, &third].into_iter().flat_map(Copy::held).collect();
    assert_eq!(all, Partition::all().collect());
    for copy in [&first, &second, &third] {
        let prefers_what_it_holds =
            || Partition::all().all(|partition| copy.leases.prefers(partition) == copy.held().contains(&partition));
        assert!(eventually(PATIENCE, || async { prefers_what_it_holds() }).await);
    }
}

#[tokio::test]
async fn a_killed_copy_is_taken_over_when_its_leases_end() {
    let db = database().await;
    let (first, second) = (Copy::start(&db.pool), Copy::start(&db.pool));
    assert!(shares(&[&first, &second], &[8, 8]).await);
    first.kill();
    assert!(shares(&[&second], &[16]).await);
    assert_eq!(second.leases.copies(), 1);
}

#[tokio::test]
async fn a_copy_that_ends_in_order_leaves_nothing_to_wait_for() {
    let db = database().await;
    // Leases that would last for longer than the test waits.
    let config = LeaseConfig { duration_ms: 600_000, ..CONFIG };
    let (keeper, leaving) = Keeper::new(Uuid::now_v7(), db.pool.clone(), config);
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(keeper.run(shutdown.clone()));
    assert!(eventually(PATIENCE, || async { leaving.snapshot().partitions.len() == 16 }).await);
    shutdown.cancel();
    task.await.unwrap();
    assert!(!Partition::all().any(|partition| leaving.prefers(partition)));
    let next = Copy::start(&db.pool);
    assert!(shares(&[&next], &[16]).await);
    next.shutdown.cancel();
}

#[tokio::test]
async fn a_copy_that_was_stopped_too_long_does_not_take_back_what_others_hold() {
    let db = database().await;
    let (stopped, leases) = Keeper::new(Uuid::now_v7(), db.pool.clone(), CONFIG);
    stopped.renew().await.unwrap();
    assert_eq!(leases.snapshot().partitions.len(), 16);
    // It renews no more; once its time is over it knows nothing and acts as if it were alone.
    let other = Copy::start(&db.pool);
    assert!(shares(&[&other], &[16]).await);
    assert!(!leases.snapshot().known && leases.prefers(partition(3)));
    stopped.renew().await.unwrap();
    assert!(leases.snapshot().known && !leases.prefers(partition(3)), "{:?}", leases.snapshot());
    assert_eq!(leases.copies(), 2);
}

#[tokio::test]
async fn without_its_database_a_copy_acts_as_if_it_were_alone() {
    let db = database().await;
    let (keeper, leases) = Keeper::new(Uuid::now_v7(), db.pool.clone(), CONFIG);
    sqlx::query("drop table partition_leases").execute(&db.pool).await.unwrap();
    assert!(keeper.renew().await.is_err());
    assert!(Partition::all().all(|partition| leases.prefers(partition)));
}

#[tokio::test]
async fn copies_consume_disjoint_partitions_and_a_dead_ones_are_read_on_exactly_once() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let copies = [Copy::start(&reader.db.pool), Copy::start(&reader.db.pool)];
    assert!(shares(&[&copies[0], &copies[1]], &[8, 8]).await);
    let running: Vec<_> =
        copies.iter().map(|copy| reader.run_copy(redis.config(), feed.client(), copy.leases.clone())).collect();
    let mut sent = std::collections::BTreeMap::new();
    for number in 0..16 {
        let events = commit(&log.pool, partition(number), 3).await;
        publisher.committed(events.clone());
        sent.insert(number, events);
    }
    for (number, events) in &sent {
        assert!(reader.has_exactly(partition(*number), events).await);
    }
    for (copy, running) in copies.iter().zip(&running) {
        let snapshot = running.snapshot();
        for (partition, status) in &snapshot.partitions {
            assert_eq!(status.ours, copy.held().contains(partition));
            assert_eq!(status.applied, if status.ours { 3 } else { 0 }, "{partition} was read by the wrong copy");
        }
    }
    // The process dies: neither its leases nor its consumer go on.
    let mut running = running.into_iter();
    copies[0].kill();
    drop(running.next());
    for (number, events) in &mut sent {
        let more = commit(&log.pool, partition(*number), 2).await;
        publisher.committed(more.clone());
        events.extend(more);
    }
    for (number, events) in &sent {
        assert!(reader.has_exactly(partition(*number), events).await);
    }
    let survivor = running.next().unwrap();
    assert!(eventually(PATIENCE, || async { survivor.snapshot().lag_events == 0 }).await);
    assert!(survivor.snapshot().partitions.values().all(|status| status.ours && status.applied == 5));
}

#[tokio::test]
async fn a_copy_that_cannot_read_leaves_its_partitions_to_one_that_can_and_takes_part_again_later() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let (open, closed) = (FeedServer::start(&log.pool).await, FeedServer::start(&log.pool).await);
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let copies = [Copy::start(&reader.db.pool), Copy::start(&reader.db.pool)];
    assert!(shares(&[&copies[0], &copies[1]], &[8, 8]).await);
    closed.set_down(true);
    let _able = reader.run_copy(redis.config(), open.client(), copies[0].leases.clone());
    let _unable = reader.run_copy(redis.config(), closed.client(), copies[1].leases.clone());
    let mut sent = Vec::new();
    for partition in Partition::all() {
        let events = commit(&log.pool, partition, 2).await;
        publisher.committed(events.clone());
        sent.push((partition, events));
    }
    for (partition, events) in &sent {
        assert!(reader.has_exactly(*partition, events).await, "{partition} stands still");
    }
    assert!(shares(&[&copies[0], &copies[1]], &[16, 0]).await);
    closed.set_down(false);
    assert!(shares(&[&copies[0], &copies[1]], &[8, 8]).await);
    assert_eq!(copies[1].leases.snapshot().ability, Ability::Able);
}

#[tokio::test]
async fn when_no_copy_can_read_every_partition_stays_where_it_is() {
    let (log, reader, redis) = (database().await, Reader::create().await, TestRedis::start());
    let feed = FeedServer::start(&log.pool).await;
    let (publisher, _stop) = publisher(&log.pool, redis.config(), bus_config());
    let copies = [Copy::start(&reader.db.pool), Copy::start(&reader.db.pool)];
    assert!(shares(&[&copies[0], &copies[1]], &[8, 8]).await);
    let held = || copies.each_ref().map(Copy::held);
    let before = held();
    feed.set_down(true);
    let _running: Vec<_> =
        copies.iter().map(|copy| reader.run_copy(redis.config(), feed.client(), copy.leases.clone())).collect();
    let mut sent = Vec::new();
    for partition in Partition::all() {
        let events = commit(&log.pool, partition, 2).await;
        publisher.committed(events.clone());
        sent.push((partition, events));
    }
    let all = |ability| {
        let copies = &copies;
        async move { copies.iter().all(|copy| copy.leases.snapshot().ability == ability) }
    };
    assert!(eventually(PATIENCE, || all(Ability::Unable)).await);
    // Many more rounds of both.
    let rounds = "select count(*) from copies where expires_at > $1";
    let later: time::OffsetDateTime = sqlx::query_scalar("select max(expires_at) + interval '1 second' from copies")
        .fetch_one(&reader.db.pool)
        .await
        .unwrap();
    let went_on = || async {
        assert_eq!(held(), before, "leases moved");
        sqlx::query_scalar::<_, i64>(rounds).bind(later).fetch_one(&reader.db.pool).await.unwrap() == 2
    };
    assert!(eventually(PATIENCE, went_on).await);
    feed.set_down(false);
    for (partition, events) in &sent {
        assert!(reader.has_exactly(*partition, events).await);
    }
    assert!(eventually(PATIENCE, || all(Ability::Able)).await);
    assert_eq!(held(), before);
}
