//! Operator calls. They need no key: the broker listens on loopback.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::deliver::hang_up;
use super::invalid;
use crate::broker::exchange::Exchange;
use crate::broker::shared::Shared;

/// Rows of an oracle page, unless asked for otherwise, and at most.
const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;
/// Most price steps of one call.
const TICKS_MAX: u64 = 100_000;

pub(super) fn answer(shared: &Shared, act: impl FnOnce(&mut Exchange) -> Response) -> Response {
    shared.with(act).unwrap_or_else(|_| hang_up())
}

pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a Bytes) -> Result<T, String> {
    let text = if body.is_empty() { &b"{}"[..] } else { body.as_ref() };
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

pub(super) async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let streams = shared.streams_open();
    answer(&shared, |exchange| {
        axum::Json(json!({
            "status": "ok",
            "seed": exchange.config().seed,
            "orders": exchange.orders_len(),
            "open_orders": exchange.open_len(),
            "events": exchange.head(),
            "unsettled": exchange.unsettled_len(),
            "streams": streams,
            "price_step": exchange.price_step(),
        }))
        .into_response()
    })
}

/// What became of the pushes.
pub(super) async fn pushes(State(shared): State<Arc<Shared>>) -> Response {
    axum::Json(&shared.push).into_response()
}

pub(super) async fn config(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, |exchange| axum::Json(exchange.config()).into_response())
}

pub(super) async fn configure(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let change: Value = match read(&body) {
        Ok(change) => change,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| match exchange.configure(change) {
        Ok(config) => axum::Json(config).into_response(),
        Err(error) => invalid(error.to_string()),
    })
}

pub(super) async fn reset_streams(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, |exchange| {
        exchange.reset_streams();
        StatusCode::NO_CONTENT.into_response()
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Count {
    #[serde(default = "one")]
    count: u64,
}

fn one() -> u64 {
    1
}

pub(super) async fn drop_from_streams(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Count { count } = match read(&body) {
        Ok(count) => count,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| {
        exchange.drop_from_streams(count);
        StatusCode::NO_CONTENT.into_response()
    })
}

pub(super) async fn tick(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let Count { count } = match read(&body) {
        Ok(count) => count,
        Err(message) => return invalid(message),
    };
    if count > TICKS_MAX {
        return invalid("too many ticks");
    }
    answer(&shared, |exchange| {
        for _ in 0..count {
            exchange.tick();
        }
        axum::Json(json!({"price_step": exchange.price_step()})).into_response()
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignRequest {
    symbol: String,
    account_id: Option<String>,
}

pub(super) async fn foreign_order(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: ForeignRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| match exchange.foreign_order(request.account_id.as_deref(), &request.symbol) {
        Some(key) => (StatusCode::CREATED, axum::Json(json!({"client_order_id": key}))).into_response(),
        None => invalid("unknown symbol or account"),
    })
}

/// Reads `after` (exclusive index) and `limit`.
fn page(query: &HashMap<String, String>) -> Result<(usize, usize), &'static str> {
    let number = |name: &'static str| query.get(name).map(|text| text.parse::<usize>().map_err(|_| name)).transpose();
    let start = number("after")?.map_or(0, |after| after.saturating_add(1));
    Ok((start, number("limit")?.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)))
}

/// A page with where the next one starts, or `null` where this was the last one for now.
fn paged(name: &str, start: usize, limit: usize, rows: &[impl serde::Serialize]) -> Response {
    let next_after = (rows.len() == limit).then(|| start + rows.len() - 1);
    axum::Json(json!({name: rows, "next_after": next_after})).into_response()
}

pub(super) async fn oracle_orders(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (start, limit) = match page(&query) {
        Ok(page) => page,
        Err(name) => return invalid(format!("invalid {name}")),
    };
    answer(&shared, |exchange| paged("orders", start, limit, &exchange.oracle_orders(start, limit)))
}

pub(super) async fn oracle_executions(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (start, limit) = match page(&query) {
        Ok(page) => page,
        Err(name) => return invalid(format!("invalid {name}")),
    };
    answer(&shared, |exchange| paged("executions", start, limit, &exchange.oracle_executions(start, limit)))
}
