//! The port that brokers push to: `POST /push/v1/events`.
//!
//! | header | what |
//! |---|---|
//! | `Content-Type` | `application/json` |
//! | `X-Push-Key-Id` | which key signs |
//! | `X-Push-Timestamp` | when it was signed, in milliseconds since 1970 |
//! | `X-Push-Nonce` | 16 to 128 letters, digits or `-_.~`, new for every body |
//! | `X-Push-Signature` | hexadecimal HMAC-SHA256 of `timestamp LF nonce LF body` |
//!
//! The body is one event or an array of events, as the stream sends them. 200 is sent after the
//! commit. After 503 or no answer the same body is sent again under the same nonce, signed anew.

use super::refusal::Refusal;
use crate::application::ports::{EventStore, PushStore};
use crate::application::push::{PushError, PushIntake, Taken};
use crate::domain::push::NotTaken;
use crate::domain::signature::{Claim, NotBelieved};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Which key signs.
const KEY_ID: &str = "x-push-key-id";
/// When it was signed.
const TIMESTAMP: &str = "x-push-timestamp";
/// What names the push.
const NONCE: &str = "x-push-nonce";
/// The signature.
const SIGNATURE: &str = "x-push-signature";

/// Limits of one request.
#[derive(Debug, Clone, Copy)]
pub struct PushHttpLimits {
    /// Largest body, in bytes.
    pub body_bytes_max: usize,
    /// Longest wait for a body.
    pub body_timeout_ms: u64,
    /// What a sender is told to wait before it sends again.
    pub retry_after_s: u32,
}

struct Door<S> {
    intake: Arc<PushIntake<S>>,
    limits: PushHttpLimits,
}

/// The routes. There is no credential in front of them but the signature.
pub fn router<S: EventStore + PushStore>(intake: Arc<PushIntake<S>>, limits: PushHttpLimits) -> Router {
    let wrong_method = || async { Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 40_510_000, "only POST is taken here") };
    let wrong_path =
        || async { Refusal::new(StatusCode::NOT_FOUND, 40_410_000, "events are posted to /push/v1/events") };
    Router::new()
        .route("/push/v1/events", post(push::<S>).fallback(wrong_method))
        .fallback(wrong_path)
        .with_state(Arc::new(Door { intake, limits }))
}

async fn push<S: EventStore + PushStore>(State(door): State<Arc<Door<S>>>, headers: HeaderMap, body: Body) -> Response {
    let admitted = async {
        check_content_type(&headers)?;
        let claim = claim(&headers)?;
        Ok::<_, Refusal>((claim, read_body(body, door.limits).await?))
    };
    let (claim, body) = match admitted.await {
        Ok(admitted) => admitted,
        Err(refusal) => {
            metrics::counter!("fill_receiver_pushes_total", "result" => "malformed").increment(1);
            return refusal.into_response();
        }
    };
    match door.intake.take(claim, body).await {
        Ok(Taken::Stored { events, new, parked }) => {
            platform::kill_point!("fill-receiver.before-push-answer");
            Json(json!({"result": "stored", "events": events, "new": new, "parked": parked})).into_response()
        }
        Ok(Taken::Repeated) => Json(json!({"result": "repeated"})).into_response(),
        Err(error) => refused(&error, door.limits).into_response(),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = given.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"));
    let plain = headers.get(header::CONTENT_ENCODING).is_none_or(|value| value == "identity");
    if is_json && plain {
        Ok(())
    } else {
        let text = "the body must be application/json, not encoded";
        Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, 41_510_000, text))
    }
}

fn claim(headers: &HeaderMap) -> Result<Claim, Refusal> {
    let unauthorized = |text: &str| Refusal::new(StatusCode::UNAUTHORIZED, 40_110_000, text);
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        match (values.next().and_then(|value| value.to_str().ok()), values.next()) {
            (Some(value), None) => Ok(value),
            _ => Err(unauthorized(&format!("header {name} must be there once"))),
        }
    };
    Claim::read(one(KEY_ID)?, one(TIMESTAMP)?, one(NONCE)?, one(SIGNATURE)?)
        .map_err(|error| unauthorized(&error.to_string()))
}

async fn read_body(body: Body, limits: PushHttpLimits) -> Result<Bytes, Refusal> {
    let limit = Duration::from_millis(limits.body_timeout_ms);
    match tokio::time::timeout(limit, to_bytes(body, limits.body_bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => {
            let text = format!("the body must be whole and at most {} bytes", limits.body_bytes_max);
            Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, 41_310_000, text))
        }
        Err(_) => Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, 40_810_000, "the body did not come in time")),
    }
}

fn refused(error: &PushError, limits: PushHttpLimits) -> Refusal {
    let (status, code) = match error {
        PushError::NotBelieved(NotBelieved::Signature) => (StatusCode::UNAUTHORIZED, 40_110_000),
        PushError::NotBelieved(NotBelieved::Window { .. }) => (StatusCode::UNAUTHORIZED, 40_110_001),
        PushError::NotTaken(NotTaken::Empty) => (StatusCode::BAD_REQUEST, 40_010_000),
        PushError::NotTaken(NotTaken::TooMany { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, 41_310_001),
        PushError::NonceReused => (StatusCode::CONFLICT, 40_910_000),
        PushError::Busy | PushError::Deadline | PushError::Store(_) => {
            let text = "not stored, or not known to be: send it again under the same nonce";
            let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, 50_310_000, text);
            return Refusal { retry_after_s: Some(limits.retry_after_s), ..refusal };
        }
    };
    Refusal::new(status, code, error.to_string())
}
