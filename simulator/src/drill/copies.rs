//! Several copies of each process, one of them killed again and again under load.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use super::health::{Report, report, time_until};
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError};

/// How long another copy may take to do the work of a dead one; it should be two seconds on a machine that is not
/// loaded beyond its means.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(5);
const BETWEEN_MAX_MS: u64 = 1_000;
/// Longer than a takeover, shorter, or none: the dead one may be back before the others noticed.
const DEAD_MAX_MS: u64 = 2_500;
/// How long all copies may take until they have divided the work again.
const SHARED_LIMIT: Duration = Duration::from_secs(30);

/// Kills one copy of each process in turn, measures how long the others take to do its work, and starts it again.
///
/// # Errors
/// When a process cannot be killed or started.
pub async fn run(
    exercise: &Exercise,
    times: u32,
    seed: u64,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    let copies = u8::try_from(exercise.stack.copies().len()).unwrap_or(u8::MAX);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let load = Load::start(&exercise.traders, load);
    let mut takeovers: Vec<(ProcessName, Option<Duration>)> = Vec::new();
    for round in 1..=times {
        for name in ProcessName::ENGINE {
            sleep(Duration::from_millis(rng.random_range(0..=BETWEEN_MAX_MS))).await;
            let number = rng.random_range(1..=copies);
            let Some(victim) = name.nth(number) else { continue };
            takeovers.extend(kill_one(exercise, victim, copies, &mut rng).await?);
        }
        let accepted = load.progress().accepted();
        exercise.say(&format!("round {round} of {times}: one of each process was killed; {accepted} orders accepted"));
    }
    load.stop().await;
    let progress = load.progress().clone();
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    outcome.note("copies", copies);
    outcome.note("kills", times * 3);
    outcome.note("retried", progress.retried());
    note_takeovers(&mut outcome, &takeovers);
    Ok(outcome)
}

async fn kill_one(
    exercise: &Exercise,
    victim: ProcessName,
    copies: u8,
    rng: &mut ChaCha8Rng,
) -> Result<Option<(ProcessName, Option<Duration>)>, StackError> {
    let others: Vec<ProcessName> =
        (1..=copies).filter_map(|number| victim.nth(number)).filter(|name| *name != victim).collect();
    let had_work = report(exercise, victim).await.is_ok_and(|report| report.does_anything());
    let before = Instant::now();
    exercise.stack.kill(victim).await?;
    // With two copies the other one must do everything; of more, what each does is the leases' matter.
    let measured = match others.as_slice() {
        [other] if had_work && rng.random_bool(0.75) => {
            let names = [*other];
            let taken = time_until(exercise, &names, before, TAKEOVER_LIMIT, Report::does_everything).await;
            Some((victim.first(), taken))
        }
        _ => {
            sleep(Duration::from_millis(rng.random_range(0..=DEAD_MAX_MS))).await;
            None
        }
    };
    exercise.stack.restart(victim).await?;
    // Sometimes the next kill comes while this one is still starting.
    if [true, true, false].choose(rng).copied().unwrap_or(true) {
        exercise.stack.wait_ready(victim).await?;
        if victim.first() != ProcessName::FillReceiver {
            let all: Vec<ProcessName> = others.into_iter().chain([victim]).collect();
            let since = Instant::now();
            let shared = time_until(exercise, &all, since, SHARED_LIMIT, Report::does_anything).await;
            if shared.is_none() {
                exercise.say(&format!("{victim} got no share of the work"));
            }
        }
    }
    Ok(measured)
}

fn note_takeovers(outcome: &mut Outcome, takeovers: &[(ProcessName, Option<Duration>)]) {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    for name in ProcessName::ENGINE {
        let mut times: Vec<u64> =
            takeovers.iter().filter(|(of, _)| *of == name).filter_map(|(_, time)| time.map(ms)).collect();
        times.sort_unstable();
        let key = name.as_str().replace('-', "_");
        if let (Some(median), Some(max)) = (times.get(times.len() / 2), times.last()) {
            outcome.note(&format!("{key}_takeover_ms_median"), *median);
            outcome.note(&format!("{key}_takeover_ms_max"), *max);
        }
        outcome.note(&format!("{key}_takeovers"), times.len());
    }
    let late = takeovers.iter().filter(|(_, time)| time.is_none()).count();
    outcome.require(late == 0, &format!("{late} takeovers took more than {} s", TAKEOVER_LIMIT.as_secs()));
}
