//! Processes killed at seeded random moments under load.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError};

/// The longest pause before a kill.
const BETWEEN_MAX_MS: u64 = 1_500;
/// From a kill to the start of the next process.
const DEAD_MAX_MS: u64 = 600;
/// How long Redis stays away.
const REDIS_AWAY: Duration = Duration::from_secs(30);
/// Every this many kills, the next one comes while the process is still starting; before the others work is done.
const HASTY_EVERY: u32 = 3;
/// Work between two kills, in accepted orders, and the longest wait for it.
const WORK_ORDERS: usize = 10;
const WORK_LIMIT: Duration = Duration::from_secs(10);
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How a kill drill goes.
#[derive(Clone, Debug)]
pub struct KillOptions {
    /// Which processes are killed, one of them each time.
    pub processes: Vec<ProcessName>,
    /// How often at least.
    pub times: u32,
    /// How long at least.
    pub lasting: Duration,
    /// Whether Redis is stopped for a while as well.
    pub redis: bool,
    /// The seed of the moments.
    pub seed: u64,
    /// The load meanwhile.
    pub load: LoadOptions,
    /// How long the end may take until all is quiet.
    pub settle_limit: Duration,
}

/// Kills, starts again, and compares at the end.
///
/// # Errors
/// When a process cannot be killed or started.
pub async fn run(exercise: &Exercise, options: &KillOptions) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, options.load);
    let kills = kill_all(exercise, options, &load);
    let redis = async { if options.redis { redis_away(exercise, &load).await.map(Some) } else { Ok(None) } };
    let (kills, redis) = tokio::join!(kills, redis);
    let kills = kills?;
    let accepted_without_redis = redis?;
    load.stop().await;
    let progress = load.progress().clone();
    let posted = load.finish().await;
    let settled = exercise.settle(&posted, options.settle_limit).await;
    let mut outcome = Outcome::settled(settled);
    // A drill in which nothing was done between the kills has shown nothing.
    let wanted = usize::try_from(kills).unwrap_or(usize::MAX) * WORK_ORDERS / 2;
    let (accepted, filled) = (progress.accepted(), outcome.tally().filled);
    outcome.require(accepted >= wanted, &format!("only {accepted} orders were accepted, fewer than {wanted}"));
    outcome.require(filled > 0, "no order was filled");
    // A process whose database is away at its start ends; nothing else is a reason to end by itself.
    let may_end = options.processes.contains(&ProcessName::Postgres);
    outcome.note("gave_up", exercise.gave_up());
    outcome.require(may_end || exercise.gave_up() == 0, "a process ended by itself");
    outcome.note("retried", progress.retried());
    outcome.note("times", kills);
    if let Some(accepted) = accepted_without_redis {
        outcome.note("accepted_without_redis", accepted);
        outcome.require(accepted > 0, "no order was accepted while Redis was away");
    }
    Ok(outcome)
}

async fn kill_all(exercise: &Exercise, options: &KillOptions, load: &Load) -> Result<u32, StackError> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let until = Instant::now() + options.lasting;
    let mut round = 0;
    while round < options.times || Instant::now() < until {
        round += 1;
        sleep(Duration::from_millis(rng.random_range(0..=BETWEEN_MAX_MS))).await;
        let Some(name) = options.processes.choose(&mut rng).copied() else { return Ok(round) };
        exercise.kill_and_restart(name, Duration::from_millis(rng.random_range(0..=DEAD_MAX_MS))).await?;
        if !round.is_multiple_of(HASTY_EVERY) {
            exercise.ready(name).await?;
            work(load).await;
        }
        let (answered, accepted) = (load.progress().answered(), load.progress().accepted());
        exercise.say(&format!("kill {round}: {name}; {answered} orders answered, {accepted} accepted"));
    }
    for name in &options.processes {
        exercise.ready(*name).await?;
    }
    Ok(round)
}

/// Waits until some more orders were accepted, or for some seconds.
pub(super) async fn work(load: &Load) {
    let (until, enough) = (Instant::now() + WORK_LIMIT, load.progress().accepted() + WORK_ORDERS);
    while load.progress().accepted() < enough && Instant::now() < until {
        sleep(LOOK_PAUSE).await;
    }
}

/// Stops Redis for a while and starts it empty; tells how many orders were accepted meanwhile.
///
/// # Errors
/// When Redis cannot be stopped or started.
pub async fn redis_away(exercise: &Exercise, load: &Load) -> Result<usize, StackError> {
    sleep(Duration::from_secs(2)).await;
    exercise.stack.stop(ProcessName::Redis).await?;
    exercise.say(&format!("Redis is away for {} s", REDIS_AWAY.as_secs()));
    let before = load.progress().accepted();
    sleep(REDIS_AWAY).await;
    let accepted = load.progress().accepted() - before;
    exercise.say(&format!("{accepted} orders were accepted without Redis"));
    exercise.stack.restart(ProcessName::Redis).await?;
    exercise.stack.wait_ready(ProcessName::Redis).await?;
    Ok(accepted)
}

/// Redis stopped under load and started again empty, with no process killed.
///
/// # Errors
/// When Redis cannot be stopped or started.
pub async fn run_redis(exercise: &Exercise, load: LoadOptions, settle_limit: Duration) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, load);
    let accepted = redis_away(exercise, &load).await?;
    sleep(Duration::from_secs(2)).await;
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.note("accepted_without_redis", accepted);
    outcome.require(accepted > 0, "no order was accepted while Redis was away");
    Ok(outcome)
}
