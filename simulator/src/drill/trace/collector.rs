//! A small collector of traces: takes OTLP over HTTP on loopback and keeps what it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Largest message.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most steps that are kept; more are not taken.
const STEPS_MAX: usize = 100_000;

/// One step of a trace, as its process told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The process.
    pub service: String,
    /// What it did.
    pub name: String,
    /// The trace's id, in bytes.
    pub trace: Vec<u8>,
    /// Its own id.
    pub span: Vec<u8>,
    /// The step that it belongs to; empty for the first.
    pub parent: Vec<u8>,
    /// When it began, in nanoseconds since 1970.
    pub began_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// What is known about it.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Taken {
    authorization: Arc<str>,
    steps: Arc<Mutex<Vec<Step>>>,
}

/// A collector that runs until it is dropped.
#[derive(Debug)]
pub struct Collector {
    url: String,
    steps: Arc<Mutex<Vec<Step>>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Starts it on a free port; who does not show this `Authorization` is refused.
    ///
    /// # Errors
    /// When the system has no free port.
    pub async fn start(authorization: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1/traces", listener.local_addr()?);
        let taken = Taken { authorization: authorization.into(), steps: Arc::default() };
        let steps = Arc::clone(&taken.steps);
        let routes = Router::new().route("/v1/traces", post(take));
        let routes = routes.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(taken);
        let task = tokio::spawn(async move {
            // Only the end of the listener ends it, and then nothing arrives, which the drill tells.
            let _ended = axum::serve(listener, routes).await;
        });
        Ok(Self { url, steps, task })
    }

    /// Where traces are posted to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The steps of one trace, by their beginning.
    #[must_use]
    pub fn trace(&self, id: &[u8]) -> Vec<Step> {
        let steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Step> = steps.iter().filter(|step| step.trace == id).cloned().collect();
        found.sort_by_key(|step| (step.began_ns, step.ended_ns));
        found
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if shown != Some(&*taken.authorization) {
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(message) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut steps = taken.steps.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in message.resource_spans {
        let about = texts(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        let service = about.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            if steps.len() >= STEPS_MAX {
                return StatusCode::TOO_MANY_REQUESTS;
            }
            steps.push(Step {
                service: service.clone(),
                name: span.name,
                trace: span.trace_id,
                span: span.span_id,
                parent: span.parent_span_id,
                began_ns: span.start_time_unix_nano,
                ended_ns: span.end_time_unix_nano,
                attributes: texts(span.attributes),
            });
        }
    }
    StatusCode::OK
}

/// The attributes that are texts; ours all are.
fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value?.value? {
        Value::StringValue(text) => Some((attribute.key, text)),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}
