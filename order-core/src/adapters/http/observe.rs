//! An id for every request, and how many there were and how long they took.

use super::ApiState;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use tracing::Instrument;
use tracing::field::Empty;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Serves a request inside a span that carries its id, and answers with the id.
pub(super) async fn observe(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let id = state.ids.uuid().to_string();
    // The pattern, never the path: a label with an order id in it would grow without end.
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = known_method(request.method().as_str());
    let span = tracing::info_span!("request", request.id = %id, http.method = method, http.route = %route,
        order_id = Empty, client_order_id = Empty, account_id = Empty);
    let started = Instant::now();
    let mut response = next.run(request).instrument(span).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("api_requests_total", "method" => method, "route" => route.clone(), "status" => status)
        .increment(1);
    metrics::histogram!("api_request_duration_seconds", "method" => method, "route" => route).record(started.elapsed());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// A client may invent methods; labels may not grow with them.
fn known_method(method: &str) -> &'static str {
    match method {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PATCH" => "PATCH",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}
