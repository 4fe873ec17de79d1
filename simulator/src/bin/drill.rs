//! `drill`: failures made on purpose, and the demonstration.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rust_decimal::Decimal;
use simulator::drill::exercise::{Exercise, ExerciseOptions};
use simulator::drill::kill::KillOptions;
use simulator::drill::load::LoadOptions;
use simulator::drill::outcome::Outcome;
use simulator::drill::push::PushOptions;
use simulator::drill::trace::collector::Collector;
use simulator::drill::{burst, bus, copies, demo, kill, push, trace};
use simulator::stack::{Announcer, ProcessName};

/// Drills on a private stack. Each ends with one line on the standard output, and exits with 1 when a promise broke.
#[derive(Parser)]
struct Arguments {
    /// The checkout; `.run` and `.data` are in it.
    #[arg(long, default_value = ".", global = true)]
    checkout: PathBuf,
    /// One seed, one story, as far as processes that are killed allow it.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    /// Leaves the simulated broker without faults.
    #[arg(long, global = true)]
    no_faults: bool,
    /// How long the end may take until all is quiet.
    #[arg(long, default_value_t = 240, global = true)]
    settle_limit_s: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A few hundred orders, each engine process killed once, a table and a comparison.
    Demo {
        /// How many orders.
        #[arg(long, default_value_t = 300)]
        orders: usize,
    },
    /// SIGKILL at random moments under load.
    Kill {
        /// order-server, broker-gateway, fill-receiver, broker-sim, postgres, or `all` for any engine process.
        #[arg(long, default_value = "all")]
        process: String,
        /// How often.
        #[arg(long, default_value_t = 50)]
        times: u32,
        /// Stops Redis for 30 seconds meanwhile and starts it empty.
        #[arg(long)]
        redis: bool,
    },
    /// SIGKILL of the fill receiver, which takes every event by stream and by push, some by push alone first.
    Push {
        /// How often.
        #[arg(long, default_value_t = 50)]
        times: u32,
    },
    /// Redis stopped for 30 seconds under load and started again empty.
    Redis,
    /// Redis killed, emptied, frozen and slow under load.
    Bus {
        /// How long each of the four.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// Several copies of each process, one of each killed again and again under load.
    Copies {
        /// How many copies.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(2..=4))]
        copies: u8,
        /// How often one of each process is killed.
        #[arg(long, default_value_t = 5)]
        times: u32,
    },
    /// Twenty concurrent spenders of one balance while Redis is down.
    Overspend,
    /// The same client order posted 100 times at once.
    Duplicate,
    /// Clients that hang up in the middle.
    Hangup,
    /// No failure: one trace an order over all processes, its lines in the logs, no secret in any, and metrics that
    /// explain themselves.
    Trace,
}

impl Command {
    const fn name(&self) -> &'static str {
        match self {
            Self::Demo { .. } => "demo",
            Self::Kill { .. } => "kill",
            Self::Push { .. } => "push",
            Self::Redis => "redis",
            Self::Bus { .. } => "bus",
            Self::Copies { .. } => "copies",
            Self::Overspend => "overspend",
            Self::Duplicate => "duplicate",
            Self::Hangup => "hangup",
            Self::Trace => "trace",
        }
    }

    /// Whether the simulated broker makes mistakes: not in the demonstration, whose story is the engine's own processes.
    const fn has_faults(&self) -> bool {
        !matches!(self, Self::Demo { .. } | Self::Trace)
    }

    /// The ladder's minutes are seconds on a local stack. Where processes are killed, the time limits of calls are
    /// scaled with them, to what the simulated broker's mistakes take, a second at most: an order that was lost and
    /// is cancelled is in doubt until its `valid_until` and the longest recording delay are over.
    fn extra(&self) -> BTreeMap<ProcessName, Vec<(String, String)>> {
        let brisk = [
            ("BROKER__CONNECT_TIMEOUT_MS", "1000"),
            ("BROKER__CALL_TIMEOUT_MS", "3000"),
            ("RETRY__RECORD_GRACE_MS", "500"),
            ("RETRY__VALID_FOR_MINUTES", "36"),
            ("PROFILE__RECORD_LAG_MAX_MS", "5000"),
        ];
        let brisk = brisk.map(|(name, value)| (format!("BROKER_GATEWAY__{name}"), value.to_owned()));
        // What a drill of the stream alone loses must not be mended by a push.
        let no_push = (ProcessName::BrokerSim, vec![("BROKER_SIM__PUSH_URL".to_owned(), String::new())]);
        match self {
            Self::Kill { .. } | Self::Copies { .. } => {
                BTreeMap::from([(ProcessName::BrokerGateway, brisk.to_vec()), no_push])
            }
            Self::Redis | Self::Bus { .. } => BTreeMap::from([no_push]),
            _ => BTreeMap::new(),
        }
    }

    /// How many copies of each process.
    const fn copies(&self) -> u8 {
        match self {
            Self::Copies { copies, .. } => *copies,
            _ => 1,
        }
    }

