//! The Trading API: what a customer's own program calls, on the first account.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contracts::alpaca::{ClockEntity, codes};
use serde_json::{Value, json};
use time::format_description::well_known::Iso8601;
use time::{Date, Duration};

use super::deliver::hang_up;
use super::orders::{answer, filter, invalid_order_id, order_id_of};
use super::{error, invalid};
use crate::broker::exchange::Exchange;
use crate::broker::shared::Shared;

/// Most activities of a page, and unless asked for otherwise.
const ACTIVITIES_MAX: usize = 100;
/// Days of a calendar, at most.
const DAYS_MAX: i64 = 3_660;

pub(super) async fn submit(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    if let Some(refusal) = not_offered(&body) {
        return refusal;
    }
    answer(&shared, |exchange| exchange.submit(&exchange.first_account(), &body)).await
}

/// Orders that this broker does not know are refused, rather than taken as plain ones.
fn not_offered(body: &[u8]) -> Option<Response> {
    let order: Value = serde_json::from_slice(body).ok()?;
    let class = order.get("order_class").and_then(Value::as_str).unwrap_or_default();
    let set = |field: &str| order.get(field).is_some_and(|value| !value.is_null());
    let foreign = ["notional", "take_profit", "stop_loss", "stop_price", "trail_price", "trail_percent", "legs"];
    let field = foreign.into_iter().find(|field| set(field));
    match field {
        Some(field) => Some(invalid(format!("this broker does not take {field}"))),
        None if !matches!(class, "" | "simple") => Some(invalid(format!("this broker does not take {class} orders"))),
        None => None,
    }
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, Query(query): Query<HashMap<String, String>>) -> Response {
    match filter(&query) {
        Ok(filter) => answer(&shared, |exchange| exchange.list(&exchange.first_account(), &filter)).await,
        Err(name) => invalid(format!("invalid {name}")),
    }
}

pub(super) async fn by_client_order_id(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(key) = query.get("client_order_id").filter(|key| !key.is_empty()) else {
        return invalid("client_order_id is required");
    };
    answer(&shared, |exchange| exchange.order_by_key(&exchange.first_account(), key)).await
}

pub(super) async fn by_id(State(shared): State<Arc<Shared>>, Path(order_id): Path<String>) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.order_by_id(&exchange.first_account(), order_id)).await
}

pub(super) async fn cancel(State(shared): State<Arc<Shared>>, Path(order_id): Path<String>) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.cancel(&exchange.first_account(), order_id)).await
}

pub(super) async fn replace(State(shared): State<Arc<Shared>>, Path(order_id): Path<String>, body: Bytes) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.replace(&exchange.first_account(), order_id, &body)).await
}

/// Cancels every open order; each has its own status in the answer.
pub(super) async fn cancel_all(State(shared): State<Arc<Shared>>) -> Response {
    view(&shared, |exchange| {
        let account = exchange.first_account();
        let open = exchange.open_orders(&account);
        let rows: Vec<_> = open
            .into_iter()
            .map(|id| {
                let status = match exchange.cancel(&account, id).status {
                    204 => 200,
                    other => other,
                };
                json!({"id": id, "status": status})
            })
            .collect();
        (StatusCode::MULTI_STATUS, axum::Json(rows)).into_response()
    })
}

pub(super) async fn account(State(shared): State<Arc<Shared>>) -> Response {
    view(&shared, |exchange| axum::Json(exchange.account_entity()).into_response())
}

pub(super) async fn positions(State(shared): State<Arc<Shared>>) -> Response {
    view(&shared, |exchange| axum::Json(exchange.position_entities()).into_response())
}

pub(super) async fn position(State(shared): State<Arc<Shared>>, Path(symbol): Path<String>) -> Response {
    view(&shared, |exchange| {
        let all = exchange.position_entities();
        let found = all.into_iter().find(|one| one.symbol == symbol || one.asset_id.to_string() == symbol);
        found.map_or_else(no_position, |position| axum::Json(position).into_response())
    })
}

fn no_position() -> Response {
    error(StatusCode::NOT_FOUND, codes::NOT_FOUND, "position does not exist")
}

