//! The drills by name, and how each is set up.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use rust_decimal::Decimal;

use super::scenario::{SCENARIOS, Scenario};
use crate::stack::{ProcessName, with_profile};

/// Drills on a private stack. Each ends with one line on the standard output, and exits with 1 when a promise broke.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// The checkout; `.run` and `.data` are in it.
    #[arg(long, default_value = ".", global = true)]
    pub checkout: PathBuf,
    /// One seed, one story, as far as processes that are killed allow it.
    #[arg(long, default_value_t = 1, global = true)]
    pub seed: u64,
    /// Leaves the simulated broker without faults.
    #[arg(long, global = true)]
    pub no_faults: bool,
    /// How many orders there are to be at least; each drill knows how many it needs.
    #[arg(long, global = true)]
    pub orders: Option<usize>,
    /// How long the end may take until all is quiet.
    #[arg(long, default_value_t = 240, global = true)]
    pub settle_limit_s: u64,
    /// The folder of the engine's programs with kill points, see `scripts/kill-points.sh`.
    #[arg(long, default_value = "target/kill-points/debug", global = true)]
    pub kill_points: PathBuf,
    /// A word that the folders and the report of this run get, so that others can go on beside it.
    #[arg(long, global = true, value_parser = label)]
    pub label: Option<String>,
    /// What there is to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What becomes a part of a file's name, and of no other run's.
fn label(text: &str) -> Result<String, String> {
    let fits = (1..=LABEL_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits { Ok(text.to_owned()) } else { Err(format!("1 to {LABEL_MAX} of a-z, 0-9 and -")) }
}

/// A name with the word of this run, where it has one.
#[must_use]
pub fn labelled(name: &str, label: Option<&str>) -> String {
    label.map_or_else(|| name.to_owned(), |label| format!("{name}.{label}"))
}

/// What there is to do.
#[derive(Debug, Subcommand)]
pub enum Command {
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
    /// A process dies at each of its kill points in turn, under load.
    Steps {
        /// order-server, broker-gateway or fill-receiver.
        process: ProcessName,
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

/// Longest word for a run.
const LABEL_MAX: usize = 32;
/// Orders of a drill at least, where nobody asks for another number.
pub const ORDERS_MIN: usize = 300;
/// What the drills of kill points begin with.
const STEPS: &str = "steps-";
/// Kills of a drill that is run by its name.
const KILLS: u32 = 12;

/// The drills beside those of [`SCENARIOS`], by name.
const DRILLS: &[(&str, &str)] = &[
    ("kill-order-server", "SIGKILL of the order server at random moments"),
    ("kill-broker-gateway", "SIGKILL of the gateway at random moments"),
    ("kill-fill-receiver", "SIGKILL of the receiver at random moments"),
    ("kill-postgres", "SIGKILL of PostgreSQL, which recovers from its log"),
    ("kill-broker-sim", "SIGKILL of the broker, which starts again from its books"),
    ("steps-order-server", "the order server dies at each of its kill points, one after the other"),
    ("steps-broker-gateway", "the gateway dies at each of its kill points, one after the other"),
    ("steps-fill-receiver", "the receiver dies at each of its kill points, one after the other"),
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
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
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
            _ if name.starts_with(STEPS) => Self::Steps { process: engine(name.strip_prefix(STEPS)?)? },
            _ => kill(name.strip_prefix("kill-")?.parse::<ProcessName>().ok()?.as_str()),
        })
    }

    /// What its line and its folder are called.
    #[must_use]
    pub fn name(&self) -> String {
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
            Self::Steps { process } => format!("{STEPS}{process}"),
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

    /// The way in which the broker alone fails, where that is the drill.
    #[must_use]
    pub fn scenario(&self) -> Option<&'static Scenario> {
        if let Self::Broker { name } = self { Scenario::named(name) } else { None }
    }

    /// Whether the simulated broker makes a bit of every mistake: not in the demonstration, whose story is the engine's
    /// own processes, and not where the drill has mistakes of its own.
    #[must_use]
    pub const fn has_faults(&self) -> bool {
        !matches!(self, Self::Demo | Self::Trace | Self::Broker { .. })
    }

    /// The ladder's minutes are seconds on a local stack. Where processes are killed, the time limits of calls are
    /// scaled with them, to what the simulated broker's mistakes take, a second at most: an order that was lost and
    /// is cancelled is in doubt until its `valid_until` and the longest recording delay are over.
    #[must_use]
    pub fn extra(&self) -> BTreeMap<ProcessName, Vec<(String, String)>> {
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
            // The receiver's points are in its pushes too.
            Self::Steps { process: ProcessName::FillReceiver } => {
                BTreeMap::from([(ProcessName::BrokerGateway, brisk.to_vec())])
            }
            Self::Steps { .. } => BTreeMap::from([(ProcessName::BrokerGateway, brisk.to_vec()), no_push]),
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
            // One customer posts everything.
            Self::Duplicate => BTreeMap::from([(
                ProcessName::OrderServer,
                vec![("ORDER_SERVER__LIMITS__REQUESTS_PER_MINUTE".to_owned(), "0".to_owned())],
            )]),
            Self::Redis | Self::Bus { .. } => BTreeMap::from([no_push]),
            _ => BTreeMap::new(),
        }
    }

    /// How many copies of each process.
    #[must_use]
    pub const fn copies(&self) -> u8 {
        match self {
            Self::Copies { copies, .. } => *copies,
            Self::Freeze => 2,
            _ => 1,
        }
    }

    /// The deposits of the customers: some rich, one that cannot pay much.
    #[must_use]
    pub fn deposits(&self) -> Vec<Decimal> {
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

/// The engine process of that name.
fn engine(name: &str) -> Option<ProcessName> {
    name.parse().ok().filter(|name| ProcessName::ENGINE.contains(name))
}

/// Every drill that is run by its name, with what it is.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    SCENARIOS.iter().map(|scenario| (scenario.name, scenario.what)).chain(DRILLS.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_with_words_of_their_own_share_no_name_with_each_other_or_with_another_drill() {
        let parse = |word| Arguments::try_parse_from(["drill", "--label", word, "list"]);
        assert_eq!(parse("first-2").unwrap().label.as_deref(), Some("first-2"));
        for word in ["", "../x", "a.b", "a/b", "A", &"x".repeat(33)] {
            assert!(parse(word).is_err(), "{word:?}");
        }
        assert_eq!(labelled("kill", None), "kill");
        assert!(all().all(|(name, _)| labelled("kill", Some("postgres")) != name));
        assert_ne!(labelled("chaos", Some("a")), labelled("chaos", Some("b")));
    }

    #[test]
    fn every_drill_of_the_list_is_one_and_goes_by_its_name() {
        for (name, _) in all() {
            assert_eq!(Command::named(name).unwrap().name(), name);
        }
        for name in ["kill-nobody", "steps-nobody", "steps-postgres"] {
            assert!(Command::named(name).is_none(), "{name}");
        }
    }
}
