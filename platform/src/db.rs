//! The connection pool with its time limits, and the check that schema and program agree.

use crate::config::DatabaseConfig;
use crate::warm::WarmPool;
use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;
use thiserror::Error;

mod start;

pub use start::wait_until_there;

/// Why the database cannot be used.
#[derive(Debug, Error)]
pub enum DbError {
    /// The URL cannot be read.
    #[error("database url is not valid")]
    Url(#[source] sqlx::Error),
    /// No connection.
    #[error("could not connect to the database")]
    Connect(#[source] sqlx::Error),
    /// The process was asked to end before the server was there.
    #[error("asked to end while the database was away")]
    AskedToEnd(#[source] sqlx::Error),
    /// A limit was asked for and is not in force.
    #[error("could not read the connection's limits")]
    Limits(#[source] sqlx::Error),
    /// A limit was asked for and is not in force.
    #[error("database session has {name} = {actual}, expected {expected}")]
    LimitNotInForce {
        /// The setting.
        name: &'static str,
        /// What the session has.
        actual: String,
        /// What was asked for.
        expected: String,
    },
    /// A migration failed.
    #[error("migration failed")]
    Migrate(#[source] MigrateError),
    /// The list of applied migrations cannot be read.
    #[error("could not read the applied migrations")]
    ReadMigrations(#[source] MigrateError),
    /// Schema and program differ.
    #[error("database schema does not match this program: {0}; run the `migrate` command of this version")]
    SchemaMismatch(String),
}

fn options(config: &DatabaseConfig) -> Result<PgConnectOptions, DbError> {
    let limits = [
        ("statement_timeout", config.statement_timeout_ms.to_string()),
        ("lock_timeout", config.lock_timeout_ms.to_string()),
        ("idle_in_transaction_session_timeout", config.idle_in_transaction_timeout_ms.to_string()),
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "2".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("timezone", "UTC".to_owned()),
    ];
    let options = PgConnectOptions::from_str(config.url.expose()).map_err(DbError::Url)?;
    Ok(options.options(limits))
}

/// What the planner is told by a pool whose every statement finds its rows by an index. Left alone it reads whole tables
/// for a batch of ten keys, as long as statistics are missing or tables small, and plans most statements anew each time.
const BY_KEY: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // What looks expensive because nothing else is allowed would be given to helpers that take longer to start.
    ("max_parallel_workers_per_gather", "0"),
    // The price of a sequential scan that cannot be avoided looks as if compiling the plan were worth it.
    ("jit", "off"),
];

/// And for the statements that work is made of, none of which needs two indexes of a table at once: a bitmap visits the
/// entries of dead rows every time, while an index scan marks them, and passes them over from then on. A queue leaves one
/// behind for each of its orders.
const WITHOUT_BITMAPS: [(&str, &str); 1] = [("enable_bitmapscan", "off")];

/// Opens the pool; every connection carries the time limits, which are checked on the first.
///
/// # Errors
/// [`DbError`] when the server cannot be reached or does not take the limits.
pub async fn connect(config: &DatabaseConfig) -> Result<PgPool, DbError> {
    connect_with(config, options(config)?).await
}

/// Like [`connect`], for statements that all find their rows by an index: their plans are made once and use it, however
/// large or empty the tables are by then.
///
/// # Errors
/// [`DbError`] when the server cannot be reached or does not take the limits.
pub async fn connect_by_key(config: &DatabaseConfig) -> Result<PgPool, DbError> {
    connect_with(config, options(config)?.options(BY_KEY)).await
}

/// Like [`connect_by_key`], for the work that the speed of a process depends on: connections are used again while they
/// are warm.
///
/// # Errors
/// [`DbError`] when the server cannot be reached or does not take the limits.
pub async fn connect_warm(config: &DatabaseConfig) -> Result<WarmPool, DbError> {
    let acquire_timeout = Duration::from_millis(config.acquire_timeout_ms);
    let pool = WarmPool::new(
        &options(config)?.options(BY_KEY).options(WITHOUT_BITMAPS),
        config.connections_max,
        acquire_timeout,
    );
    if let Some(first) = pool.first() {
        check_limits(first, config).await?;
    }
    Ok(pool)
}

async fn connect_with(config: &DatabaseConfig, options: PgConnectOptions) -> Result<PgPool, DbError> {
    let pool = PgPoolOptions::new()
        .max_connections(config.connections_max)
        .acquire_timeout(Duration::from_millis(config.acquire_timeout_ms))
        .test_before_acquire(false)
        .connect_with(options)
        .await
        .map_err(DbError::Connect)?;
    check_limits(&pool, config).await?;
    Ok(pool)
}

async fn check_limits(pool: &PgPool, config: &DatabaseConfig) -> Result<(), DbError> {
    let expected = [
        ("statement_timeout", config.statement_timeout_ms),
        ("lock_timeout", config.lock_timeout_ms),
        ("idle_in_transaction_session_timeout", config.idle_in_transaction_timeout_ms),
    ];
    for (name, expected_ms) in expected {
        let row = sqlx::query!(r#"select setting as "setting!" from pg_settings where name = $1"#, name)
            .fetch_one(pool)
            .await
            .map_err(DbError::Limits)?;
        if row.setting != expected_ms.to_string() {
            let (actual, expected) = (row.setting, expected_ms.to_string());
            return Err(DbError::LimitNotInForce { name, actual, expected });
        }
    }
    Ok(())
}

/// Applies what is missing. Only the explicit `migrate` command calls this.
///
/// # Errors
/// [`DbError::Migrate`] when a migration fails or an applied one was changed.
pub async fn migrate(pool: &PgPool, migrator: &Migrator) -> Result<(), DbError> {
    migrator.run(pool).await.map_err(DbError::Migrate)
}

/// Refuses when the database has other migrations than this program carries: one missing, one too
/// many, or one that was changed after it was applied.
///
/// # Errors
/// [`DbError::SchemaMismatch`] naming the first difference.
pub async fn check_migrations(pool: &PgPool, migrator: &Migrator) -> Result<(), DbError> {
    let table = &migrator.table_name;
    let mut conn = pool.acquire().await.map_err(DbError::Connect)?;
    let exists = sqlx::query!(r#"select to_regclass($1) is not null as "exists!""#, table.as_ref())
        .fetch_one(&mut *conn)
        .await
        .map_err(DbError::Limits)?
        .exists;
    let mut applied = BTreeMap::new();
    if exists {
        if let Some(version) = conn.dirty_version(table).await.map_err(DbError::ReadMigrations)? {
            return Err(DbError::SchemaMismatch(format!("migration {version} was applied only in part")));
        }
        for migration in conn.list_applied_migrations(table).await.map_err(DbError::ReadMigrations)? {
            applied.insert(migration.version, migration.checksum);
        }
    }
    for migration in migrator.iter().filter(|m| m.migration_type.is_up_migration()) {
        match applied.remove(&migration.version) {
            None => {
                let text = format!("migration {} ({}) is not applied", migration.version, migration.description);
                return Err(DbError::SchemaMismatch(text));
            }
            Some(checksum) if checksum != migration.checksum => {
                let text = format!(
                    "migration {} ({}) differs from what was applied",
                    migration.version, migration.description
                );
                return Err(DbError::SchemaMismatch(text));
            }
            Some(_) => {}
        }
    }
    match applied.keys().next() {
        Some(version) => {
            Err(DbError::SchemaMismatch(format!("migration {version} is applied and unknown to this program")))
        }
        None => Ok(()),
    }
}
