//! The HTTP chassis: a listener with limits, bearer tokens, and the health routes of every process.

mod places;
mod stream;

pub use places::Peer;

use crate::config::Secret;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, serve::Listener};
use http::HeaderValue;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use places::Places;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use stream::StallGuard;
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Limits of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ServerLimits {
    /// Most open connections; further ones wait in the system's accept queue.
    pub connections_max: usize,
    /// Most open connections of one address; further ones are closed at once, so that no address
    /// takes all of them.
    pub connections_per_address_max: usize,
    /// Longest wait for a request's headers, which also ends idle keep-alive connections.
    pub header_timeout: Duration,
    /// Longest time in which a client may read nothing of an answer that is waiting for it.
    pub write_stall_max: Duration,
    /// Most bytes of a request's head.
    pub head_len_max: usize,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Longest wait for requests under way at shutdown.
    pub drain_timeout: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 2048,
            header_timeout: Duration::from_secs(75),
            write_stall_max: Duration::from_secs(30),
            head_len_max: 32 * 1024,
            headers_max: 100,
            drain_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves HTTP/1.1 until `shutdown`, then lets requests under way finish, for a bounded time.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: CancellationToken) {
    let permits = Arc::new(Semaphore::new(limits.connections_max));
    let places = Places::new(limits.connections_per_address_max);
    let open = TaskTracker::new();
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.head_len_max.max(8192))
        // The buffer may grow past its limit before anyone looks.
        .max_header_size(limits.head_len_max)
        .max_headers(limits.headers_max)
        .keep_alive(true);
    let mut listener = listener;
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, peer) = tokio::select! {
            // axum's listener waits out accept errors such as too many open files.
            accepted = Listener::accept(&mut listener) => accepted,
            () = shutdown.cancelled() => break,
        };
        let peer = Peer(peer);
        let Some(place) = places.take(peer) else {
            metrics::counter!("http_connections_refused_total").increment(1);
            continue;
        };
        let _nodelay = stream.set_nodelay(true);
        let stream = TokioIo::new(StallGuard::new(stream, limits.write_stall_max));
        let connection = builder.serve_connection(stream, TowerToHyperService::new(served(&router, peer)));
        // hyper-util's own graceful shutdown does not take connections that may become websockets.
        let (connection, stop) = (connection.with_upgrades(), shutdown.clone());
        open.spawn(async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended with an error");
            }
            drop((permit, place));
        });
    }
    drop(listener);
    open.close();
    if tokio::time::timeout(limits.drain_timeout, open.wait()).await.is_err() {
        tracing::warn!("connections were still open at the end of the drain time");
    }
}

/// The router, told who is asking.
///
/// A request with a body in chunks is the last one of its connection: hyper lets `Transfer-Encoding`
/// win over a `Content-Length` beside it and hides the latter, and a proxy in front that decides the
/// other way round would pass on the rest of the body as another client's request.
fn served(
    router: &Router,
    peer: Peer,
) -> impl tower::Service<hyper::Request<hyper::body::Incoming>, Response = Response, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let router = router.clone();
    tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        let is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        request.extensions_mut().insert(peer);
        async move {
            let mut response = tower::ServiceExt::oneshot(router, request).await?;
            if is_chunked {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response)
        }
    })
}

