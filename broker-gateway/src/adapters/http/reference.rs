//! `GET /reference/v1/instruments`, for peers: what can be traded and what it last cost.

use crate::application::reference::Instruments;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use platform::config::Secret;
use platform::http::require_bearer;

/// The route.
pub fn router(instruments: Instruments, peer_token: Secret) -> Router {
    let routes = Router::new().route("/reference/v1/instruments", get(all)).with_state(instruments);
    require_bearer(routes, peer_token)
}

async fn all(State(instruments): State<Instruments>) -> Response {
    Json(instruments.all()).into_response()
}
