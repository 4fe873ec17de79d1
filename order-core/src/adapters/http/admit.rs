//! Who may go on: a valid key, not too often. All before the body of the request is read, so that a
//! stranger makes the process keep nothing.

use super::ApiState;
use super::auth::{Caller, Credentials};
use super::body::{BodyLimits, discard};
use super::failure::ApiFailure;
use super::limits::write_headers;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use platform::http::Peer;
use platform::rate::Verdict;

/// What admitting needs.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) state: ApiState,
    pub(super) limits: BodyLimits,
}

/// With which key a request was let in. Never the secret: it was compared, and is needed no more.
#[derive(Clone)]
struct Admitted {
    key_id: String,
    caller: Caller,
}

/// Lets a request pass with its [`super::auth::Caller`], or answers 401 or 429.
pub(super) async fn admit(State(gate): State<Gate>, mut request: Request, next: Next) -> Response {
    let state = &gate.state;
    let now = state.clock.now();
    let peer = request.extensions().get::<Peer>().copied();
    let given = Credentials::read(request.headers());
    // A key that worked a moment ago works on: strangers behind the same address lock nobody out.
    let is_known = given.as_ref().is_some_and(|given| state.authenticator.is_known(&given.key_id));
    if let Some(verdict) = state.limits.blocked(peer, now).filter(|_| !is_known) {
        return refuse(ApiFailure::RateLimited, Some(verdict), request, gate.limits).await;
    }
    let authenticated = match &given {
        Some(given) => state.authenticator.authenticate(given).await,
        None => Err(ApiFailure::Unauthorized),
    };
    let (caller, given) = match (authenticated, given) {
        (Ok(caller), Some(given)) => (caller, given),
        (Ok(_), None) | (Err(ApiFailure::Unauthorized), _) => {
            let verdict = state.limits.failure(peer, now);
            return refuse(ApiFailure::Unauthorized, verdict, request, gate.limits).await;
        }
        (Err(failure), _) => return refuse(failure, None, request, gate.limits).await,
    };
    let verdict = state.limits.request(&given.key_id, now);
    if verdict.is_some_and(|verdict| !verdict.admitted) {
        return refuse(ApiFailure::RateLimited, verdict, request, gate.limits).await;
    }
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(Admitted { key_id: given.key_id, caller });
    with_headers(next.run(request).await, verdict)
}

/// Looks at the key again once the body is here, which may have taken seconds: a key that was revoked
/// meanwhile places nothing.
pub(super) async fn still_valid(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let admitted = request.extensions().get::<Admitted>().cloned();
    let looked = match admitted {
        Some(Admitted { key_id, caller }) => state.authenticator.look_again(&key_id, caller).await,
        None => Err(ApiFailure::Unauthorized),
    };
    match looked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

/// Answers without the route, and ends the connection if the body was not at hand.
async fn refuse(failure: ApiFailure, verdict: Option<Verdict>, request: Request, limits: BodyLimits) -> Response {
    if matches!(failure, ApiFailure::RateLimited) {
        metrics::counter!("api_rate_limited_total").increment(1);
    }
    let is_read = discard(request, limits).await;
    let mut response = with_headers(failure.into_response(), verdict);
    if !is_read {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn with_headers(mut response: Response, verdict: Option<Verdict>) -> Response {
    if let Some(verdict) = verdict {
        write_headers(&verdict, response.headers_mut());
    }
    response
}
