//! Placing, finding and cancelling orders.

use super::auth::Caller;
use super::body::require_json;
use super::failure::{ApiFailure, REPLAYED};
use super::fields::FieldError;
use super::{ApiState, PathName, QueryParams, entity, not_found, order_body, order_list};
use crate::application::command::{CommandError, PlaceOrder};
use crate::application::query::{OrderFilter, OrderScope};
use crate::domain::refusal::Refusal;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contracts::alpaca::OrderEntity;
use contracts::{AccountId, ClientOrderId, OrderId};
use futures_util::{StreamExt, stream};
use platform::telemetry::ORDERS;
use serde_json::{Value, json};

/// Cancels that are under way at once for one request.
const CANCELS_AT_ONCE: usize = 32;

/// Most pages of open orders that one request cancels.
const CANCEL_PAGES_MAX: usize = 20;

/// `POST /v2/orders`. The command is awaited to its end, however long that takes.
pub(super) async fn place(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiFailure> {
    require_json(&headers)?;
    let body = order_body::parse(&body)?;
    let given = body.client_order_id.is_some();
    let client_order_id = match body.client_order_id {
        Some(id) => id,
        None => minted_name(&state)?,
    };
    let command = PlaceOrder {
        account_id: caller.account_id,
        order_id: OrderId::new(state.ids.uuid()),
        client_order_id,
        client_order_id_given: given,
        terms: body.terms,
    };
    let client = headers.get("traceparent").and_then(|value| value.to_str().ok());
    let mut step = platform::trace::root("order.place", command.order_id, client);
    if let Some(step) = &mut step {
        step.note("account_id", command.account_id);
        step.note("client_order_id", &command.client_order_id);
    }
    let (order_id, name) = (command.order_id, command.client_order_id.clone());
    let placed = state.commands.place(command).await.inspect_err(|error| {
        // For this line, and for what the request still logs.
        let span = tracing::Span::current();
        span.record("order_id", tracing::field::display(order_id));
        span.record("client_order_id", tracing::field::display(&name));
        span.record("account_id", tracing::field::display(caller.account_id));
        tracing::debug!(target: ORDERS, %order_id, client_order_id = %name, account_id = %caller.account_id, %error,
            "order not accepted");
    })?;
    drop(step);
    let order = &placed.order;
    tracing::debug!(target: ORDERS, order_id = %order.id, client_order_id = %order.client_order_id,
        account_id = %order.account_id, replayed = placed.replayed, "order accepted");
    let mut response = Json(entity::order(&placed.order)).into_response();
    if placed.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn minted_name(state: &ApiState) -> Result<ClientOrderId, FieldError> {
    let text = state.ids.uuid().to_string();
    ClientOrderId::new(text).map_err(|error| FieldError::new("client_order_id", error))
}

/// `GET /v2/orders`.
pub(super) async fn list(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    QueryParams(params): QueryParams,
) -> Result<Json<Vec<OrderEntity>>, ApiFailure> {
    let Some(filter) = order_list::filter(&params)? else { return Ok(Json(Vec::new())) };
    // A place in the list that does not exist would silently give an empty page: the end, to a
    // client that pages.
    for cursor in [filter.before_order_id, filter.after_order_id].into_iter().flatten() {
        find(&state, caller.account_id, cursor).await?;
    }
    let orders = state.queries.orders(caller.account_id, &filter).await?;
    Ok(Json(orders.iter().map(entity::order).collect()))
}

/// `GET /v2/orders/{order_id}`.
pub(super) async fn one(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    PathName(order_id): PathName,
) -> Result<Json<OrderEntity>, ApiFailure> {
    find(&state, caller.account_id, read_id(&order_id)?).await.map(Json)
}

/// `GET /v2/orders:by_client_order_id`.
pub(super) async fn by_client_id(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    QueryParams(params): QueryParams,
) -> Result<Json<OrderEntity>, ApiFailure> {
    const NAME: &str = "client_order_id";
    let text = params.one(NAME)?.ok_or_else(|| FieldError::new(NAME, "is required"))?;
    // A text that no order can have is simply not found.
    let Ok(id) = ClientOrderId::new(text) else { return Err(not_found("order", text)) };
    let order = state.queries.order_by_client_id(caller.account_id, &id).await?;
    order.map(|order| Json(entity::order(&order))).ok_or_else(|| not_found("order", text))
}

/// `DELETE /v2/orders/{order_id}`. 204 says that the request is on record, not that the order is
/// canceled.
pub(super) async fn cancel(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    PathName(order_id): PathName,
) -> Result<StatusCode, ApiFailure> {
    state.commands.cancel(caller.account_id, read_id(&order_id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v2/orders`: one row an order that was open, each with its own status.
pub(super) async fn cancel_all(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiFailure> {
    let mut rows = Vec::new();
    let mut after_order_id = None;
    for _ in 0..CANCEL_PAGES_MAX {
        let page = state.queries.orders(caller.account_id, &open_after(after_order_id)).await?;
        let Some(last) = page.last() else { break };
        after_order_id = Some(last.id);
        let ids: Vec<OrderId> = page.iter().map(|order| order.id).collect();
        rows.extend(cancel_each(&state, caller.account_id, ids).await);
        if i64::try_from(page.len()).unwrap_or(i64::MAX) < order_list::LIMIT_MAX {
            break;
        }
    }
    Ok((StatusCode::MULTI_STATUS, Json(rows)).into_response())
}

async fn cancel_each(state: &ApiState, account: AccountId, orders: Vec<OrderId>) -> Vec<Value> {
    let cancels = stream::iter(orders).map(|order| cancel_row(state.clone(), account, order));
    cancels.buffered(CANCELS_AT_ONCE).filter_map(std::future::ready).collect().await
}

fn open_after(after_order_id: Option<OrderId>) -> OrderFilter {
    OrderFilter {
        scope: OrderScope::Open,
        limit: order_list::LIMIT_MAX,
        after: None,
        until: None,
        before_order_id: None,
        after_order_id,
        ascending: true,
        symbols: Vec::new(),
        side: None,
    }
}

/// None for an order that ended after it was listed as open: it need not be cancelled.
async fn cancel_row(state: ApiState, account: AccountId, order: OrderId) -> Option<Value> {
    match state.commands.cancel(account, order).await {
        Ok(()) => Some(json!({"id": order, "status": 200})),
        Err(CommandError::Refused(Refusal::NotCancelable { .. })) => None,
        Err(error) => {
            let failure = ApiFailure::from(error);
            let (status, _) = failure.answer();
            Some(json!({"id": order, "status": status.as_u16(), "body": failure.body()}))
        }
    }
}

fn read_id(text: &str) -> Result<OrderId, FieldError> {
    text.parse().map_err(|_| FieldError::new("order_id", "must be a UUID"))
}

async fn find(state: &ApiState, account: AccountId, id: OrderId) -> Result<OrderEntity, ApiFailure> {
    let order = state.queries.order(account, id).await?;
    order.map(|order| entity::order(&order)).ok_or_else(|| not_found("order", &id.to_string()))
}
