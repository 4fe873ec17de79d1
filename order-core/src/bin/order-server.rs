//! The order server's process: reads its configuration, wires the parts, and ends on a signal.

use anyhow::Context;
use clap::{Parser, Subcommand};
use order_core::config::Settings;
use order_core::service::{Ended, Service, migrate};
use platform::clock::{SystemClock, SystemIds};
use platform::{http, shutdown, telemetry, tls};
use std::path::PathBuf;
use std::sync::Arc;

/// Takes customers' orders, keeps their cash and shares, and serves the order API.
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
    /// Check the schema and serve (the default).
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
            let _metrics = telemetry::init("order-server")?;
            migrate(&settings).await.context("migrate")
        }
        Command::Run => {
            tls::install_crypto_provider();
            let metrics = telemetry::init("order-server")?;
            let end = shutdown::on_signal().context("signal handlers")?;
            let base = |health| http::ops_router(metrics, health);
            let start = Service::start(settings, Arc::new(SystemClock), Arc::new(SystemIds), base, end);
            let service = Box::pin(start).await.context("start")?;
            tracing::info!(api_addr = %service.api_addr, ops_addr = %service.ops_addr, "order server runs");
            match service.ended().await {
                Ended::AsAsked => Ok(()),
                Ended::TaskFailed => anyhow::bail!("a task ended by itself"),
            }
        }
    }
}
