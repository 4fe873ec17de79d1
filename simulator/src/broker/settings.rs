//! What a broker is started with.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::parser::ValueSource;
use contracts::calendar::MarketHours;

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
    #[arg(long, env = "BROKER_SIM__KEY_ID")]
    pub key_id: String,
    /// Secret that clients must show.
    #[arg(long, env = "BROKER_SIM__SECRET_KEY", hide_env_values = true)]
    pub secret_key: String,
    /// Accounts at this broker, comma-separated.
    #[arg(long = "account-id", env = "BROKER_SIM__ACCOUNT_ID", value_delimiter = ',', required = true)]
    pub account_ids: Vec<String>,
    /// Seed of everything that looks random.
    #[arg(long, env = "BROKER_SIM__SEED", default_value_t = 1)]
    pub seed: u64,
    /// File in which the broker survives its own restart; without it everything is forgotten.
    #[arg(long, env = "BROKER_SIM__STATE_FILE")]
    pub state_file: Option<PathBuf>,
    /// `always` or `real`.
    #[arg(long, env = "BROKER_SIM__MARKET_HOURS", default_value = "always")]
    pub market_hours: MarketHours,
    /// Events kept for replay; older ones are answered with 410.
    #[arg(long, env = "BROKER_SIM__EVENTS_RETAINED_MAX", default_value_t = 1_000_000)]
    pub events_retained_max: usize,
    /// Pushes.
    #[command(flatten)]
    pub push: PushSettings,
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
            .field("market_hours", &self.market_hours)
            .finish_non_exhaustive()
    }
}
