//! `GET` and `PUT /ops/v1/lane`, and `GET /ops/v1/actions`: the lane's rate, and what operators did.

use super::answer::{bad_request, internal};
use crate::adapters::db::PgStore;
use crate::application::lane_rate::{LaneRate, LaneRateStore, RateChange};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use contracts::BrokerId;
use platform::operators::{Operator, Operators, require_operator};
use serde::{Deserialize, Deserializer};
use serde_json::json;
use std::sync::Arc;

/// Most actions in one answer.
const LISTED_MAX: i64 = 200;

/// Longest reason, in bytes.
const REASON_LEN_MAX: usize = 1000;

/// Largest body that is read, in bytes.
const BODY_LEN_MAX: usize = 4 * 1024;

/// What the routes work with.
#[derive(Clone)]
pub struct LanePort {
    /// Where the rate and the record are kept.
    pub store: Arc<PgStore>,
    /// Whose lane.
    pub broker: BrokerId,
    /// The rate of this copy.
    pub rate: LaneRate,
}

/// The routes, behind the operators' token.
pub fn router(port: LanePort, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/lane", get(lane).put(set_lane))
        .route("/ops/v1/actions", get(actions))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(port);
    require_operator(routes, operators)
}

async fn actions(State(port): State<LanePort>) -> Response {
    match port.store.actions(LISTED_MAX).await {
        Ok(actions) => Json(json!({ "actions": actions })).into_response(),
        Err(error) => internal(&error),
    }
}

async fn lane(State(port): State<LanePort>) -> Response {
    answer(&port.rate)
}

fn answer(rate: &LaneRate) -> Response {
    let lane = rate.control();
    let paused_ms = u64::try_from(lane.paused_for().as_millis()).unwrap_or(u64::MAX);
    Json(json!({
        "rate_per_s": lane.rate_per_s(),
        "configured_per_s": rate.configured_per_s(),
        "copies": lane.copies(),
        "paused_ms": paused_ms,
    }))
    .into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LaneBody {
    /// Null: as configured. It must be there.
    #[serde(deserialize_with = "nullable")]
    rate_per_s: Option<u32>,
    reason: Option<String>,
}

fn nullable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Option::deserialize(from)
}

async fn set_lane(
    State(port): State<LanePort>,
    Extension(operator): Extension<Operator>,
    body: Result<Json<LaneBody>, JsonRejection>,
) -> Response {
    let Json(LaneBody { rate_per_s, reason }) = match body {
        Ok(body) => body,
        Err(rejection) => return bad_request(rejection.body_text()),
    };
    let max = port.rate.per_s_max();
    if rate_per_s.is_some_and(|rate| rate > max) {
        return bad_request(format!("rate_per_s must be at most {max}"));
    }
    if reason.as_ref().is_some_and(|reason| reason.len() > REASON_LEN_MAX || reason.contains('\0')) {
        return bad_request(format!("reason must be at most {REASON_LEN_MAX} bytes without a NUL"));
    }
    let change = RateChange { rate_per_s, operator: operator.name, reason };
    match port.store.set_rate(&port.broker, &change).await {
        Ok(setting) => {
            tracing::warn!(operator = %change.operator, ?rate_per_s, "an operator set the lane's rate");
            port.rate.apply(setting);
            answer(&port.rate)
        }
        Err(error) => internal(&error),
    }
}
