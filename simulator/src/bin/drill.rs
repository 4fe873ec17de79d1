//! `drill`: failures made on purpose, and the demonstration.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use simulator::broker::profile::Profile;
use simulator::drill::closing::complete;
use simulator::drill::command::{self, Arguments, Command, ORDERS_MIN};
use simulator::drill::exercise::{Exercise, ExerciseOptions};
use simulator::drill::kill::KillOptions;
use simulator::drill::load::LoadOptions;
use simulator::drill::outcome::Outcome;
use simulator::drill::push::PushOptions;
use simulator::drill::scenario::{self, Scenario};
use simulator::drill::series::Series;
use simulator::drill::steps::StepsOptions;
use simulator::drill::trace::collector::Collector;
use simulator::drill::{
    burst, bus,
    clock::{self, Clocks},
    copies,
    cut::{self, Network},
    demo, disk, kill, outage, push, steps, trace,
};
use simulator::stack::{Announcer, ProcessName};

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

async fn run(mut arguments: Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::List => {
            list();
            return Ok(ExitCode::SUCCESS);
        }
        Command::All { names, seeds } => return run_all(&arguments, names, *seeds).await,
        Command::Run { name } | Command::Broker { name } => {
            let named =
                Command::named(name).with_context(|| format!("there is no drill {name:?}; see `drill list`"))?;
            arguments.command = named;
        }
        _ => {}
    }
    let checkout = std::fs::canonicalize(&arguments.checkout).context("the checkout cannot be used")?;
    let bin = std::env::current_exe()?.parent().map(PathBuf::from).context("the program has no folder")?;
    let name = arguments.command.name();
    let engine_bin = match &arguments.command {
        Command::Steps { process } => Some(steps::programs(&arguments.kill_points, *process)?),
        _ => None,
    };
    let instance = command::labelled(&name, arguments.label.as_deref());
    let around = Around::prepare(&arguments, &checkout.join(".run").join(&instance)).await?;
    let demo = matches!(arguments.command, Command::Demo);
    let started = Instant::now();
    let options = ExerciseOptions {
        checkout,
        instance,
        bin,
        engine_bin,
        seed: arguments.seed,
        copies: arguments.command.copies(),
        faults: arguments.command.has_faults() && !arguments.no_faults,
        deposits: arguments.command.deposits(),
        extra: around.extra.clone(),
        disk_mib: matches!(arguments.command, Command::DiskFull).then_some(disk::SIZE_MIB),
        broker_url: around.network.as_ref().map(Network::leads_to),
        announce: announcer(demo),
    };
    let exercise = Box::pin(Exercise::start(options)).await?;
    let mut result = Box::pin(perform(&exercise, &arguments, &around)).await;
    if let Ok((outcome, _)) = &mut result {
        let may_be_harmless = matches!(arguments.command, Command::Trace | Command::Demo);
        complete(&exercise, outcome, may_be_harmless).await;
    }
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
        say(&outcome.line(&name));
    }
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a drill puts around the stack before it starts, and the variables by which the processes know of it.
struct Around {
    extra: BTreeMap<ProcessName, Vec<(String, String)>>,
    collector: Option<Collector>,
    network: Option<Network>,
    clocks: Option<Clocks>,
}

impl Around {
    async fn prepare(arguments: &Arguments, run: &Path) -> anyhow::Result<Self> {
        let mut around = Self { extra: arguments.command.extra(), collector: None, network: None, clocks: None };
        match arguments.command {
            Command::Trace => {
                let collector = Collector::start(trace::AUTHORIZATION).await.context("the collector")?;
                around.extra = trace::variables(&collector);
                around.collector = Some(collector);
            }
            Command::Cut => {
                let network = Network::start().await.context("the network")?;
                network.stand_between(&mut around.extra);
                around.network = Some(network);
            }
            Command::DiskFull => {
                disk::private_mounts()?;
                disk::settings(&mut around.extra);
            }
            Command::ClockStep => around.clocks = Some(Clocks::prepare(run, &mut around.extra)?),
            _ => {}
        }
        Ok(around)
    }
}

