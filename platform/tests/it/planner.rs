//! How statements of a hot pool are planned.

use crate::world::database;
use platform::config::{DatabaseConfig, Secret};
use platform::db;

const PREPARE: &str = "prepare by_key (uuid[]) as
    select e.seq from event_log e join unnest($1) w (event_id) on e.event_id = w.event_id
    where e.event_id = any($1)";

#[tokio::test]
async fn a_pool_by_key_plans_once_and_by_an_index_also_while_tables_are_empty() {
    let database = database().await;
    let config = DatabaseConfig {
        url: Secret::new(database.url.clone()),
        connections_max: 1,
        start_wait_ms: 0,
        acquire_timeout_ms: 30_000,
        statement_timeout_ms: 30_000,
        lock_timeout_ms: 30_000,
        idle_in_transaction_timeout_ms: 30_000,
    };
    let pool = db::connect_by_key(&config).await.unwrap();
    let mut conn = pool.acquire().await.unwrap();
    sqlx::raw_sql(PREPARE).execute(&mut *conn).await.unwrap();
    let plan: Vec<String> = sqlx::query_scalar("explain execute by_key('{}')").fetch_all(&mut *conn).await.unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("$1"), "it was planned for these very keys:\n{plan}");
    assert!(plan.contains("Index") && !plan.contains("Seq Scan") && !plan.contains("Hash"), "{plan}");
}
