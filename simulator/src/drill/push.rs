//! The fill receiver killed at seeded random moments while it takes every event by stream and by push, and some by
//! push alone first.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError, describe_error};

/// The longest pause before a kill.
const BETWEEN_MAX_MS: u64 = 1_500;
/// From a kill to the start of the next process.
const DEAD_MAX_MS: u64 = 600;
/// Every this many kills the stream stalls, or goes on.
const STALL_EVERY: u32 = 4;
/// Longest wait for the last pushes.
const PUSHED_LIMIT: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// How the drill goes.
#[derive(Clone, Debug)]
pub struct PushOptions {
    /// How often the receiver is killed.
    pub times: u32,
    /// The seed of the moments.
    pub seed: u64,
    /// The load meanwhile.
    pub load: LoadOptions,
    /// How long the end may take until all is quiet.
    pub settle_limit: Duration,
}

/// Kills, stalls, forges, and compares at the end.
///
/// # Errors
/// When the receiver cannot be killed or started, or the broker not be told.
pub async fn run(exercise: &Exercise, options: &PushOptions) -> Result<Outcome, StackError> {
    exercise
        .configure_broker(&json!({"push": {
            "push_duplicate": "0.1", "push_forged": "0.1", "push_lost_ack": "0.2", "push_delayed": "0.1",
            "push_reordered": "0.2"
        }}))
        .await?;
    let load = Load::start(&exercise.traders, options.load);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut stalled = false;
    let mut first_by_push = 0;
    for round in 1..=options.times {
        if round % STALL_EVERY == 1 {
            stalled = !stalled;
            exercise.configure_broker(&json!({"stream_stalled": stalled})).await?;
        }
        sleep(Duration::from_millis(rng.random_range(0..=BETWEEN_MAX_MS))).await;
        let dead_for = Duration::from_millis(rng.random_range(0..=DEAD_MAX_MS));
        exercise.kill_and_restart(ProcessName::FillReceiver, dead_for).await?;
        exercise.stack.wait_ready(ProcessName::FillReceiver).await?;
        if stalled {
            // With the stream stalled, whatever the receiver stores has come by push.
            first_by_push += pushed_while_stalled(exercise).await;
        }
        let answered = load.progress().answered();
        let stream = if stalled { "stalled" } else { "open" };
        exercise.say(&format!("kill {round} of {}, stream {stream}; {answered} orders answered", options.times));
    }
    exercise
        .configure_broker(&json!({"stream_stalled": false, "push": {"push_lost_ack": "0", "push_forged": "0"}}))
        .await?;
    load.stop().await;
    let posted = load.finish().await;
    let settled = exercise.settle(&posted, options.settle_limit).await;
    let mut outcome = Outcome::settled(settled);
    let pushes = last_pushes(exercise).await;
    let count = |field: &str| number(&pushes, &format!("/{field}"));
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    outcome.require(first_by_push > 0, "nothing was stored by push while the stream was stalled");
    outcome.require(count("events") > 0, "no event was pushed");
    outcome.require(count("forged_taken") == 0, "a wrongly signed push was taken");
    outcome.require(count("forged_refused") > 0, "no wrongly signed push was tried");
    outcome.require(count("repeated") > 0, "no push was sent again after it was stored");
    outcome.require(count("waiting") == 0 && count("missed") == 0, "not every event was pushed");
    outcome.note("times", options.times);
    outcome.note("stored_while_stalled", first_by_push);
    outcome.note("pushes", pushes);
    Ok(outcome)
}

/// Waits until the receiver has stored something; answers how many pushes it took since it started.
async fn pushed_while_stalled(exercise: &Exercise) -> u64 {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let taken = number(&health(exercise).await, "/push/pushes_taken");
        if taken > 0 || Instant::now() > until {
            return taken;
        }
        sleep(LOOK_PAUSE).await;
    }
}

async fn health(exercise: &Exercise) -> Value {
    let url = format!("{}/ops/v1/health", exercise.stack.addresses().receiver_ops);
    read(exercise, &url).await.unwrap_or_default()
}

/// What became of the pushes, once none is waiting any more.
async fn last_pushes(exercise: &Exercise) -> Value {
    let url = format!("{}/sim/v1/pushes", exercise.stack.addresses().sim);
    let until = Instant::now() + PUSHED_LIMIT;
    loop {
        let pushes = read(exercise, &url).await.unwrap_or_default();
        if number(&pushes, "/waiting") == 0 || Instant::now() > until {
            return pushes;
        }
        sleep(LOOK_PAUSE).await;
    }
}

async fn read(exercise: &Exercise, url: &str) -> Result<Value, String> {
    let answer = exercise.stack.http().get(url).send().await.map_err(|error| describe_error(&error))?;
    answer.json().await.map_err(|error| describe_error(&error))
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}
