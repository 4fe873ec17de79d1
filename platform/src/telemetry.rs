//! Structured logs and metrics.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Why telemetry could not start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// Another subscriber is installed already.
    #[error("log subscriber could not be installed")]
    Logs(#[source] TryInitError),
    /// The metrics recorder could not be built or installed.
    #[error("metrics recorder could not be installed")]
    Metrics(#[source] BuildError),
}

/// Bucket limits for durations in seconds: from a lock round trip to a stuck call.
const SECONDS_BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Whatever `RUST_LOG` asks for: below this level websockets write what clients send, secrets too.
const SECRETIVE: [&str; 1] = ["tungstenite=debug"];

/// Starts JSON logs on standard error (level by `RUST_LOG`, default `info`) and the metrics
/// recorder of this process.
///
/// # Errors
/// [`TelemetryError`] when either is started already.
pub fn init(service: &'static str) -> Result<PrometheusHandle, TelemetryError> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let filter = SECRETIVE.iter().filter_map(|rule| rule.parse().ok()).fold(filter, EnvFilter::add_directive);
    let logs = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(filter).with(logs).try_init().map_err(TelemetryError::Logs)?;
    let handle = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS_BUCKETS)
        .map_err(TelemetryError::Metrics)?
        .install_recorder()
        .map_err(TelemetryError::Metrics)?;
    Ok(handle)
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
