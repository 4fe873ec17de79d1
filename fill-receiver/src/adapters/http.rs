//! The operator's port, besides what every process serves there.
//!
//! - `GET /ops/v1/events/{key}`: the story of an execution id, a broker order id or our order id;
//! - `GET /ops/v1/parked?after=&limit=&settled=`: frames that could not become events;
//! - `POST /ops/v1/parked/{id}/redrive`: try one again;
//! - `GET /ops/v1/suspects?after=&limit=`: facts that contradict what is stored;
//! - `GET /ops/v1/unproven-ranges?limit=`: stretches that the broker did not replay.

use crate::application::operations::{Operations, Redriven};
use crate::application::ports::{RecordStore, StoreError};
use crate::application::status::{StreamState, StreamStatus};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use platform::clock::Clock;
use platform::http::Health;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest key that is looked up, in bytes.
const KEY_LEN_MAX: usize = 128;
/// Most rows of one answer.
const LIMIT_MAX: i64 = 500;

/// The routes; the caller puts the operator's token in front.
pub fn router<S: RecordStore>(operations: Arc<Operations<S>>) -> Router {
    Router::new()
        .route("/ops/v1/events/{key}", get(story::<S>))
        .route("/ops/v1/parked", get(parked::<S>))
        .route("/ops/v1/parked/{id}/redrive", post(redrive::<S>))
        .route("/ops/v1/suspects", get(suspects::<S>))
        .route("/ops/v1/unproven-ranges", get(unproven::<S>))
        .with_state(operations)
}

/// A refusal with a stable code.
struct Refusal {
    status: StatusCode,
    code: u32,
    message: String,
}

impl Refusal {
    fn bad_request(message: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: 40_010_000, message: message.to_owned() }
    }

    fn not_found(message: &str) -> Self {
        Self { status: StatusCode::NOT_FOUND, code: 40_410_000, message: message.to_owned() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "operator's request failed");
        match error {
            StoreError::Unavailable(_) => Self {
                status: StatusCode::SERVICE_UNAVAILABLE,
                code: 50_310_000,
                message: "the database is not available".to_owned(),
            },
            _ => Self {
                status: StatusCode::INTERNAL_SERVER_ERROR,
                code: 50_010_000,
                message: "the request could not be carried out".to_owned(),
            },
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({"code": self.code, "message": self.message}))).into_response()
    }
}

async fn story<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    Path(key): Path<String>,
) -> Result<Response, Refusal> {
    if key.len() > KEY_LEN_MAX || key.contains('\0') {
        return Err(Refusal::bad_request("key is longer than 128 bytes or holds a NUL"));
    }
    match operations.story(&key).await? {
        Some(story) => Ok(Json(story).into_response()),
        None => Err(Refusal::not_found("no broker order is known under this key")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    #[serde(default)]
    after: i64,
    #[serde(default = "limit_default")]
    limit: i64,
    #[serde(default)]
    settled: bool,
}

const fn limit_default() -> i64 {
    100
}

fn list_query(query: Result<Query<ListQuery>, QueryRejection>) -> Result<ListQuery, Refusal> {
    match query {
        Ok(Query(query)) if query.after >= 0 && (1..=LIMIT_MAX).contains(&query.limit) => Ok(query),
        _ => Err(Refusal::bad_request("after must be a number from 0, limit one from 1 to 500, settled true or false")),
    }
}

async fn parked<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = list_query(query)?;
    Ok(Json(json!({"parked": operations.parked(query.after, query.limit, query.settled).await?})))
}

async fn suspects<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = list_query(query)?;
    Ok(Json(json!({"suspects": operations.suspects(query.after, query.limit).await?})))
}

async fn unproven<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = list_query(query)?;
    Ok(Json(json!({"unproven_ranges": operations.unproven(query.limit).await?})))
}

async fn redrive<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(id)) = id else { return Err(Refusal::bad_request("id must be a number")) };
    // In a task of its own: a caller that hangs up must not leave it half done.
    let redriven = tokio::spawn(async move { operations.redrive(id).await }).await;
    match redriven.map_err(|error| Refusal {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        code: 50_010_000,
        message: error.to_string(),
    })?? {
        Redriven::Settled { logged } => Ok(Json(json!({"result": "settled", "logged": logged}))),
        Redriven::Already => Ok(Json(json!({"result": "already_settled"}))),
        Redriven::Missing => Err(Refusal::not_found("no frame is parked under this number")),
        Redriven::StillPoison { detail } => {
            Err(Refusal { status: StatusCode::UNPROCESSABLE_ENTITY, code: 42_210_000, message: detail })
        }
    }
}

/// Health of the receiver.
pub struct ReceiverHealth {
    /// The stream.
    pub status: Arc<StreamStatus>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Name of the broker.
    pub broker: String,
    /// Name of the stream.
    pub stream: String,
}

impl Health for ReceiverHealth {
    /// Ready while it reads, or stands by for a copy that does.
    fn ready(&self) -> Result<(), String> {
        match self.status.state() {
            StreamState::Connected | StreamState::Standby => Ok(()),
            state => Err(format!("stream is {}", state.as_str())),
        }
    }

    fn report(&self) -> Value {
        json!({
            "service": "fill-receiver",
            "broker": self.broker,
            "stream": self.stream,
            "stream_status": self.status.report(self.clock.now()),
        })
    }
}