/// Sells a position, or the part of it that `qty` or `percentage` says.
pub(super) async fn close(
    State(shared): State<Arc<Shared>>,
    Path(symbol): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let part = |name: &str| query.get(name).map(|text| text.parse().map_err(|_| format!("invalid {name}"))).transpose();
    let (qty, percentage) = match (part("qty"), part("percentage")) {
        (Ok(qty), Ok(percentage)) => (qty, percentage),
        (Err(message), _) | (_, Err(message)) => return invalid(message),
    };
    answer(&shared, |exchange| exchange.close_position(&symbol, qty, percentage)).await
}

pub(super) async fn close_all(State(shared): State<Arc<Shared>>) -> Response {
    view(&shared, |exchange| {
        let symbols: Vec<String> = exchange.position_entities().into_iter().map(|one| one.symbol).collect();
        let rows: Vec<_> = symbols
            .into_iter()
            .map(|symbol| {
                let reply = exchange.close_position(&symbol, None, None);
                let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
                json!({"symbol": symbol, "status": reply.status, "body": body})
            })
            .collect();
        (StatusCode::MULTI_STATUS, axum::Json(rows)).into_response()
    })
}

/// The account's executions, newest first unless `direction=asc`.
pub(super) async fn activities(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let limit = match query.get("page_size").map(|text| text.parse::<usize>()) {
        None => ACTIVITIES_MAX,
        Some(Ok(size)) if (1..=ACTIVITIES_MAX).contains(&size) => size,
        Some(_) => return invalid("page_size is between 1 and 100"),
    };
    let ascending = query.get("direction").is_some_and(|direction| direction == "asc");
    let token = query.get("page_token").cloned();
    view(&shared, |exchange| axum::Json(exchange.activities(token.as_deref(), ascending, limit)).into_response())
}

/// The exchange's clock, as its calendar sees it.
pub(super) async fn clock(State(shared): State<Arc<Shared>>) -> Response {
    view(&shared, |exchange| {
        let (calendar, now) = (exchange.calendar(), exchange.now());
        let shown = |at| calendar.exchange_time(at);
        let entity = || {
            Ok::<_, contracts::calendar::CalendarError>(ClockEntity {
                timestamp: shown(now)?,
                is_open: calendar.is_open(now)?,
                next_open: shown(calendar.next_open(now)?)?,
                next_close: shown(calendar.next_close(now)?)?,
            })
        };
        entity().map_or_else(no_calendar, |entity| axum::Json(entity).into_response())
    })
}

/// The trading days from `start` to `end`, a month where they are not given.
pub(super) async fn calendar(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let date = |name: &str| {
        let text = query.get(name).filter(|text| !text.is_empty())?;
        Some(Date::parse(text, &Iso8601::DATE).map_err(|_| format!("invalid {name}")))
    };
    let (start, end) = match (date("start").transpose(), date("end").transpose()) {
        (Ok(start), Ok(end)) => (start, end),
        (Err(message), _) | (_, Err(message)) => return invalid(message),
    };
    view(&shared, |exchange| {
        let today = exchange.calendar().exchange_time(exchange.now()).map(|at| at.date());
        let Ok(today) = today else { return hang_up() };
        let start = start.unwrap_or(today);
        let end = end.unwrap_or_else(|| start.saturating_add(Duration::days(31)));
        if (end - start).whole_days() > DAYS_MAX {
            return invalid("the range is too long");
        }
        let mut days = Vec::new();
        let mut date = start;
        while date <= end {
            match exchange.calendar().session_for(date) {
                Ok(Some(session)) => {
                    let time = |at: time::OffsetDateTime| format!("{:02}:{:02}", at.hour(), at.minute());
                    // 00:00 would read as the morning of the same date.
                    let close = match session.closes_at.date() == date {
                        true => time(session.closes_at),
                        false => "23:59".to_owned(),
                    };
                    days.push(json!({"date": date.to_string(), "open": time(session.opens_at), "close": close}));
                }
                Ok(None) => {}
                Err(error) => return no_calendar(error),
            }
            let Some(next) = date.next_day() else { break };
            date = next;
        }
        axum::Json(days).into_response()
    })
}

fn no_calendar(why: contracts::calendar::CalendarError) -> Response {
    error(StatusCode::INTERNAL_SERVER_ERROR, codes::INTERNAL, why.to_string())
}

fn view(shared: &Shared, act: impl FnOnce(&mut Exchange) -> Response) -> Response {
    shared.with(act).unwrap_or_else(|_| hang_up())
}
