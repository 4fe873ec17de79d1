//! Which connection a warm pool hands out.

use crate::world::database;
use platform::config::{DatabaseConfig, Secret};
use platform::db;
use platform::warm::{WarmConnection, WarmPool};

async fn pool(url: &str, connections_max: u32, acquire_timeout_ms: u64) -> WarmPool {
    let config = DatabaseConfig {
        url: Secret::new(url.to_owned()),
        connections_max,
        acquire_timeout_ms,
        start_wait_ms: 30_000,
        statement_timeout_ms: 30_000,
        lock_timeout_ms: 30_000,
        idle_in_transaction_timeout_ms: 30_000,
    };
    db::connect_warm(&config).await.unwrap()
}

async fn backend(connection: &mut WarmConnection) -> i32 {
    sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut **connection).await.unwrap()
}

#[tokio::test]
async fn connections_that_were_given_back_are_used_again_before_another_is_opened() {
    let database = database().await;
    let pool = pool(&database.url, 4, 30_000).await;
    let (mut one, mut two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let open = [backend(&mut one).await, backend(&mut two).await];
    assert_ne!(open[0], open[1]);
    drop((one, two));
    for _ in 0..5 {
        assert!(open.contains(&backend(&mut pool.acquire().await.unwrap()).await));
    }
    let mut transaction = pool.begin().await.unwrap();
    let used: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    assert!(open.contains(&used));
}

#[tokio::test]
async fn who_waits_for_a_connection_beyond_the_limit_is_told_so() {
    let database = database().await;
    let pool = pool(&database.url, 1, 5_000).await;
    let held = pool.acquire().await.unwrap();
    assert!(matches!(pool.acquire().await, Err(sqlx::Error::PoolTimedOut)));
    drop(held);
    assert!(pool.acquire().await.is_ok());
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_rolled_back_before_its_connection_serves_again() {
    let database = database().await;
    let pool = pool(&database.url, 1, 30_000).await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("create table dropped ()").execute(&mut *transaction).await.unwrap();
    drop(transaction);
    let mut connection = pool.acquire().await.unwrap();
    let exists: bool =
        sqlx::query_scalar("select to_regclass('dropped') is not null").fetch_one(&mut *connection).await.unwrap();
    assert!(!exists);
}

#[tokio::test]
async fn a_connection_that_is_thrown_away_is_replaced() {
    let database = database().await;
    let pool = pool(&database.url, 1, 30_000).await;
    let mut connection = pool.acquire().await.unwrap();
    let first = backend(&mut connection).await;
    connection.discard();
    assert_ne!(backend(&mut pool.acquire().await.unwrap()).await, first);
}

#[tokio::test]
async fn a_connection_that_does_not_come_back_is_left_aside_for_the_next() {
    let database = database().await;
    let pool = pool(&database.url, 3, 30_000).await;
    let mut first = pool.acquire().await.unwrap();
    let hung = backend(&mut first).await;
    // In the middle of a statement that does not end; what gives it back waits for that.
    let sleeping = tokio::time::timeout(std::time::Duration::from_millis(200), async {
        sqlx::query("select pg_sleep(600)").execute(&mut *first).await
    });
    assert!(sleeping.await.is_err());
    drop(first);
    for _ in 0..3 {
        assert_ne!(backend(&mut pool.acquire().await.unwrap()).await, hung);
    }
    let mut transaction = pool.begin().await.unwrap();
    let used: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *transaction).await.unwrap();
    assert_ne!(used, hung);
}