async fn perform(exercise: &Exercise, arguments: &Arguments, around: &Around) -> anyhow::Result<(Outcome, String)> {
    let settle = Duration::from_secs(arguments.settle_limit_s);
    let load = LoadOptions {
        seed: arguments.seed,
        workers: 2,
        orders_min: arguments.orders.unwrap_or(ORDERS_MIN),
        orders_max: None,
        pause_max_ms: 100,
        shares_max: 20,
        // A broker that tells no executions tells no exact money of parts of a share.
        whole_shares: arguments.command.scenario().is_some_and(|scenario| scenario.profile == Profile::Blind),
        // A process that is killed again and again takes its time to answer.
        answer_limit: Duration::from_secs(180),
    };
    let outcome = match &arguments.command {
        Command::Demo => {
            let load = LoadOptions { orders_max: Some(arguments.orders.unwrap_or(ORDERS_MIN)), ..load };
            return Ok(demo::run(exercise, load, settle).await?);
        }
        Command::Run { .. } | Command::List | Command::All { .. } => anyhow::bail!("no drill of its own"),
        Command::Broker { name } => {
            let scenario = Scenario::named(name).context("there is no such broker")?;
            scenario::run(exercise, scenario, load, settle).await?
        }
        Command::Chaos { seconds } => {
            let servers = [ProcessName::Postgres, ProcessName::Redis, ProcessName::BrokerSim];
            let processes = ProcessName::ENGINE.into_iter().chain(ProcessName::ENGINE).chain(servers).collect();
            let lasting = Duration::from_secs(*seconds);
            kill::run(exercise, &KillOptions { lasting, ..kills(processes, 1, arguments, load) }).await?
        }
        Command::Cut => {
            cut::run(exercise, around.network.as_ref().context("there is no network")?, load, settle).await?
        }
        Command::Freeze => outage::freeze(exercise, arguments.seed, load, settle).await?,
        Command::ReadOnly => outage::read_only(exercise, load, settle).await?,
        Command::DiskFull => disk::run(exercise, load, settle).await?,
        Command::ClockStep => {
            clock::run(exercise, around.clocks.as_ref().context("there are no clocks")?, load, settle).await?
        }
        Command::Kill { process, times, redis } => {
            let processes = if process == "all" { ProcessName::ENGINE.to_vec() } else { vec![process.parse()?] };
            let options = KillOptions { redis: *redis, ..kills(processes, *times, arguments, load) };
            let mut outcome = kill::run(exercise, &options).await?;
            outcome.note("process", process.as_str());
            outcome
        }
        Command::Steps { process } => {
            let options = StepsOptions { process: *process, seed: arguments.seed, load, settle_limit: settle };
            steps::run(exercise, &options).await?
        }
        Command::Push { times } => {
            let options = PushOptions { times: *times, seed: arguments.seed, load, settle_limit: settle };
            push::run(exercise, &options).await?
        }
        Command::Bus { seconds } => bus::run(exercise, Duration::from_secs(*seconds), load, settle).await?,
        Command::Copies { times, .. } => copies::run(exercise, *times, arguments.seed, load, settle).await?,
        Command::Redis => kill::run_redis(exercise, load, settle).await?,
        Command::Overspend => burst::overspend(exercise, arguments.orders.unwrap_or(200), settle).await?,
        Command::Duplicate => burst::duplicate(exercise, arguments.orders.unwrap_or(1), settle).await?,
        Command::Hangup => burst::hang_up(exercise, arguments.orders.unwrap_or(150), settle).await?,
        Command::Trace => {
            let collector = around.collector.as_ref().context("there is no collector")?;
            return Ok(trace::run(exercise, collector, settle).await?);
        }
    };
    Ok((outcome, String::new()))
}

fn kills(processes: Vec<ProcessName>, times: u32, arguments: &Arguments, load: LoadOptions) -> KillOptions {
    let settle_limit = Duration::from_secs(arguments.settle_limit_s);
    KillOptions { processes, times, lasting: Duration::ZERO, redis: false, seed: arguments.seed, load, settle_limit }
}

fn list() {
    for (name, what) in command::all() {
        say(&format!("{name:<22} {what}"));
    }
}

async fn run_all(arguments: &Arguments, names: &[String], seeds: u64) -> anyhow::Result<ExitCode> {
    let all = command::all().map(|(name, _)| name.to_owned());
    let names: Vec<String> = if names.is_empty() { all.collect() } else { names.to_vec() };
    if let Some(unknown) = names.iter().find(|name| Command::named(name).is_none()) {
        anyhow::bail!("there is no drill {unknown:?}; see `drill list`");
    }
    let series = Series {
        program: std::env::current_exe()?,
        checkout: arguments.checkout.clone(),
        kill_points: arguments.kill_points.clone(),
        names,
        seed: arguments.seed,
        seeds,
        orders: arguments.orders,
        settle_limit_s: arguments.settle_limit_s,
        label: arguments.label.clone(),
    };
    Ok(if series.run(say).await? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
