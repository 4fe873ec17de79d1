//! Processes that stand still and go on, and a database that takes no writes.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::time::sleep;

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError};

/// Longer than any lease, of accounts (6 s) and of partitions.
const FROZEN_FOR: Duration = Duration::from_secs(8);
/// How long no database takes a write.
const READ_ONLY_FOR: Duration = Duration::from_secs(6);
const BETWEEN_MAX_MS: u64 = 1_500;

/// Stops one of two copies of each process for longer than its leases, and lets it go on as if nothing had been.
///
/// # Errors
/// When a process is not there.
pub async fn freeze(
    exercise: &Exercise,
    seed: u64,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let load = Load::start(&exercise.traders, load);
    for name in ProcessName::ENGINE {
        sleep(Duration::from_millis(rng.random_range(500..=BETWEEN_MAX_MS))).await;
        let Some(victim) = name.nth(rng.random_range(1..=2)) else { continue };
        let before = load.progress().accepted();
        exercise.stack.signal(victim, Signal::SIGSTOP).await?;
        sleep(FROZEN_FOR).await;
        exercise.stack.signal(victim, Signal::SIGCONT).await?;
        let accepted = load.progress().accepted() - before;
        exercise.say(&format!("{victim} stood still; {accepted} orders were accepted meanwhile"));
    }
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    Ok(outcome)
}

/// Lets PostgreSQL refuse every write for a while, under load.
///
/// # Errors
/// When the server cannot be told.
pub async fn read_only(exercise: &Exercise, load: LoadOptions, settle_limit: Duration) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, load);
    sleep(Duration::from_secs(3)).await;
    take_writes(exercise, false).await?;
    let before = load.progress().accepted();
    sleep(READ_ONLY_FOR).await;
    let accepted = load.progress().accepted() - before;
    take_writes(exercise, true).await?;
    exercise.say(&format!("{accepted} orders were accepted while nothing could be written"));
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.strike(1);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    // Transactions that had begun may end; after them, an answer of success without a write would be a lie.
    let gap = exercise.availability.longest_gap();
    let hit = gap >= READ_ONLY_FOR / 2;
    outcome.require(hit, &format!("customers never waited longer than {} ms, so nothing was refused", gap.as_millis()));
    Ok(outcome)
}

async fn take_writes(exercise: &Exercise, writes: bool) -> Result<(), StackError> {
    let failed = |error: sqlx::Error| StackError::Settings(format!("telling PostgreSQL to refuse writes: {error}"));
    let url = exercise.stack.admin_url().ok_or(StackError::NotOurs(ProcessName::Postgres))?;
    let options: PgConnectOptions = url.parse().map_err(failed)?;
    let mut conn = options.disable_statement_logging().connect().await.map_err(failed)?;
    let change = if writes {
        "alter system reset default_transaction_read_only"
    } else {
        "alter system set default_transaction_read_only = on"
    };
    sqlx::raw_sql(change).execute(&mut conn).await.map_err(failed)?;
    sqlx::raw_sql("select pg_reload_conf()").execute(&mut conn).await.map_err(failed)?;
    conn.close().await.map_err(failed)
}
