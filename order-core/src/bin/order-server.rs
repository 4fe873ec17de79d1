//! The order server's process: reads its configuration, wires the parts, and ends on a signal.

use anyhow::Context;
use order_core::config::Settings;
use order_core::service::{Service, migrate};
use platform::clock::{SystemClock, SystemIds};
use platform::config::Configuration;
use platform::process::{Arguments, Command};
use platform::{http, process, shutdown, telemetry, tls, trace};
use std::process::ExitCode;
use std::sync::Arc;

const NAME: &str = "order-server";
const ABOUT: &str = "Takes customers' orders, keeps their cash and shares, and serves the order API";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse_for(NAME, ABOUT, env!("CARGO_PKG_VERSION"));
    let loaded = Settings::load(arguments.config.as_deref()).context("configuration")?;
    match arguments.command_or_run() {
        Command::CheckConfig => {
            process::print(&loaded.report()).context("standard output")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate => {
            let _metrics = telemetry::init(NAME, &order_core::metrics::ALL)?;
            migrate(&loaded.settings).await.context("migrate")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run => {
            tls::install_crypto_provider();
            let metrics = telemetry::init(NAME, &order_core::metrics::ALL)?;
            trace::start(NAME, &loaded.settings.telemetry).context("traces")?;
            let end = shutdown::on_signal().context("signal handlers")?;
            let base = |health| http::ops_router(metrics, health);
            let start = Service::start(loaded.settings, Arc::new(SystemClock), Arc::new(SystemIds), base, end);
            let service = Box::pin(start).await.context("start")?;
            tracing::info!(api_addr = %service.api_addr, ops_addr = %service.ops_addr, "order server runs");
            let ended = service.ended().await;
            trace::end().await;
            Ok(ended.exit_code())
        }
    }
}
