//! Keys and rate limit of the dialect's routes.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::deliver;
use crate::broker::exchange;
use crate::broker::shared::{Allowance, Shared};

/// Lets in who has the key and is within the limit, and says how much is left.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let Ok(limit) = shared.with(|exchange| exchange.config().requests_per_minute) else {
        return deliver::hang_up();
    };
    let allowance = shared.admit(limit);
    let mut response = if !is_authorized(request.headers(), &shared.credentials) {
        // Without a code, as the real broker does it.
        (StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "unauthorized."}))).into_response()
    } else if allowance.allowed {
        next.run(request).await
    } else {
        deliver::deliver(exchange::too_many_requests(), &shared).await
    };
    write_allowance(response.headers_mut(), allowance);
    response
}

fn is_authorized(headers: &HeaderMap, credentials: &str) -> bool {
    let presented = || {
        let (scheme, encoded) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let decoded = STANDARD.decode(encoded.trim()).ok()?;
        scheme.eq_ignore_ascii_case("basic").then_some(decoded)
    };
    presented().is_some_and(|presented| presented == credentials.as_bytes())
}

fn write_allowance(headers: &mut HeaderMap, allowance: Allowance) {
    headers.insert("x-ratelimit-limit", HeaderValue::from(allowance.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(allowance.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(allowance.reset_at));
}
