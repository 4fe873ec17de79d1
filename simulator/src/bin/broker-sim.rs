//! Simulated brokers as a process.

use anyhow::Context;
use axum::Router;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use platform::telemetry;
use simulator::broker::{ExtraBroker, RunningBroker, Settings, metrics, report, start_beside};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

const NAME: &str = "broker-sim";
/// Most brokers of one process.
const BROKERS_MAX: usize = 16;

/// A broker that speaks the Alpaca Trading API and Broker API, and fails in every way a real one does.
#[derive(Debug, Parser)]
#[command(name = "broker-sim", version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
    /// A further broker in this process, of another profile and at another address, otherwise with the
    /// settings of the first: NAME=PROFILE@ADDRESS, such as night=blind@127.0.0.1:8093. May be repeated.
    #[arg(long = "broker", env = "BROKER_SIM__BROKERS", value_delimiter = ',')]
    brokers: Vec<ExtraBroker>,
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
    let brokers = start_all(arguments, &routes).await?;
    let stops: Vec<_> = brokers.iter().map(RunningBroker::stop_token).collect();
    let signals = tokio::spawn({
        let stops = stops.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stops.iter().for_each(|stop| stop.cancel());
        }
    });
    let mut running: JoinSet<_> = brokers.into_iter().map(RunningBroker::wait).collect();
    let mut ended = Ok(());
    while let Some(result) = running.join_next().await {
        // One that cannot go on takes the others with it: half a market proves nothing.
        stops.iter().for_each(|stop| stop.cancel());
        ended = ended.and(result.context("a broker's task failed")?.context("a broker stopped by itself"));
    }
    signals.abort();
    tracing::info!("all brokers have stopped");
    ended
}

async fn start_all(arguments: Arguments, routes: &Router) -> anyhow::Result<Vec<RunningBroker>> {
    anyhow::ensure!(arguments.brokers.len() < BROKERS_MAX, "at most {BROKERS_MAX} brokers run in one process");
    let mut all = vec![("main".to_owned(), arguments.settings.clone())];
    for (number, extra) in (1..).zip(arguments.brokers) {
        all.push((extra.name.clone(), extra.settings(&arguments.settings, number)));
    }
    let mut running = Vec::with_capacity(all.len());
    for (name, settings) in all {
        let (seed, profile, key_id) = (settings.seed, settings.profile, settings.key_id.clone());
        let broker =
            start_beside(settings, routes.clone()).await.with_context(|| format!("starting the broker {name}"))?;
        tracing::info!(%name, addr = %broker.addr(), ?profile, seed, %key_id, "the broker listens");
        running.push(broker);
    }
    Ok(running)
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
