//! The fill receiver's process: reads its configuration, wires the parts, and ends on a signal.

use anyhow::Context;
use clap::{Parser, Subcommand};
use fill_receiver::config::Settings;
use fill_receiver::service::{Ended, Service, migrate};
use platform::clock::{SystemClock, SystemIds};
use platform::{http, shutdown, telemetry, tls};
use std::path::PathBuf;
use std::sync::Arc;

/// Receives what brokers tell about orders, and never forgets it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// A TOML file that is laid over the compiled-in defaults.
    #[arg(long, global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Check the schema and receive (the default).
    Run,
    /// Apply the migrations and exit.
    Migrate,
    /// Read the configuration, say whether it is valid, and exit.
    CheckConfig,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings::load(arguments.config.as_deref()).context("configuration")?;
    match arguments.command.unwrap_or(Command::Run) {
        Command::CheckConfig => Ok(()),
        Command::Migrate => {
            let _metrics = telemetry::init("fill-receiver")?;
            migrate(&settings).await.context("migrate")
        }
        Command::Run => {
            tls::install_crypto_provider();
            let metrics = telemetry::init("fill-receiver")?;
            let end = shutdown::on_signal().context("signal handlers")?;
            let clock = Arc::new(SystemClock);
            let base = |health| http::ops_router(metrics, health);
            let service = Service::start(settings, clock, &SystemIds, base, end).await.context("start")?;
            tracing::info!(ops_addr = %service.ops_addr, "fill receiver runs");
            match service.ended().await {
                Ended::AsAsked => Ok(()),
                Ended::TaskFailed => anyhow::bail!("a task ended by itself"),
            }
        }
    }
}