    /// The deposits of the customers: some rich, one that cannot pay much.
    fn deposits(&self) -> Vec<Decimal> {
        match self {
            Self::Demo { .. } => [250_000, 250_000, 250_000, 250_000, 1_000_000, 2_000].map(Decimal::from).to_vec(),
            Self::Kill { .. } | Self::Push { .. } | Self::Redis | Self::Bus { .. } | Self::Copies { .. } => {
                [2_000_000; 11].into_iter().chain([2_000]).map(Decimal::from).collect()
            }
            Self::Overspend | Self::Duplicate | Self::Hangup | Self::Trace => vec![Decimal::from(100_000)],
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(code) => code,
        Err(error) => {
            let _gone = writeln!(std::io::stderr(), "drill: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let checkout = std::fs::canonicalize(&arguments.checkout).context("the checkout cannot be used")?;
    let bin = std::env::current_exe()?.parent().map(PathBuf::from).context("the program has no folder")?;
    let name = arguments.command.name();
    let collector = match arguments.command {
        Command::Trace => Some(Collector::start(trace::AUTHORIZATION).await.context("the collector")?),
        _ => None,
    };
    let demo = matches!(arguments.command, Command::Demo { .. });
    let started = Instant::now();
    let options = ExerciseOptions {
        checkout,
        instance: name.to_owned(),
        bin,
        seed: arguments.seed,
        copies: arguments.command.copies(),
        faults: arguments.command.has_faults() && !arguments.no_faults,
        deposits: arguments.command.deposits(),
        extra: collector.as_ref().map_or_else(|| arguments.command.extra(), trace::variables),
        announce: announcer(demo),
    };
    let exercise = Box::pin(Exercise::start(options)).await?;
    let result = Box::pin(perform(&exercise, &arguments, collector.as_ref())).await;
    exercise.stack.shutdown().await;
    let (mut outcome, table) = result?;
    outcome.note("seed", arguments.seed);
    outcome.note("seconds", started.elapsed().as_secs());
    if demo {
        finish_demo(&outcome, &table);
    } else {
        if !table.is_empty() {
            say(&table);
        }
        say(&outcome.line(name));
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn perform(
    exercise: &Exercise,
    arguments: &Arguments,
    collector: Option<&Collector>,
) -> anyhow::Result<(Outcome, String)> {
    let settle = Duration::from_secs(arguments.settle_limit_s);
    let load = LoadOptions {
        seed: arguments.seed,
        workers: 2,
        orders_max: None,
        pause_max_ms: 100,
        shares_max: 20,
        // A process that is killed again and again takes its time to answer.
        answer_limit: Duration::from_secs(180),
    };
    let outcome = match &arguments.command {
        Command::Demo { orders } => {
            let load = LoadOptions { orders_max: Some(*orders), ..load };
            return Ok(demo::run(exercise, load, settle).await?);
        }
        Command::Kill { process, times, redis } => {
            let processes = if process == "all" { ProcessName::ENGINE.to_vec() } else { vec![process.parse()?] };
            let options = KillOptions {
                processes,
                times: *times,
                redis: *redis,
                seed: arguments.seed,
                load,
                settle_limit: settle,
            };
            let mut outcome = kill::run(exercise, &options).await?;
            outcome.note("process", process.as_str());
            outcome
        }
        Command::Push { times } => {
            let options = PushOptions { times: *times, seed: arguments.seed, load, settle_limit: settle };
            push::run(exercise, &options).await?
        }
        Command::Bus { seconds } => bus::run(exercise, Duration::from_secs(*seconds), load, settle).await?,
        Command::Copies { times, .. } => copies::run(exercise, *times, arguments.seed, load, settle).await?,
        Command::Redis => kill::run_redis(exercise, load, settle).await?,
        Command::Overspend => burst::overspend(exercise, settle).await?,
        Command::Duplicate => burst::duplicate(exercise, settle).await?,
        Command::Hangup => burst::hang_up(exercise, settle).await?,
        Command::Trace => {
            let collector = collector.context("there is no collector")?;
            return Ok(trace::run(exercise, collector, settle).await?);
        }
    };
    Ok((outcome, String::new()))
}

fn finish_demo(outcome: &Outcome, table: &str) {
    say(&format!("\n{table}"));
    for violation in outcome.violations() {
        say(&violation.to_string());
    }
    let tally = outcome.tally();
    let word = if outcome.is_ok() { "ok" } else { "FAILED" };
    say(&format!(
        "demo {word}: orders={} filled={} canceled={} rejected={} lost={} duplicated={}",
        tally.orders, tally.filled, tally.canceled, tally.rejected, tally.lost, tally.duplicated
    ));
}

/// The demonstration tells its story; a drill keeps the standard output for its one line.
fn announcer(demo: bool) -> Announcer {
    let started = Instant::now();
    Arc::new(move |text| {
        let line = format!("[{:>3} s] {text}", started.elapsed().as_secs());
        if demo {
            say(&line);
        } else {
            let _gone = writeln!(std::io::stderr(), "{line}");
        }
    })
}

fn say(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}
