//! Sends steps to a collector. Bounded, in a thread of its own; a collector that is slow or gone
//! costs steps, never an order.

use super::TelemetryConfig;
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanProcessor};
use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::Duration;
use thiserror::Error;
use tokio::runtime::Handle;

/// Longest wait at the end of a process for what still waits.
const END_MAX: Duration = Duration::from_secs(2);

/// Why traces cannot be sent.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The HTTP client.
    #[error("http client for traces could not be built")]
    Client(#[source] reqwest::Error),
    /// The exporter.
    #[error("traces cannot be sent to telemetry.otlp_endpoint")]
    Exporter(#[source] ExporterBuildError),
}

#[derive(Debug)]
pub(super) struct Tracer {
    pub(super) one_in: u32,
    processor: BatchSpanProcessor,
}

impl Tracer {
    /// Never waits: what does not fit the queue is dropped.
    pub(super) fn take(&self, data: SpanData) {
        self.processor.on_end(data);
    }
}

static TRACER: OnceLock<Tracer> = OnceLock::new();

pub(super) fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

/// Requests run on the process's runtime; the exporter's thread has none.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let reply = client.execute(request.try_into()?).await?;
            let status = reply.status();
            // What a collector says is not needed, and may be of any size.
            Ok::<_, reqwest::Error>(status)
        });
        let status = sent.await??;
        Ok(http::Response::builder().status(status).body(Bytes::new())?)
    }
}

/// Starts sending, where an address is configured. Called once, inside the runtime, after the crypto
/// provider is installed.
///
/// # Errors
/// [`ExportError`].
pub fn start(service: &'static str, config: &TelemetryConfig) -> Result<(), ExportError> {
    if config.otlp_endpoint.is_empty() {
        return Ok(());
    }
    let timeout = Duration::from_millis(config.otlp_timeout_ms);
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .build()
        .map_err(ExportError::Client)?;
    let mut headers = HashMap::new();
    if !config.otlp_authorization.expose().is_empty() {
        headers.insert("authorization".to_owned(), config.otlp_authorization.expose().to_owned());
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Sender { client, runtime: Handle::current() })
        .with_endpoint(&config.otlp_endpoint)
        .with_timeout(timeout)
        .with_headers(headers)
        .build()
        .map_err(ExportError::Exporter)?;
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(config.queue_len_max)
        .with_max_export_batch_size(config.batch_len_max)
        .with_scheduled_delay(Duration::from_millis(config.interval_ms))
        .build();
    let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch).build();
    let resource = Resource::builder_empty().with_attribute(KeyValue::new("service.name", service)).build();
    processor.set_resource(&resource);
    if TRACER.set(Tracer { one_in: config.trace_one_in, processor }).is_err() {
        tracing::warn!("traces are sent already");
    }
    Ok(())
}

/// Sends what still waits, for a bounded time. At the end of a process.
pub async fn end() {
    let Some(tracer) = tracer() else { return };
    let ended = tokio::task::spawn_blocking(|| tracer.processor.shutdown_with_timeout(END_MAX));
    if !matches!(tokio::time::timeout(END_MAX, ended).await, Ok(Ok(Ok(())))) {
        tracing::warn!("the last steps of traces were not sent");
    }
}
