//! What goes to the bus, and when.

use crate::world::World;
use contracts::event::{OrdersEvent, Producer};
use contracts::{AccountId, OrderId, Partition};
use order_core::adapters::db::PgStore;
use order_core::application::store::{Plan, Store, StoreError, Transaction, Wants};
use platform::bus::{BusConfig, Publisher};
use platform::clock::SystemIds;
use platform::keys;
use platform::testing::{TestRedis, eventually};
use redis::aio::MultiplexedConnection;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Refuses the commit of what it is told of, not the statement.
const NO_COMMIT: &str = "
    create function no_commit() returns trigger language plpgsql as $$ begin raise 'no commit'; end $$;
    create constraint trigger no_commit after insert on event_log deferrable initially deferred
        for each row execute function no_commit()";

/// Commits one event of an account.
async fn commit(store: &PgStore, account: AccountId) -> Result<(), StoreError> {
    let wants = Wants { accounts: BTreeSet::from([account]), ..Wants::default() };
    let mut read = store.load(&wants).await.unwrap();
    let mut plan = Plan::new(read.accounts.remove(&account).unwrap());
    plan.events.push(OrdersEvent::Lookup { order_id: OrderId::new(Uuid::now_v7()) });
    store.begin().await.unwrap().commit(&[plan], OffsetDateTime::now_utc()).await
}

async fn len(bus: &MultiplexedConnection, account: AccountId) -> i64 {
    let stream = keys::log(Producer::OrderCore, Partition::of_account(account));
    redis::cmd("XLEN").arg(stream).query_async(&mut bus.clone()).await.unwrap()
}

#[tokio::test]
async fn an_event_whose_commit_failed_is_never_on_the_bus() {
    let (world, redis) = (World::new().await, TestRedis::start());
    // A publisher that tidies nothing up meanwhile.
    let slow = BusConfig {
        heads_interval_ms: 60_000,
        heads_ttl_ms: 120_000,
        trim_interval_ms: 60_000,
        ..BusConfig::default()
    };
    let (pool, stop) = (world.database.pool.clone(), CancellationToken::new());
    let (publisher, task) =
        Publisher::start(redis.config(), Producer::OrderCore, pool.clone(), slow, stop.clone()).unwrap();
    let store = PgStore::new(pool.clone(), Some(publisher), Arc::new(SystemIds));
    let lost = world.account("1").await;
    let mut kept = world.account("1").await;
    while Partition::of_account(kept) == Partition::of_account(lost) {
        kept = world.account("1").await;
    }
    sqlx::raw_sql(NO_COMMIT).execute(&pool).await.unwrap();
    let failed = commit(&store, lost).await;
    assert!(matches!(failed, Err(StoreError::CommitUnknown { .. })), "{failed:?}");
    sqlx::raw_sql("drop trigger no_commit on event_log").execute(&pool).await.unwrap();
    commit(&store, kept).await.unwrap();
    let client = redis::Client::open(redis.url()).unwrap();
    let bus = client.get_multiplexed_async_connection().await.unwrap();
    // Published in the order in which they were handed over: what was lost would be there before.
    assert!(eventually(Duration::from_secs(30), || async { len(&bus, kept).await == 1 }).await);
    assert_eq!(len(&bus, lost).await, 0, "what was rolled back is on the bus");
    stop.cancel();
    task.await.unwrap();
}
