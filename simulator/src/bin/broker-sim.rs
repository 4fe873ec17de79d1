//! The simulated broker as a process.

use anyhow::Context;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use platform::telemetry;
use simulator::broker::{Settings, metrics, report, start_beside};
use tokio::signal::unix::{SignalKind, signal};

const NAME: &str = "broker-sim";

/// A broker that speaks the Alpaca Broker dialect and fails in every way a real one does.
#[derive(Debug, Parser)]
#[command(name = "broker-sim", version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the settings, print what is in effect with secrets masked, and exit.
    CheckConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches)?;
    refuse_unknown_variables()?;
    if let Some(Command::CheckConfig) = arguments.command {
        platform::process::print(&report(&Arguments::command(), &matches)).context("standard output")?;
        return Ok(());
    }
    platform::tls::install_crypto_provider();
    let routes = platform::http::metrics_router(telemetry::init(NAME, &[&metrics::OWN])?);

    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let seed = arguments.settings.seed;
    let broker = start_beside(arguments.settings, routes).await.context("starting the broker")?;
    tracing::info!(addr = %broker.addr(), seed, "the broker listens");
    let stop = broker.stop_token();
    let signals = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    let ended = broker.wait().await.context("the broker stopped by itself");
    signals.abort();
    tracing::info!("the broker has stopped");
    ended
}

/// A variable of ours that no setting has is a typing error.
fn refuse_unknown_variables() -> anyhow::Result<()> {
    let command = Arguments::command();
    let known: Vec<_> = command.get_arguments().filter_map(clap::Arg::get_env).collect();
    let unknown = |name: &std::ffi::OsString| {
        name.to_string_lossy().starts_with("BROKER_SIM__") && !known.contains(&name.as_os_str())
    };
    match std::env::vars_os().map(|(name, _)| name).find(unknown) {
        Some(name) => anyhow::bail!("{} is not a setting of this program", name.to_string_lossy()),
        None => Ok(()),
    }
}
