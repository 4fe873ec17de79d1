//! `GET /ops/v1/deferred` and `POST /ops/v1/deferred/redrive`: events that could not take effect.

use super::answer::{bad_request, internal, not_found};
use crate::adapters::db::PgStore;
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use contracts::Partition;
use contracts::event::Producer;
use platform::operators::{Operator, Operators, require_operator};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Most events in one answer.
const LISTED_MAX: i64 = 200;

/// Largest body that is read, in bytes.
const BODY_LEN_MAX: usize = 4 * 1024;

/// The routes, behind the operators' token.
pub fn router(store: Arc<PgStore>, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/deferred", get(list))
        .route("/ops/v1/deferred/redrive", post(redrive))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(store);
    require_operator(routes, operators)
}

async fn list(State(store): State<Arc<PgStore>>) -> Response {
    match store.deferred(LISTED_MAX).await {
        Ok(events) => Json(json!({ "deferred": events })).into_response(),
        Err(error) => internal(&error),
    }
}

/// Which event is to be tried again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RedriveBody {
    producer: Producer,
    partition: Partition,
    seq: i64,
}

async fn redrive(
    State(store): State<Arc<PgStore>>,
    Extension(operator): Extension<Operator>,
    body: Result<Json<RedriveBody>, JsonRejection>,
) -> Response {
    let Json(RedriveBody { producer, partition, seq }) = match body {
        Ok(body) => body,
        Err(rejection) => return bad_request(rejection.body_text()),
    };
    tracing::info!(operator = %operator.name, %producer, %partition, seq, "another try of an event is asked for");
    match store.retry_deferred(producer, partition, seq, &operator.name).await {
        Ok(true) => (StatusCode::ACCEPTED, Json(json!({ "queued": true }))).into_response(),
        Ok(false) => not_found("no such poisoned event"),
        Err(error) => internal(&error),
    }
}
