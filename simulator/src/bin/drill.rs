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
use simulator::broker::profile::Profile;
use simulator::drill::closing::complete;
use simulator::drill::exercise::{Exercise, ExerciseOptions};
use simulator::drill::kill::KillOptions;
use simulator::drill::load::LoadOptions;
use simulator::drill::outcome::Outcome;
use simulator::drill::push::PushOptions;
use simulator::drill::scenario::{self, SCENARIOS, Scenario};
use simulator::drill::series::Series;
use simulator::drill::trace::collector::Collector;
use simulator::drill::{
    burst, bus,
    clock::{self, Clocks},
    copies,
    cut::{self, Network},
    demo, disk, kill, outage, push, trace,
};
use simulator::stack::with_profile;
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
    /// How many orders there are to be at least; each drill knows how many it needs.
    #[arg(long, global = true)]
    orders: Option<usize>,
    /// How long the end may take until all is quiet.
    #[arg(long, default_value_t = 240, global = true)]
    settle_limit_s: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The drill of that name; `list` tells the names.
    Run {
        /// Which one.
        name: String,
    },
    /// The names of the drills.
    List,
    /// All drills, or some, one after the other with several seeds, with a table at the end.
    All {
        /// Only these.
        names: Vec<String>,
        /// How many seeds, from the given one on.
        #[arg(long, default_value_t = 3)]
        seeds: u64,
    },
    /// A broker that fails in one way.
    Broker {
        /// Which way.
        name: String,
    },
    /// Any process killed at any time, the servers and the broker too.
    Chaos {
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// One of two copies of each process stands still for longer than its leases, and goes on.
    Freeze,
    /// The network between the engine and the broker is cut, silent, and lets nothing back.
    Cut,
    /// PostgreSQL refuses every write for some seconds.
    ReadOnly,
    /// The disk of PostgreSQL is full, again and again.
    DiskFull,
    /// The clock of the gateway, then of the order server, steps forwards and backwards.
    ClockStep,
    /// A few hundred orders, each engine process killed once, a table and a comparison.
    Demo,
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

/// Orders of a drill at least, where nobody asks for another number.
const ORDERS_MIN: usize = 300;
/// Kills of a drill that is run by its name.
const KILLS: u32 = 12;

/// The drills beside those of [`SCENARIOS`], by name.
const DRILLS: &[(&str, &str)] = &[
    ("kill-order-server", "SIGKILL of the order server at random moments"),
    ("kill-broker-gateway", "SIGKILL of the gateway at random moments"),
    ("kill-fill-receiver", "SIGKILL of the receiver at random moments"),
    ("kill-postgres", "SIGKILL of PostgreSQL, which recovers from its log"),
    ("kill-broker-sim", "SIGKILL of the broker, which starts again from its books"),
    ("chaos", "any process killed at any time for a minute, the servers and the broker too"),
    ("copies", "two copies of each process, one of each killed again and again"),
    ("freeze", "one of two copies of each process stands still for longer than its leases, and goes on"),
    ("cut", "the network to the broker is cut, silent, and lets requests out and no reply back"),
    ("push", "the receiver killed while events come by stream and by push"),
    ("redis", "Redis stopped for 30 seconds, started again empty"),
    ("bus", "Redis killed, emptied, frozen and slow"),
    ("read-only", "PostgreSQL refuses every write for some seconds"),
    ("disk-full", "the disk of PostgreSQL is full, again and again; needs root"),
    ("clock-step", "the clock of the gateway, then of the order server, steps ten minutes forwards and backwards"),
    ("overspend", "twenty concurrent spenders of one balance, Redis down"),
    ("duplicate", "the same client order posted 100 times at once"),
    ("hangup", "clients that hang up in the middle"),
];

impl Command {
    /// The drill of that name.
    fn named(name: &str) -> Option<Self> {
        let kill = |process: &str| Self::Kill { process: process.to_owned(), times: KILLS, redis: false };
        Some(match name {
            "chaos" => Self::Chaos { seconds: 60 },
            "copies" => Self::Copies { copies: 2, times: 3 },
            "cut" => Self::Cut,
            "freeze" => Self::Freeze,
            "push" => Self::Push { times: KILLS },
            "redis" => Self::Redis,
            "bus" => Self::Bus { seconds: 10 },
            "read-only" => Self::ReadOnly,
            "disk-full" => Self::DiskFull,
            "clock-step" => Self::ClockStep,
            "overspend" => Self::Overspend,
            "duplicate" => Self::Duplicate,
            "hangup" => Self::Hangup,
            _ if Scenario::named(name).is_some() => Self::Broker { name: name.to_owned() },
            _ => kill(name.strip_prefix("kill-")?.parse::<ProcessName>().ok()?.as_str()),
        })
    }

    /// What its line and its folder are called.
    fn name(&self) -> String {
        match self {
            Self::Run { name } | Self::Broker { name } => name.clone(),
            Self::List => "list".to_owned(),
            Self::All { .. } => "all".to_owned(),
            Self::Chaos { .. } => "chaos".to_owned(),
            Self::Cut => "cut".to_owned(),
            Self::Freeze => "freeze".to_owned(),
            Self::ReadOnly => "read-only".to_owned(),
            Self::DiskFull => "disk-full".to_owned(),
            Self::ClockStep => "clock-step".to_owned(),
            Self::Demo => "demo".to_owned(),
            Self::Kill { process, .. } if process == "all" => "kill".to_owned(),
            Self::Kill { process, .. } => format!("kill-{process}"),
            Self::Push { .. } => "push".to_owned(),
            Self::Redis => "redis".to_owned(),
            Self::Bus { .. } => "bus".to_owned(),
            Self::Copies { .. } => "copies".to_owned(),
            Self::Overspend => "overspend".to_owned(),
            Self::Duplicate => "duplicate".to_owned(),
            Self::Hangup => "hangup".to_owned(),
            Self::Trace => "trace".to_owned(),
        }
    }

    fn scenario(&self) -> Option<&'static Scenario> {
        if let Self::Broker { name } = self { Scenario::named(name) } else { None }
    }

    /// Whether the simulated broker makes a bit of every mistake: not in the demonstration, whose story is the engine's
    /// own processes, and not where the drill has mistakes of its own.
    const fn has_faults(&self) -> bool {
        !matches!(self, Self::Demo | Self::Trace | Self::Broker { .. })
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
            Self::Kill { .. }
            | Self::Chaos { .. }
            | Self::Cut
            | Self::Freeze
            | Self::ReadOnly
            | Self::DiskFull
            | Self::ClockStep
            | Self::Copies { .. } => BTreeMap::from([(ProcessName::BrokerGateway, brisk.to_vec()), no_push]),
            Self::Broker { .. } => {
                let base = BTreeMap::from([(ProcessName::BrokerGateway, brisk.to_vec()), no_push]);
                let Some(scenario) = self.scenario() else { return base };
                let mut variables = with_profile(base, scenario.profile);
                let gateway = variables.entry(ProcessName::BrokerGateway).or_default();
                let own = scenario.gateway.iter();
                gateway.extend(own.map(|(name, value)| (format!("BROKER_GATEWAY__{name}"), (*value).to_owned())));
                if let Some(window_ms) = scenario.key_window_ms {
                    for (process, name) in [
                        (ProcessName::BrokerSim, "BROKER_SIM__KEY_WINDOW_MS"),
                        (ProcessName::BrokerGateway, "BROKER_GATEWAY__PROFILE__KEY_WINDOW_MS"),
                    ] {
                        variables.entry(process).or_default().push((name.to_owned(), window_ms.to_string()));
                    }
                }
                variables
            }
            Self::Redis | Self::Bus { .. } => BTreeMap::from([no_push]),
            _ => BTreeMap::new(),
        }
    }

    /// How many copies of each process.
    const fn copies(&self) -> u8 {
        match self {
            Self::Copies { copies, .. } => *copies,
            Self::Freeze => 2,
            _ => 1,
        }
    }

    /// The deposits of the customers: some rich, one that cannot pay much.
    fn deposits(&self) -> Vec<Decimal> {
        match self {
            Self::Demo => [250_000, 250_000, 250_000, 250_000, 1_000_000, 2_000].map(Decimal::from).to_vec(),
            Self::Overspend | Self::Duplicate | Self::Hangup | Self::Trace => vec![Decimal::from(100_000)],
            _ => {
                let rich = self.scenario().map_or(2_000_000, |scenario| scenario.deposit);
                [rich; 11].into_iter().chain([2_000]).map(Decimal::from).collect()
            }
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
    let collector = match arguments.command {
        Command::Trace => Some(Collector::start(trace::AUTHORIZATION).await.context("the collector")?),
        _ => None,
    };
    let network = match arguments.command {
        Command::Cut => Some(Network::start().await.context("the network")?),
        _ => None,
    };
    let mut extra = collector.as_ref().map_or_else(|| arguments.command.extra(), trace::variables);
    if matches!(arguments.command, Command::DiskFull) {
        disk::private_mounts()?;
        disk::settings(&mut extra);
    }
    let clocks = match arguments.command {
        Command::ClockStep => Some(Clocks::prepare(&checkout.join(".run").join(&name), &mut extra)?),
        _ => None,
    };
    if let Some(network) = &network {
        network.stand_between(&mut extra);
    }
    let demo = matches!(arguments.command, Command::Demo);
    let started = Instant::now();
    let options = ExerciseOptions {
        checkout,
        instance: name.clone(),
        bin,
        seed: arguments.seed,
        copies: arguments.command.copies(),
        faults: arguments.command.has_faults() && !arguments.no_faults,
        deposits: arguments.command.deposits(),
        extra,
        disk_mib: matches!(arguments.command, Command::DiskFull).then_some(disk::SIZE_MIB),
        broker_url: network.as_ref().map(Network::leads_to),
        announce: announcer(demo),
    };
    let exercise = Box::pin(Exercise::start(options)).await?;
    let mut result =
        Box::pin(perform(&exercise, &arguments, collector.as_ref(), network.as_ref(), clocks.as_ref())).await;
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

async fn perform(
    exercise: &Exercise,
    arguments: &Arguments,
    collector: Option<&Collector>,
    network: Option<&Network>,
    clocks: Option<&Clocks>,
) -> anyhow::Result<(Outcome, String)> {
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
            let options = KillOptions {
                processes: ProcessName::ENGINE.into_iter().chain(ProcessName::ENGINE).chain(servers).collect(),
                times: 1,
                lasting: Duration::from_secs(*seconds),
                redis: false,
                seed: arguments.seed,
                load,
                settle_limit: settle,
            };
            kill::run(exercise, &options).await?
        }
        Command::Cut => cut::run(exercise, network.context("there is no network")?, load, settle).await?,
        Command::Freeze => outage::freeze(exercise, arguments.seed, load, settle).await?,
        Command::ReadOnly => outage::read_only(exercise, load, settle).await?,
        Command::DiskFull => disk::run(exercise, load, settle).await?,
        Command::ClockStep => clock::run(exercise, clocks.context("there are no clocks")?, load, settle).await?,
        Command::Kill { process, times, redis } => {
            let processes = if process == "all" { ProcessName::ENGINE.to_vec() } else { vec![process.parse()?] };
            let options = KillOptions {
                processes,
                times: *times,
                lasting: Duration::ZERO,
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

fn list() {
    for scenario in SCENARIOS {
        say(&format!("{:<22} {}", scenario.name, scenario.what));
    }
    for (name, what) in DRILLS {
        say(&format!("{name:<22} {what}"));
    }
}

async fn run_all(arguments: &Arguments, names: &[String], seeds: u64) -> anyhow::Result<ExitCode> {
    let all = SCENARIOS.iter().map(|scenario| scenario.name).chain(DRILLS.iter().map(|(name, _)| *name));
    let names: Vec<String> = if names.is_empty() { all.map(str::to_owned).collect() } else { names.to_vec() };
    if let Some(unknown) = names.iter().find(|name| Command::named(name).is_none()) {
        anyhow::bail!("there is no drill {unknown:?}; see `drill list`");
    }
    let series = Series {
        program: std::env::current_exe()?,
        checkout: arguments.checkout.clone(),
        names,
        seed: arguments.seed,
        seeds,
        orders: arguments.orders,
        settle_limit_s: arguments.settle_limit_s,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_of_the_list_is_one_and_goes_by_its_name() {
        let scenarios = SCENARIOS.iter().map(|scenario| scenario.name);
        for name in scenarios.chain(DRILLS.iter().map(|(name, _)| *name)) {
            assert_eq!(Command::named(name).unwrap().name(), name);
        }
        assert!(Command::named("kill-nobody").is_none());
    }
}
