//! The operator's port, besides what every process serves there.
//!
//! - `GET /ops/v1/events/{key}`: the story of an execution id, a broker order id, our order id or
//!   our event id;
//! - `GET /ops/v1/parked?after=&limit=&settled=`: frames that could not become events;
//! - `POST /ops/v1/parked/{id}/redrive`: try one again;
//! - `GET /ops/v1/suspects?after=&limit=&closed=`: facts that contradict what is stored;
//! - `POST /ops/v1/suspects/{id}/close`: one that a person has looked into;
//! - `GET /ops/v1/unproven?after=&limit=&closed=`: stretches that the broker did not replay;
//! - `POST /ops/v1/unproven/{id}/close`: one that was proven in another way.
//!
//! Closing names why and on what evidence; who it was is who the token belongs to.

use super::refusal::Refusal;
use crate::application::database::DatabaseStatus;
use crate::application::operations::{Operations, Redriven};
use crate::application::ports::{Closed, Closing, RecordStore, StoreError};
use crate::application::status::{StreamState, StreamStatus};
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use platform::clock::Clock;
use platform::http::Health;
use platform::invariants::Invariants;
use platform::operators::Operator;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Longest key that is looked up, in bytes.
const KEY_LEN_MAX: usize = 128;
/// Longest text of a closing, in bytes.
const CLOSING_LEN_MAX: usize = 2000;
/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// Most rows of one answer.
const LIMIT_MAX: i64 = 500;

/// The routes; the caller puts [`platform::operators::require_operator`] in front.
pub fn router<S: RecordStore>(operations: Arc<Operations<S>>) -> Router {
    Router::new()
        .route("/ops/v1/events/{key}", get(story::<S>))
        .route("/ops/v1/parked", get(parked::<S>))
        .route("/ops/v1/parked/{id}/redrive", post(redrive::<S>))
        .route("/ops/v1/suspects", get(suspects::<S>))
        .route("/ops/v1/suspects/{id}/close", post(close_suspect::<S>))
        .route("/ops/v1/unproven", get(unproven::<S>))
        .route("/ops/v1/unproven/{id}/close", post(close_unproven::<S>))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(operations)
}

/// The same story for the order server, which puts the parts of the three processes together; the
/// caller puts the token between processes in front.
pub fn peer_router<S: RecordStore>(operations: Arc<Operations<S>>) -> Router {
    Router::new().route("/story/v1/events/{key}", get(story::<S>)).with_state(operations)
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = %platform::telemetry::Chain(&error), "operator's request failed");
        match error {
            StoreError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, 50_310_000, "the database is not available")
            }
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, 50_010_000, "the request could not be carried out"),
        }
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
    #[serde(default)]
    closed: bool,
}

const fn limit_default() -> i64 {
    100
}

fn list_query(query: Result<Query<ListQuery>, QueryRejection>) -> Result<ListQuery, Refusal> {
    match query {
        Ok(Query(query)) if query.after >= 0 && (1..=LIMIT_MAX).contains(&query.limit) => Ok(query),
        _ => Err(Refusal::bad_request(
            "after must be a number from 0, limit one from 1 to 500, settled and closed true or false",
        )),
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
    Ok(Json(json!({"suspects": operations.suspects(query.after, query.limit, query.closed).await?})))
}

async fn unproven<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let query = list_query(query)?;
    let ranges = operations.unproven(query.after, query.limit, query.closed).await?;
    Ok(Json(json!({"unproven": ranges})))
}

/// Why a record is closed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseBody {
    /// May be given, and then must be the name that belongs to the token.
    by: Option<String>,
    why: String,
    evidence: String,
}

/// The same for a range, which must still be what the person saw.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseRangeBody {
    from_cursor: String,
    to_cursor: String,
    by: Option<String>,
    why: String,
    evidence: String,
}

fn closing(operator: Operator, by: Option<String>, why: String, evidence: String) -> Result<Closing, Refusal> {
    if by.is_some_and(|name| name != operator.name) {
        return Err(Refusal::bad_request(&format!("by must be {}, whose token this is", operator.name)));
    }
    for (name, text) in [("why", &why), ("evidence", &evidence)] {
        if text.trim().is_empty() || text.len() > CLOSING_LEN_MAX || text.contains('\0') {
            return Err(Refusal::bad_request(&format!("{name} must have 1 to {CLOSING_LEN_MAX} bytes and no NUL")));
        }
    }
    Ok(Closing { by: operator.name, why, evidence })
}

