//! Orders of the dialect.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use contracts::alpaca::{Side, codes};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::deliver::{deliver, hang_up};
use super::invalid;
use crate::broker::exchange::{Exchange, ListFilter, ListStatus};
use crate::broker::reply::Reply;
use crate::broker::shared::Shared;

/// Orders in a list, unless asked for otherwise.
const LIMIT_DEFAULT: usize = 50;
/// Most orders in a list.
const LIMIT_MAX: usize = 500;

pub(super) async fn answer(shared: &Shared, act: impl FnOnce(&mut Exchange) -> Reply) -> Response {
    match shared.with(act) {
        Ok(reply) => deliver(reply, shared).await,
        Err(_) => hang_up(),
    }
}

pub(super) async fn submit(State(shared): State<Arc<Shared>>, Path(account_id): Path<String>, body: Bytes) -> Response {
    answer(&shared, |exchange| exchange.submit(&account_id, &body)).await
}

pub(super) async fn by_client_order_id(
    State(shared): State<Arc<Shared>>,
    Path(account_id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(key) = query.get("client_order_id").filter(|key| !key.is_empty()) else {
        return invalid("client_order_id is required");
    };
    answer(&shared, |exchange| exchange.order_by_key(&account_id, key)).await
}

pub(super) async fn by_id(
    State(shared): State<Arc<Shared>>,
    Path((account_id, order_id)): Path<(String, String)>,
) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.order_by_id(&account_id, order_id)).await
}

pub(super) async fn cancel(
    State(shared): State<Arc<Shared>>,
    Path((account_id, order_id)): Path<(String, String)>,
) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.cancel(&account_id, order_id)).await
}

pub(super) async fn replace(
    State(shared): State<Arc<Shared>>,
    Path((account_id, order_id)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let Some(order_id) = order_id_of(&order_id) else { return invalid_order_id() };
    answer(&shared, |exchange| exchange.replace(&account_id, order_id, &body)).await
}

pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    Path(account_id): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match filter(&query) {
        Ok(filter) => answer(&shared, |exchange| exchange.list(&account_id, &filter)).await,
        Err(name) => invalid(format!("invalid {name}")),
    }
}

pub(super) fn order_id_of(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}

pub(super) fn invalid_order_id() -> Response {
    super::error(axum::http::StatusCode::UNPROCESSABLE_ENTITY, codes::INVALID_REQUEST, "order_id is not a uuid")
}

/// Reads a list request; an error names the parameter that makes no sense.
pub(super) fn filter(query: &HashMap<String, String>) -> Result<ListFilter, &'static str> {
    let get = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let moment =
        |name: &'static str| get(name).map(|text| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| name)).transpose();
    let status = match get("status") {
        None | Some("open") => ListStatus::Open,
        Some("closed") => ListStatus::Closed,
        Some("all") => ListStatus::All,
        Some(_) => return Err("status"),
    };
    let limit = match get("limit").map(str::parse) {
        None => LIMIT_DEFAULT,
        Some(Ok(limit @ 1..=LIMIT_MAX)) => limit,
        Some(_) => return Err("limit"),
    };
    let ascending = match get("direction") {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(_) => return Err("direction"),
    };
    let symbols = get("symbols").map(|list| list.split(',').map(str::to_owned).collect()).unwrap_or_default();
    let side = get("side").map(Side::from);
    Ok(ListFilter { status, limit, after: moment("after")?, until: moment("until")?, ascending, symbols, side })
}
