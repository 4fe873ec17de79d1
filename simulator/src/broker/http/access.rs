//! Keys, tokens, maintenance and rate limit of the clients' routes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contracts::alpaca::codes;
use serde_json::json;

use super::deliver;
use super::error;
use crate::broker::exchange;
use crate::broker::shared::{Allowance, Shared};

/// Lets in who has the key and is within the limits, and says how much is left.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let state = shared.with(|exchange| {
        let config = exchange.config();
        let limits = (config.requests_per_minute, config.requests_per_second);
        (limits, config.tokens_required, exchange.is_in_maintenance())
    });
    let Ok((limits, tokens_required, closed)) = state else { return deliver::hang_up() };
    let allowance = shared.admit(limits.0, limits.1);
    let mut response = match presented(request.headers(), &shared) {
        Presented::Key if !tokens_required => admit(request, next, &shared, allowance, closed).await,
        Presented::Token => admit(request, next, &shared, allowance, closed).await,
        Presented::StaleToken => {
            error(StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED, "the token is not valid any more")
        }
        // Without a code, as the real broker does it.
        Presented::Key | Presented::Nothing => {
            (StatusCode::UNAUTHORIZED, axum::Json(json!({"message": "unauthorized."}))).into_response()
        }
    };
    write_allowance(response.headers_mut(), allowance);
    response
}

async fn admit(request: Request, next: Next, shared: &Shared, allowance: Allowance, closed: bool) -> Response {
    if !allowance.allowed {
        return deliver::deliver(exchange::too_many_requests(), shared).await;
    }
    if closed {
        return deliver::deliver(exchange::under_maintenance(), shared).await;
    }
    next.run(request).await
}

/// What a client showed.
enum Presented {
    Key,
    Token,
    StaleToken,
    Nothing,
}

fn presented(headers: &HeaderMap, shared: &Shared) -> Presented {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let (Some(key_id), Some(secret)) = (text("apca-api-key-id"), text("apca-api-secret-key")) {
        let right = shared.is_key(&format!("{key_id}:{secret}"));
        return if right { Presented::Key } else { Presented::Nothing };
    }
    let Some((scheme, rest)) = text(header::AUTHORIZATION.as_str()).and_then(|value| value.split_once(' ')) else {
        return Presented::Nothing;
    };
    if scheme.eq_ignore_ascii_case("bearer") {
        return if shared.is_token(rest.trim()) { Presented::Token } else { Presented::StaleToken };
    }
    let decoded = STANDARD.decode(rest.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let right = scheme.eq_ignore_ascii_case("basic") && decoded.is_some_and(|shown| shared.is_key(&shown));
    if right { Presented::Key } else { Presented::Nothing }
}

/// `POST /oauth2/token`: a token for the key. The one before is not valid any more.
pub(super) async fn token(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let form = fields(&body);
    let by_form = form.get("client_id").zip(form.get("client_secret"));
    let is_ours = match by_form {
        Some((key_id, secret)) => shared.is_key(&format!("{key_id}:{secret}")),
        None => matches!(presented(&headers, &shared), Presented::Key),
    };
    if !is_ours {
        return error(StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED, "the key is not taken");
    }
    let Ok(lifetime_ms) = shared.with(|exchange| exchange.config().token_lifetime_ms) else {
        return deliver::hang_up();
    };
    let token = shared.issue_token(lifetime_ms);
    axum::Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime_ms.div_ceil(1000)}))
        .into_response()
}

/// The fields of a form, or of a flat JSON object; none where the body is neither.
fn fields(body: &[u8]) -> HashMap<String, String> {
    if let Ok(object) = serde_json::from_slice(body) {
        return object;
    }
    let uri = std::str::from_utf8(body).ok().and_then(|form| format!("/?{form}").parse::<Uri>().ok());
    let form = uri.and_then(|uri| Query::try_from_uri(&uri).ok());
    form.map(|Query(fields)| fields).unwrap_or_default()
}

fn write_allowance(headers: &mut HeaderMap, allowance: Allowance) {
    headers.insert("x-ratelimit-limit", HeaderValue::from(allowance.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(allowance.remaining));
    headers.insert("x-ratelimit-reset", HeaderValue::from(allowance.reset_at));
}
