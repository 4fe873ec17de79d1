//! Structured logs and metrics.

mod chain;
pub mod metric;
pub mod shared;

pub use chain::Chain;
use metric::{Group, Kind, SECONDS};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::time::Duration;
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Target of the log lines that tell each step of each order, at level `debug`: `RUST_LOG=info,orders=debug`.
pub const ORDERS: &str = "orders";

/// Why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Another subscriber is installed already.
    #[error("log subscriber could not be installed")]
    Logs(#[source] TryInitError),
    /// The metrics recorder could not be built or installed.
    #[error("metrics recorder could not be installed")]
    Metrics(#[source] BuildError),
    /// The thread that tidies histograms.
    #[error("thread for metrics could not be started")]
    Thread(#[source] std::io::Error),
}

/// Bucket limits for durations in seconds: from a lock round trip to a stuck call.
const SECONDS_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Bucket limits for how many of something: from one to the largest batch.
const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];
/// Time between two rounds that fold the samples of histograms into their buckets; until then each is kept.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Whatever `RUST_LOG` asks for: below this level websockets write what clients send, secrets too.
const SECRETIVE: [&str; 1] = ["tungstenite=debug"];

/// Starts JSON logs on standard error (level by `RUST_LOG`, default `info`) and the metrics
/// recorder of this process, which knows these groups of metrics.
///
/// # Errors
/// [`TelemetryError`] when either is started already.
pub fn init(service: &'static str, groups: &[&Group]) -> Result<PrometheusHandle, TelemetryError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let filter = SECRETIVE.iter().filter_map(|rule| rule.parse().ok()).fold(filter, EnvFilter::add_directive);
    // A log that nobody reads any more must not end the process.
    let logs = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    let logs = logs.log_internal_errors(false);
    tracing_subscriber::registry().with(filter).with(logs).try_init().map_err(TelemetryError::Logs)?;
    let handle = recorder(service, groups).map_err(TelemetryError::Metrics)?;
    for metric in groups.iter().flat_map(|group| group.metrics) {
        metric.announce();
    }
    let tidied = handle.clone();
    let tidy = move || loop {
        std::thread::sleep(UPKEEP_INTERVAL);
        tidied.run_upkeep();
    };
    std::thread::Builder::new().name("metrics".to_owned()).spawn(tidy).map_err(TelemetryError::Thread)?;
    Ok(handle)
}

fn recorder(service: &'static str, groups: &[&Group]) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)?;
    let metrics = groups.iter().flat_map(|group| group.metrics);
    for metric in metrics.filter(|metric| metric.kind == Kind::Histogram && metric.unit != SECONDS) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), COUNT_BUCKETS)?;
    }
    builder.install_recorder()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::filter::Directive;

    #[test]
    fn every_rule_against_secrets_in_logs_can_be_read() {
        assert!(SECRETIVE.iter().all(|rule| rule.parse::<Directive>().is_ok()));
    }
}
