//! The simulated broker as a process.

use anyhow::Context;
use clap::{CommandFactory, Parser};
use simulator::broker::{Settings, start};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A broker that speaks the Alpaca Broker dialect and fails in every way a real one does.
#[derive(Debug, Parser)]
#[command(name = "broker-sim", version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    refuse_unknown_variables()?;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A log that nobody reads any more must not end the broker.
    let log = tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr);
    log.log_internal_errors(false).init();

    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let seed = arguments.settings.seed;
    let broker = start(arguments.settings).await.context("starting the broker")?;
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
