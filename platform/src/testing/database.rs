//! A database of its own for a test.

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::OnceCell;

/// Names the server; the user must be allowed to create databases.
const URL_VARIABLE: &str = "TEST_DATABASE_URL";

/// In front of every name, followed by the second of creation and a random number.
const NAME_PREFIX: &str = "oor_test_";

/// Databases of tests that were killed go after this many seconds.
const LEFTOVER_AGE_S: u64 = 3_600;

static LEFTOVERS_GONE: OnceCell<()> = OnceCell::const_new();

/// A database that nobody else uses, gone when this is dropped.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its address.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    name: String,
    server: PgConnectOptions,
}

impl TestDatabase {
    /// Creates a database and applies the migrations of a folder to it.
    ///
    /// # Panics
    /// When `TEST_DATABASE_URL` is not set, or the server or a migration refuses.
    pub async fn create(migrations_dir: &Path) -> Self {
        let server_url = std::env::var(URL_VARIABLE).expect("TEST_DATABASE_URL must name a PostgreSQL server");
        let server = PgConnectOptions::from_str(&server_url).expect("TEST_DATABASE_URL must be a PostgreSQL URL");
        LEFTOVERS_GONE.get_or_init(|| drop_leftovers(&server)).await;
        let name = format!("{NAME_PREFIX}{}_{:08x}", now_s(), rand::random::<u32>());
        execute(&server, format!("create database {name} template template0")).await.expect("create database");
        let options = server.clone().database(&name);
        let pool = PgPoolOptions::new().max_connections(16).connect_with(options.clone()).await.expect("connect");
        let migrator = Migrator::new(migrations_dir).await.expect("read migrations");
        migrator.run(&pool).await.expect("apply migrations");
        Self { url: options.to_url_lossy().to_string(), pool, name, server }
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // The test's runtime may be ending: a thread with one of its own. Best effort, since the
        // next run removes what is left.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if let Ok(runtime) = runtime {
                let _best_effort = runtime.block_on(drop_database(&server, &name));
            }
        });
        let _best_effort = dropped.join();
    }
}

async fn drop_leftovers(server: &PgConnectOptions) {
    let Ok(mut conn) = PgConnection::connect_with(server).await else { return };
    let names =
        sqlx::query_scalar::<_, String>("select datname::text from pg_database where datname like 'oor\\_test\\_%'")
            .fetch_all(&mut conn)
            .await
            .unwrap_or_default();
    for name in names {
        let created_s = name.strip_prefix(NAME_PREFIX).and_then(|rest| rest.split('_').next()?.parse::<u64>().ok());
        if created_s.is_some_and(|at| at + LEFTOVER_AGE_S < now_s()) {
            let _best_effort = drop_database(server, &name).await;
        }
    }
}

async fn drop_database(server: &PgConnectOptions, name: &str) -> Result<(), sqlx::Error> {
    execute(server, format!("drop database if exists {name} with (force)")).await
}

async fn execute(server: &PgConnectOptions, statement: String) -> Result<(), sqlx::Error> {
    let mut conn = PgConnection::connect_with(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut conn).await?;
    conn.close().await
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
