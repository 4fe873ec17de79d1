//! Operator calls that change what was traded.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contracts::alpaca::codes;
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::json;
use time::serde::rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::operator::{answer, read};
use super::{error, invalid};
use crate::broker::exchange::{AdjustError, BustFilter};
use crate::broker::shared::Shared;

/// Body of `POST /sim/v1/busts`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BustRequest {
    #[serde(default, with = "rfc3339::option")]
    since: Option<OffsetDateTime>,
    /// The same as a time before now, in milliseconds.
    since_ms_ago: Option<u32>,
    symbol: Option<String>,
    client_order_id: Option<String>,
}

/// Takes back every execution since a time.
pub(super) async fn bust(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: BustRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    if request.since.is_some() && request.since_ms_ago.is_some() {
        return invalid("since and since_ms_ago exclude each other");
    }
    answer(&shared, |exchange| {
        let ago = request.since_ms_ago.map(|ms| exchange.now().saturating_sub(Duration::milliseconds(i64::from(ms))));
        let filter = BustFilter {
            since: request.since.or(ago),
            symbol: request.symbol,
            client_order_id: request.client_order_id,
        };
        axum::Json(json!({"busted": exchange.bust(&filter)})).into_response()
    })
}

/// Body of `POST /sim/v1/corrections`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CorrectRequest {
    execution_id: Uuid,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    qty: Option<Decimal>,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    price: Option<Decimal>,
}

/// Gives an execution other figures.
pub(super) async fn correct(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: CorrectRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| execution(exchange.correct(request.execution_id, request.qty, request.price)))
}

/// Body of `POST /sim/v1/backfills`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackfillRequest {
    client_order_id: String,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    qty: Option<Decimal>,
    #[serde(default, with = "rust_decimal::serde::str_option")]
    price: Option<Decimal>,
    #[serde(default, with = "rfc3339::option")]
    executed_at: Option<OffsetDateTime>,
}

/// Tells a trade of the past.
pub(super) async fn backfill(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: BackfillRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| {
        let executed_at = request.executed_at.unwrap_or_else(|| exchange.now());
        execution(exchange.backfill(&request.client_order_id, request.qty, request.price, executed_at))
    })
}

/// Body of `POST /sim/v1/splits`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SplitRequest {
    symbol: String,
    to: u32,
    from: u32,
}

/// Splits a symbol.
pub(super) async fn split(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: SplitRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| match exchange.split(&request.symbol, request.to, request.from) {
        Ok(canceled) => axum::Json(json!({"canceled_orders": canceled})).into_response(),
        Err(error) => refused(error),
    })
}

fn execution(made: Result<Uuid, AdjustError>) -> Response {
    match made {
        Ok(id) => (StatusCode::CREATED, axum::Json(json!({"execution_id": id}))).into_response(),
        Err(error) => refused(error),
    }
}

fn refused(why: AdjustError) -> Response {
    error(StatusCode::UNPROCESSABLE_ENTITY, codes::UNPROCESSABLE, why.to_string())
}
