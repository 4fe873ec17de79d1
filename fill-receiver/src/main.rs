//! The fill receiver's process: reads its configuration, wires the parts, and ends on a signal.

use anyhow::Context;
use fill_receiver::config::Settings;
use fill_receiver::service::{Service, migrate};
use platform::clock::{SystemClock, SystemIds};
use platform::config::Configuration;
use platform::process::{Arguments, Command};
use platform::{http, process, shutdown, telemetry, tls, trace};
use std::process::ExitCode;
use std::sync::Arc;

const NAME: &str = "fill-receiver";
const ABOUT: &str = "Receives what brokers tell about orders, and never forgets it";

// One thread: the work waits for sockets, and threads that wake each other took a tenth of the processor. More work is
// for more copies.
#[tokio::main(worker_threads = 1)]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse_for(NAME, ABOUT, env!("CARGO_PKG_VERSION"));
    let loaded = Settings::load(arguments.config.as_deref()).context("configuration")?;
    match arguments.command_or_run() {
        Command::CheckConfig => {
            process::print(&loaded.report()).context("standard output")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Migrate => {
            let _metrics = telemetry::init(NAME, &fill_receiver::metrics::ALL)?;
            migrate(&loaded.settings).await.context("migrate")?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Run => {
            tls::install_crypto_provider();
            let metrics = telemetry::init(NAME, &fill_receiver::metrics::ALL)?;
            trace::start(NAME, &loaded.settings.telemetry).context("traces")?;
            let end = shutdown::on_signal().context("signal handlers")?;
            let clock = Arc::new(SystemClock);
            let base = |health| http::ops_router(metrics, health);
            let service = Service::start(loaded.settings, clock, &SystemIds, base, end).await.context("start")?;
            tracing::info!(ops_addr = %service.ops_addr, push_addr = ?service.push_addr, "fill receiver runs");
            let ended = service.ended().await;
            trace::end().await;
            Ok(ended.exit_code())
        }
    }
}