/// A port that cannot be had.
#[derive(Debug, Error)]
#[error("could not listen on {addr}")]
pub struct ListenError {
    addr: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// Binds a listener, and says where: port 0 takes any that is free.
///
/// # Errors
/// [`ListenError`], such as for a port that is taken.
pub async fn bind(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), ListenError> {
    let failed = |source| ListenError { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// What a process says about itself.
pub trait Health: Send + Sync + 'static {
    /// Whether a load balancer should send it traffic; the reason when not.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn ready(&self) -> Result<(), String>;
    /// Details as JSON: modes, positions, connections.
    fn report(&self) -> Value;
}

/// A process's health that says since when it drains: from the moment when it is asked to end it is
/// not ready, although it still answers, so that load balancers turn away before the port closes.
struct DrainingHealth {
    inner: Arc<dyn Health>,
    asked: CancellationToken,
}

impl Health for DrainingHealth {
    fn ready(&self) -> Result<(), String> {
        if self.asked.is_cancelled() { Err("draining".to_owned()) } else { self.inner.ready() }
    }

    fn report(&self) -> Value {
        let mut report = self.inner.report();
        if let (Value::Object(fields), true) = (&mut report, self.asked.is_cancelled()) {
            fields.insert("status".to_owned(), json!("draining"));
        }
        report
    }
}

/// Health that turns red when the process is asked to end.
#[must_use]
pub fn draining(health: Arc<dyn Health>, asked: CancellationToken) -> Arc<dyn Health> {
    Arc::new(DrainingHealth { inner: health, asked })
}

/// Ends connections after their next answer (`Connection: close`) once the process is asked to end,
/// so that clients come back elsewhere before the port closes.
pub fn closing(router: Router, asked: CancellationToken) -> Router {
    router.layer(middleware::from_fn_with_state(asked, close_when_asked))
}

async fn close_when_asked(State(asked): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    // A connection that becomes a stream ends by its own token.
    if asked.is_cancelled() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The routes that every process serves on its operator port without a credential:
/// `GET /ops/v1/health`, `GET /ops/v1/ready`, `GET /metrics`.
pub fn ops_router(prometheus: PrometheusHandle, health: Arc<dyn Health>) -> Router {
    let health_routes =
        Router::new().route("/ops/v1/health", get(report)).route("/ops/v1/ready", get(ready)).with_state(health);
    health_routes.merge(metrics_router(prometheus))
}

/// `GET /metrics` alone.
pub fn metrics_router(prometheus: PrometheusHandle) -> Router {
    Router::new().route("/metrics", get(render)).with_state(prometheus)
}

async fn report(State(health): State<Arc<dyn Health>>) -> Json<Value> {
    Json(health.report())
}

async fn ready(State(health): State<Arc<dyn Health>>) -> Response {
    match health.ready() {
        Ok(()) => Json(json!({"ready": true})).into_response(),
        Err(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"ready": false, "reason": reason}))).into_response()
        }
    }
}

async fn render(State(prometheus): State<PrometheusHandle>) -> String {
    prometheus.run_upkeep();
    prometheus.render()
}

/// Puts a bearer token in front of every route of a router. An empty token admits nobody.
pub fn require_bearer(router: Router, token: Secret) -> Router {
    router.layer(middleware::from_fn_with_state(Arc::new(token), check_bearer))
}

async fn check_bearer(State(token): State<Arc<Secret>>, request: Request, next: Next) -> Response {
    if bearer_matches(request.headers(), token.expose()) {
        return next.run(request).await;
    }
    unauthorized()
}

/// The answer to a request without a valid token.
pub(crate) fn unauthorized() -> Response {
    let body = Json(json!({"code": 40_110_000, "message": "a valid bearer token is required"}));
    (StatusCode::UNAUTHORIZED, body).into_response()
}

/// The token that a request carries.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "))
}

fn bearer_matches(headers: &HeaderMap, token: &str) -> bool {
    match bearer(headers) {
        Some(given) if !token.is_empty() => bool::from(given.as_bytes().ct_eq(token.as_bytes())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_token_passes_and_an_empty_one_admits_nobody() {
        let mut headers = HeaderMap::new();
        assert!(!bearer_matches(&headers, "t"));
        headers.insert(header::AUTHORIZATION, "Bearer t".parse().unwrap());
        assert!(bearer_matches(&headers, "t"));
        assert!(!bearer_matches(&headers, "tt"));
        headers.insert(header::AUTHORIZATION, "Bearer ".parse().unwrap());
        assert!(!bearer_matches(&headers, ""));
    }
}
