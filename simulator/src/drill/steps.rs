//! A process that dies at each of its kill points in turn under load.

use std::path::{Path, PathBuf};
use std::time::Duration;

use platform::killpoint::{KILL_AT, KILL_EVIDENCE, POINTS};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::exercise::Exercise;
use super::kill::work;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError};

/// The last pass at which a process may die.
const PASSES_MAX: u32 = 12;
/// How long a process may take to its death. The order server takes its time when its customers do.
const HIT_LIMIT: Duration = Duration::from_secs(60);
/// The longest pause between two orders of a worker, so that the points and not the orders set the pace.
const PAUSE_MAX_MS: u64 = 800;

/// How the drill goes.
#[derive(Clone, Copy, Debug)]
pub struct StepsOptions {
    /// Which process dies.
    pub process: ProcessName,
    /// The seed of the passes.
    pub seed: u64,
    /// The load meanwhile.
    pub load: LoadOptions,
    /// How long the end may take until all is quiet.
    pub settle_limit: Duration,
}

/// What became of one point.
struct Step {
    point: &'static str,
    pass: u32,
    /// From the start of the process to its end there; none when it did not die there.
    died_after: Option<Duration>,
}

/// The kill points of a process.
fn points(process: ProcessName) -> impl Iterator<Item = &'static str> {
    let of = move |point: &str| point.split_once('.').is_some_and(|(program, _)| program == process.program());
    POINTS.into_iter().filter(move |point| of(point))
}

/// The folder of programs that have kill points.
///
/// # Errors
/// When there are none.
pub fn programs(folder: &Path, process: ProcessName) -> Result<PathBuf, StackError> {
    let failed = || StackError::Settings(format!("no {process} in {}: run scripts/kill-points.sh", folder.display()));
    let folder = folder.canonicalize().map_err(|_missing| failed())?;
    if folder.join(process.program()).is_file() { Ok(folder) } else { Err(failed()) }
}

/// Lets the process die at each point once, starts it again each time, and compares at the end.
///
/// # Errors
/// When the process cannot be started, or the broker not be told.
pub async fn run(exercise: &Exercise, options: &StepsOptions) -> Result<Outcome, StackError> {
    let evidence = exercise.stack.layout().run().join("kill-points.txt");
    let _missing = std::fs::remove_file(&evidence);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let load = Load::start(&exercise.traders, LoadOptions { pause_max_ms: PAUSE_MAX_MS, ..options.load });
    let mut steps = Vec::new();
    for point in points(options.process) {
        // What comes by push matters most where it has not come by the stream.
        let by_push = point.contains("push");
        if by_push {
            exercise.configure_broker(&json!({"stream_stalled": true})).await?;
        }
        let step = one(exercise, options.process, point, rng.random_range(1..=PASSES_MAX), &evidence).await?;
        work(&load).await;
        if by_push {
            exercise.configure_broker(&json!({"stream_stalled": false})).await?;
        }
        let end = if step.died_after.is_some() { "died" } else { "DID NOT DIE" };
        let accepted = load.progress().accepted();
        exercise.say(&format!("{} {end} at {point}, pass {}; {accepted} orders accepted", options.process, step.pass));
        steps.push(step);
    }
    load.stop().await;
    let retried = load.progress().retried();
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, options.settle_limit).await);
    tell(&mut outcome, &steps);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    outcome.require(exercise.gave_up() == 0, "a process ended by itself");
    outcome.note("retried", retried);
    Ok(outcome)
}

/// Starts the process with the point armed, waits for its death, and starts it again as it was.
async fn one(
    exercise: &Exercise,
    process: ProcessName,
    point: &'static str,
    pass: u32,
    evidence: &Path,
) -> Result<Step, StackError> {
    let stack = &exercise.stack;
    stack.kill(process).await?;
    let armed = [(KILL_AT, format!("{point}:{pass}")), (KILL_EVIDENCE, evidence.display().to_string())];
    let armed = armed.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let started = Instant::now();
    let pid = stack.restart_with(process, armed).await?;
    let ended = stack.gone(process, pid, HIT_LIMIT).await?;
    let took = started.elapsed();
    if !ended {
        stack.kill(process).await?;
    }
    let found = std::fs::read_to_string(evidence).unwrap_or_default();
    let died_after = (ended && is_proven(&found, pid, point, pass)).then_some(took);
    stack.restart(process).await?;
    exercise.ready(process).await?;
    Ok(Step { point, pass, died_after })
}

/// Whether the evidence names this death.
fn is_proven(evidence: &str, pid: u32, point: &str, pass: u32) -> bool {
    let line = format!("{pid} {point}:{pass}");
    evidence.lines().any(|found| found == line)
}

fn tell(outcome: &mut Outcome, steps: &[Step]) {
    for step in steps {
        let text = format!("the process did not die at pass {} of {}", step.pass, step.point);
        outcome.require(step.died_after.is_some(), &text);
        outcome.strike(u64::from(step.died_after.is_some()));
    }
    outcome.require(!steps.is_empty(), "the process has no kill points");
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let died: Vec<Value> = steps.iter().map(|step| json!([step.point, step.pass, step.died_after.map(ms)])).collect();
    outcome.note("died_at", died);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_of_one_engine_process_and_each_process_has_points() {
        let of_all: usize = ProcessName::ENGINE.into_iter().map(|process| points(process).count()).sum();
        assert_eq!(of_all, POINTS.len());
        assert!(ProcessName::ENGINE.into_iter().all(|process| points(process).count() > 0));
        assert_eq!(points(ProcessName::BrokerSim).count(), 0);
    }

    #[test]
    fn only_the_death_of_this_very_process_at_this_very_pass_is_proven() {
        let evidence = "41 fill-receiver.before-commit:3\n";
        assert!(is_proven(evidence, 41, "fill-receiver.before-commit", 3));
        for (pid, point, pass) in [
            (4, "fill-receiver.before-commit", 3),
            (41, "fill-receiver.after-commit", 3),
            (41, "fill-receiver.before-commit", 30),
        ] {
            assert!(!is_proven(evidence, pid, point, pass));
        }
    }

    #[test]
    fn a_point_that_was_never_hit_fails_the_drill() {
        let step = |died_after| Step { point: "fill-receiver.before-commit", pass: 3, died_after };
        let hit = Some(Duration::from_secs(1));
        let outcome = |steps: &[Step]| {
            let mut outcome = Outcome::default();
            tell(&mut outcome, steps);
            outcome
        };
        assert!(outcome(&[step(hit), step(hit)]).is_ok());
        assert_eq!(outcome(&[step(hit), step(hit)]).faults(), 2);
        assert!(!outcome(&[step(hit), step(None)]).is_ok());
        assert!(!outcome(&[]).is_ok());
    }
}