fn closed(closed: Closed) -> Result<Json<Value>, Refusal> {
    match closed {
        Closed::Done => Ok(Json(json!({"result": "closed"}))),
        Closed::Already => Ok(Json(json!({"result": "already_closed"}))),
        Closed::Changed => {
            Err(Refusal::new(StatusCode::CONFLICT, 40_910_000, "the range is another one than was seen: read it again"))
        }
        Closed::Missing => Err(Refusal::not_found("no record has this number")),
    }
}

async fn close_suspect<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<i64>, PathRejection>,
    body: Result<Json<CloseBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(id)) = id else { return Err(Refusal::bad_request("id must be a number")) };
    let Json(body) = body.map_err(|error| Refusal::bad_request(&error.body_text()))?;
    let closing = closing(operator, body.by, body.why, body.evidence)?;
    closed(operations.close_suspect(id, &closing).await?)
}

async fn close_unproven<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<i64>, PathRejection>,
    body: Result<Json<CloseRangeBody>, JsonRejection>,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(id)) = id else { return Err(Refusal::bad_request("id must be a number")) };
    let Json(body) = body.map_err(|error| Refusal::bad_request(&error.body_text()))?;
    let closing = closing(operator, body.by, body.why, body.evidence)?;
    closed(operations.close_unproven(id, (&body.from_cursor, &body.to_cursor), &closing).await?)
}

async fn redrive<S: RecordStore>(
    State(operations): State<Arc<Operations<S>>>,
    Extension(operator): Extension<Operator>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<Value>, Refusal> {
    let Ok(Path(id)) = id else { return Err(Refusal::bad_request("id must be a number")) };
    tracing::info!(id, operator = operator.name, "operator asks for another try of a parked frame");
    // In a task of its own: a caller that hangs up must not leave it half done.
    let redriven = tokio::spawn(async move { operations.redrive(id).await }).await;
    match redriven.map_err(|error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, 50_010_000, error.to_string()))?? {
        Redriven::Settled { logged } => Ok(Json(json!({"result": "settled", "logged": logged}))),
        Redriven::Already => Ok(Json(json!({"result": "already_settled"}))),
        Redriven::Missing => Err(Refusal::not_found("no frame is parked under this number")),
        Redriven::StillPoison { detail } => Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, 42_210_000, detail)),
    }
}

/// What pushes say about themselves.
pub type PushReport = Box<dyn Fn() -> Value + Send + Sync>;

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
    /// How long the stream may be away before it is called late.
    pub stream_late: Duration,
    /// The database.
    pub database: Arc<DatabaseStatus>,
    /// What is checked of what is stored.
    pub invariants: Invariants,
    /// Pushes; none where none are taken.
    pub push: Option<PushReport>,
}

impl Health for ReceiverHealth {
    /// Ready while it can store what comes, and something can come: it takes pushes, or it reads the
    /// stream, or it stands by for a copy that does. A stream that is away while pushes are taken shows
    /// in the report: a load balancer that took this copy out would lose the pushes too.
    fn ready(&self) -> Result<(), String> {
        if !self.database.answers() {
            return Err("database does not answer".to_owned());
        }
        match self.status.state() {
            StreamState::Connected | StreamState::Standby => Ok(()),
            StreamState::Starting | StreamState::Connecting | StreamState::Waiting if self.push.is_some() => Ok(()),
            state => Err(format!("stream is {}", state.as_str())),
        }
    }

    fn report(&self) -> Value {
        json!({
            "service": "fill-receiver",
            "broker": self.broker,
            "stream": self.stream,
            "stream_status": self.status.report(self.clock.now(), self.stream_late),
            "database_answers": self.database.answers(),
            "degraded": self.invariants.broken(),
            "invariants": self.invariants.report(),
            "push": self.push.as_ref().map(|report| report()),
        })
    }
}
