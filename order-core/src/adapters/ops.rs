//! The operator port: accounts, money in and out, keys, halts, a closer look at one order, what
//! operators did, and the check of the books. Every route needs an operator's token.

mod accounts;
pub mod explain;
mod halts;
mod keys;
pub mod parked;
mod view;

use super::http::body::{read_body, require_json};
use super::http::fields::{FieldError, Fields};
use super::http::{ApiFailure, BodyLimits, QueryParams};
use crate::application::audit::Audit;
use crate::application::command::Commands;
use crate::application::operator::{ActionFilter, Actor, Operations};
use crate::application::query::{Queries, SecretSource};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use contracts::{AccountId, OrderId};
use platform::clock::{Clock, IdSource};
use platform::operators::{Operator, Operators, require_operator};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest text that an operator gives: a reference, a name, a reason.
const TEXT_LEN_MAX: usize = 256;

/// Longest reference and name.
const NAME_LEN_MAX: usize = 128;

/// Rows of a page, unless told otherwise.
const PAGE_LEN_DEFAULT: i64 = 100;

/// Most rows of a page.
const PAGE_LEN_MAX: i64 = 500;

/// What the operators' routes work with.
#[derive(Clone)]
pub struct OpsState {
    /// Where what changes an account goes: a shard worker does it.
    pub commands: Arc<dyn Commands>,
    /// Where reads go.
    pub queries: Arc<dyn Queries>,
    /// Where accounts, keys and halts are kept.
    pub operations: Arc<dyn Operations>,
    /// The check of the books.
    pub audit: Arc<dyn Audit>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Mints ids.
    pub ids: Arc<dyn IdSource>,
    /// Mints secrets.
    pub secrets: Arc<dyn SecretSource>,
}

/// The operators' routes, behind their tokens.
pub fn router(state: OpsState, operators: Operators, limits: BodyLimits) -> Router {
    let routes = Router::new()
        .route("/ops/v1/accounts", get(accounts::list).post(accounts::make))
        .route("/ops/v1/accounts/{account_id}", get(accounts::one))
        .route("/ops/v1/accounts/{account_id}/deposits", post(accounts::deposit))
        .route("/ops/v1/accounts/{account_id}/withdrawals", post(accounts::withdraw))
        .route("/ops/v1/accounts/{account_id}/keys", get(keys::list).post(keys::issue))
        .route("/ops/v1/accounts/{account_id}/keys/{key_id}/rotate", post(keys::rotate))
        .route("/ops/v1/accounts/{account_id}/keys/{key_id}/revoke", post(keys::revoke))
        .route("/ops/v1/accounts/{account_id}/halt", post(halts::halt_account))
        .route("/ops/v1/accounts/{account_id}/lift", post(halts::lift_account))
        .route("/ops/v1/halts", get(halts::list))
        .route("/ops/v1/halts/market/halt", post(halts::halt_market))
        .route("/ops/v1/halts/market/lift", post(halts::lift_market))
        .route("/ops/v1/halts/symbols/{symbol}/halt", post(halts::halt_symbol))
        .route("/ops/v1/halts/symbols/{symbol}/lift", post(halts::lift_symbol))
        .route("/ops/v1/actions", get(actions))
        .route("/ops/v1/orders/{order_id}", get(order))
        .route("/ops/v1/audit", get(audit))
        .with_state(state)
        .layer(middleware::from_fn_with_state(limits, read_body));
    require_operator(routes, operators)
}

/// `GET /ops/v1/orders/{order_id}`, of whichever account.
async fn order(State(state): State<OpsState>, Path(order_id): Path<String>) -> Result<Json<Value>, ApiFailure> {
    let id: OrderId = order_id.parse().map_err(|_| FieldError::new("order_id", "must be a UUID"))?;
    let order = state.queries.any_order(id).await?;
    let order = order.ok_or_else(|| ApiFailure::NotFound { what: "order", name: id.to_string() })?;
    Ok(Json(view::order(&order)))
}

/// `GET /ops/v1/audit`: what is wrong with the books, in one snapshot. Empty when nothing is.
async fn audit(State(state): State<OpsState>) -> Result<Json<Value>, ApiFailure> {
    let violations = state.audit.audit().await?;
    Ok(Json(json!({"violations": violations})))
}

/// `GET /ops/v1/actions?account_id=&before=&limit=`: what operators did, newest first.
async fn actions(State(state): State<OpsState>, QueryParams(params): QueryParams) -> Result<Json<Value>, ApiFailure> {
    let limit = page_len(&params)?;
    let account_id = params.one("account_id")?.map(account_id_of).transpose()?;
    let before = params.integer("before", 1..=i64::MAX)?;
    let actions = state.operations.actions(ActionFilter { account_id, before, limit }).await?;
    let next = full_page(&actions, limit).map(|last| last.id);
    Ok(Json(json!({"actions": actions, "before": next})))
}

fn page_len(params: &super::http::params::Params) -> Result<i64, FieldError> {
    Ok(params.integer("limit", 1..=PAGE_LEN_MAX)?.unwrap_or(PAGE_LEN_DEFAULT))
}

/// The last row of a page behind which there may be more.
fn full_page<T>(rows: &[T], limit: i64) -> Option<&T> {
    if i64::try_from(rows.len()).is_ok_and(|len| len >= limit) { rows.last() } else { None }
}

/// The fields of a body. A request without a body has none.
fn read<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<Fields<'a>, ApiFailure> {
    if body.is_empty() {
        return Ok(Fields::read(b"{}")?);
    }
    require_json(headers)?;
    let fields = Fields::read(body)?;
    fields.require_unique()?;
    Ok(fields)
}

/// Who acts: the name that belongs to the token. Only the shared token leaves it to the request to say
/// who it is.
fn actor(operator: &Operator, fields: &Fields<'_>) -> Result<Actor, FieldError> {
    let credential = operator.name.clone();
    let given = text(fields, "operator", NAME_LEN_MAX)?;
    match given {
        Some(name) if operator.is_shared() || name == credential => Ok(Actor { name, credential }),
        Some(_) => Err(FieldError::new("operator", "must be the one whose token this is")),
        None => Ok(Actor { name: credential.clone(), credential }),
    }
}

/// An actor who must say why, and with the shared token also who.
fn accountable(operator: &Operator, fields: &Fields<'_>) -> Result<(Actor, String), FieldError> {
    let actor = actor(operator, fields)?;
    if operator.is_shared() && actor.name == actor.credential {
        return Err(FieldError::new("operator", "is required with the shared token"));
    }
    let reason = text(fields, "reason", TEXT_LEN_MAX)?.ok_or_else(|| FieldError::new("reason", "is required"))?;
    Ok((actor, reason))
}

/// A short text for people. Control characters would let one line of a record look like two.
fn text(fields: &Fields<'_>, name: &str, len_max: usize) -> Result<Option<String>, FieldError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let good = !text.trim().is_empty() && text.len() <= len_max && !text.chars().any(char::is_control);
    let problem = || format!("must be 1 to {len_max} bytes of text without control characters");
    if good { Ok(Some(text)) } else { Err(FieldError::new(name, problem())) }
}

fn account_id_of(text: &str) -> Result<AccountId, FieldError> {
    text.parse().map_err(|_| FieldError::new("account_id", "must be a UUID"))
}

fn no_account(id: AccountId) -> ApiFailure {
    ApiFailure::NotFound { what: "account", name: id.to_string() }
}

#[cfg(test)]
mod tests;
