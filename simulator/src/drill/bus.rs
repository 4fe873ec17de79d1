//! Redis killed, emptied, frozen and slow under load: the logs are read from their feeds, and come back to the bus.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use super::health::{Report, report, time_until};
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError};

/// The processes that read logs.
const READERS: [ProcessName; 2] = [ProcessName::OrderServer, ProcessName::BrokerGateway];
/// How long a change of mode may take; it should be a second.
const CHANGE_LIMIT: Duration = Duration::from_secs(20);
/// A slow Redis stands still for this long and then goes on for as long.
const SLOW_STEP: Duration = Duration::from_millis(300);

/// How Redis fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// SIGKILL, then started again, empty.
    Killed,
    /// SIGSTOP: connections stay, nothing answers.
    Frozen,
    /// Everything in it is gone, it goes on at once.
    Emptied,
    /// It answers, late.
    Slow,
}

impl Failure {
    const ALL: [Self; 4] = [Self::Killed, Self::Emptied, Self::Frozen, Self::Slow];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::Emptied => "emptied",
            Self::Slow => "slow",
        }
    }
}

/// Lets Redis fail in each way for `each`.
///
/// # Errors
/// When Redis cannot be stopped, started or reached.
pub async fn run(
    exercise: &Exercise,
    each: Duration,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, load);
    sleep(Duration::from_secs(3)).await;
    let mut phases = Vec::new();
    for failure in Failure::ALL {
        phases.push(phase(exercise, failure, each, &load).await?);
    }
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    for phase in phases {
        phase.tell(&mut outcome);
    }
    Ok(outcome)
}

/// What one failure did.
struct Phase {
    failure: Failure,
    accepted: usize,
    /// Until every log was read from its feed; none where that is not wanted.
    to_feed: Option<Option<Duration>>,
    /// Until every log was read from the bus again.
    to_bus: Option<Duration>,
    lag_events_max: i64,
}

impl Phase {
    fn tell(&self, outcome: &mut Outcome) {
        let word = self.failure.as_str();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        outcome.note(&format!("{word}_accepted"), self.accepted);
        outcome.note(&format!("{word}_lag_events_max"), self.lag_events_max);
        outcome.require(self.accepted > 0, &format!("no order was accepted while Redis was {word}"));
        if let Some(to_feed) = self.to_feed {
            outcome.note(&format!("{word}_to_feed_ms"), to_feed.map(ms));
            outcome.require(to_feed.is_some(), &format!("the feeds were not read while Redis was {word}"));
        }
        outcome.note(&format!("{word}_to_bus_ms"), self.to_bus.map(ms));
        outcome.require(self.to_bus.is_some(), &format!("the bus was not read again after Redis was {word}"));
    }
}

async fn phase(exercise: &Exercise, failure: Failure, each: Duration, load: &Load) -> Result<Phase, StackError> {
    exercise.say(&format!("Redis is {} for {} s", failure.as_str(), each.as_secs()));
    let (began, before) = (Instant::now(), load.progress().accepted());
    match failure {
        Failure::Killed => exercise.stack.kill(ProcessName::Redis).await?,
        Failure::Frozen => exercise.stack.signal(ProcessName::Redis, Signal::SIGSTOP).await?,
        Failure::Emptied => empty(exercise).await?,
        Failure::Slow => {}
    }
    let to_feed = match failure {
        Failure::Killed | Failure::Frozen => {
            Some(time_until(exercise, &READERS, began, CHANGE_LIMIT, |report| report.reads_by("polling")).await)
        }
        // What is lost is read from the feed once; the bus is fed again at once.
        Failure::Emptied | Failure::Slow => None,
    };
    let lag_events_max = wait_out(exercise, failure, began + each).await?;
    let accepted = load.progress().accepted() - before;
    let ended = Instant::now();
    match failure {
        Failure::Killed => drop(exercise.stack.restart(ProcessName::Redis).await?),
        Failure::Frozen | Failure::Slow => exercise.stack.signal(ProcessName::Redis, Signal::SIGCONT).await?,
        Failure::Emptied => {}
    }
    let to_bus = time_until(exercise, &READERS, ended, CHANGE_LIMIT, |report| report.reads_by("bus")).await;
    exercise.say(&format!("{accepted} orders were accepted meanwhile; at most {lag_events_max} events waited"));
    Ok(Phase { failure, accepted, to_feed, to_bus, lag_events_max })
}

/// Looks at what waits until the end of a phase, and keeps a slow Redis slow, an emptied one empty.
async fn wait_out(exercise: &Exercise, failure: Failure, until: Instant) -> Result<i64, StackError> {
    let mut lag_events_max = 0;
    while Instant::now() < until {
        match failure {
            Failure::Slow => {
                exercise.stack.signal(ProcessName::Redis, Signal::SIGSTOP).await?;
                sleep(SLOW_STEP).await;
                exercise.stack.signal(ProcessName::Redis, Signal::SIGCONT).await?;
            }
            Failure::Emptied => empty(exercise).await?,
            Failure::Killed | Failure::Frozen => {}
        }
        sleep(SLOW_STEP).await;
        for name in READERS {
            let lag = report(exercise, name).await.as_ref().map_or(0, Report::lag_events);
            lag_events_max = lag_events_max.max(lag);
        }
    }
    Ok(lag_events_max)
}

async fn empty(exercise: &Exercise) -> Result<(), StackError> {
    let failed = |error: redis::RedisError| StackError::Settings(format!("emptying Redis: {error}"));
    let client = redis::Client::open(exercise.stack.redis_url()).map_err(failed)?;
    let mut connection = client.get_multiplexed_async_connection().await.map_err(failed)?;
    redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await.map_err(failed)
}
