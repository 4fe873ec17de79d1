//! What a broker is started with.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::parser::ValueSource;
use clap::{Args, ValueEnum};
use contracts::calendar::{MarketHours, Pace};
use rust_decimal::Decimal;

use super::profile::Profile;
use super::push::PushSettings;

/// Most accounts of one broker.
pub(super) const ACCOUNTS_MAX: usize = 64;

/// Start settings; each flag has an environment variable.
#[derive(Clone, Args)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one. Keep it on loopback: the operator calls need no
    /// key.
    #[arg(long, env = "BROKER_SIM__ADDR", default_value = "127.0.0.1:8090")]
    pub addr: SocketAddr,
    /// Key id that clients must show.
    #[arg(long, env = "BROKER_SIM__KEY_ID", default_value = "sim-key")]
    pub key_id: String,
    /// Secret that clients must show.
    #[arg(long, env = "BROKER_SIM__SECRET_KEY", default_value = "sim-secret", hide_env_values = true)]
    pub secret_key: String,
    /// Accounts at this broker, comma-separated. The Trading API serves the first of them.
    #[arg(
        long = "account-id",
        env = "BROKER_SIM__ACCOUNT_ID",
        value_delimiter = ',',
        default_value = "a7e7c1f2-0000-4000-8000-000000000001"
    )]
    pub account_ids: Vec<String>,
    /// What each account has at first, in US dollars.
    #[arg(long, env = "BROKER_SIM__CASH", default_value = "1000000")]
    pub cash: Decimal,
    /// Refuses orders beyond an account's cash or shares from the start.
    #[arg(long, env = "BROKER_SIM__CHECKS_FUNDS")]
    pub checks_funds: bool,
    /// Which promises the broker makes at first.
    #[arg(long, env = "BROKER_SIM__PROFILE", value_enum, default_value_t)]
    pub profile: Profile,
    /// Seed of everything that looks random.
    #[arg(long, env = "BROKER_SIM__SEED", default_value_t = 1)]
    pub seed: u64,
    /// File in which the broker survives its own restart; without it everything is forgotten.
    #[arg(long, env = "BROKER_SIM__STATE_FILE")]
    pub state_file: Option<PathBuf>,
    /// How long a windowed broker enforces a key, in milliseconds of the exchange's clock.
    #[arg(long, env = "BROKER_SIM__KEY_WINDOW_MS", default_value_t = 600_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    pub key_window_ms: u64,
    /// `always` or `real`.
    #[arg(long, env = "BROKER_SIM__MARKET_HOURS", default_value = "always")]
    pub market_hours: MarketHours,
    /// How fast the exchange's clock goes: `real`, or MOMENT/SHOWN/MINUTE_MS.
    #[arg(long, env = "BROKER_SIM__PACE", default_value = "real")]
    pub pace: Pace,
    /// CSV file of price bars (symbol,timestamp,open,high,low,close); symbols without any walk at random.
    #[arg(long, env = "BROKER_SIM__BARS")]
    pub bars: Option<PathBuf>,
    /// Events kept for replay; older ones are answered with 410.
    #[arg(long, env = "BROKER_SIM__EVENTS_RETAINED_MAX", default_value_t = 1_000_000)]
    pub events_retained_max: usize,
    /// Pushes.
    #[command(flatten)]
    pub push: PushSettings,
}

/// A further broker beside the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraBroker {
    /// Its name: in logs, and behind the name of its state file.
    pub name: String,
    /// Which promises it makes at first.
    pub profile: Profile,
    /// Where it listens.
    pub addr: SocketAddr,
}

/// A text that is no `NAME=PROFILE@ADDRESS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a broker is written NAME=PROFILE@ADDRESS, with the profile full, windowed, lookup_only or blind")]
pub struct ExtraBrokerError;

impl FromStr for ExtraBroker {
    type Err = ExtraBrokerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, rest) = text.split_once('=').ok_or(ExtraBrokerError)?;
        let (profile, addr) = rest.split_once('@').ok_or(ExtraBrokerError)?;
        let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        let profile = Profile::from_str(profile, false).map_err(|_| ExtraBrokerError)?;
        let addr = addr.parse().map_err(|_| ExtraBrokerError)?;
        if plain { Ok(Self { name: name.to_owned(), profile, addr }) } else { Err(ExtraBrokerError) }
    }
}

impl ExtraBroker {
    /// Its settings: those of the first broker, with a seed, a state file, a profile and an address of
    /// its own. It pushes nothing.
    #[must_use]
    pub fn settings(self, first: &Settings, number: u64) -> Settings {
        let state_file = first.state_file.as_ref().map(|path| {
            let mut name = path.clone().into_os_string();
            name.push(".");
            name.push(&self.name);
            PathBuf::from(name)
        });
        Settings {
            addr: self.addr,
            profile: self.profile,
            seed: first.seed.wrapping_add(number),
            state_file,
            push: PushSettings::default(),
            ..first.clone()
        }
    }
}

/// The settings in effect, one line each with where it came from; secrets are masked.
#[must_use]
pub fn report(command: &clap::Command, matches: &clap::ArgMatches) -> String {
    let mut text = String::new();
    for argument in command.get_arguments() {
        let Some(name) = argument.get_env().and_then(std::ffi::OsStr::to_str) else { continue };
        let Some(origin) = matches.value_source(argument.get_id().as_str()) else { continue };
        let origin = match origin {
            ValueSource::EnvVariable => "environment",
            ValueSource::CommandLine => "command line",
            _ => "default",
        };
        let values = matches.get_raw(argument.get_id().as_str()).into_iter().flatten();
        let value = values.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(",");
        // What must not be in a help text must not be here.
        let value = if argument.is_hide_env_values_set() && !value.is_empty() { "***" } else { &value };
        // Writing to a text cannot fail.
        let _written = writeln!(text, "{name} = {value:?}  # {origin}");
    }
    text
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Settings")
            .field("addr", &self.addr)
            .field("key_id", &self.key_id)
            .field("account_ids", &self.account_ids)
            .field("seed", &self.seed)
            .field("profile", &self.profile)
            .field("market_hours", &self.market_hours)
            .finish_non_exhaustive()
    }
}
