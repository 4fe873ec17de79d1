//! The operator port: accounts, deposits, keys, a closer look at one order, and the check of the
//! books. Every route needs the operators' bearer token.

pub mod parked;
mod view;

use super::http::auth::hash_secret;
use super::http::body::{read_body, require_json};
use super::http::fields::{FieldError, Fields};
use super::http::{ApiFailure, BodyLimits};
use crate::application::audit::Audit;
use crate::application::command::{Commands, Deposit};
use crate::application::query::{Admin, ApiKey, Queries, SecretSource};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::{AccountId, Currency, Money, OrderId};
use platform::clock::{Clock, IdSource};
use platform::config::Secret;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest reference of a deposit.
const REFERENCE_LEN_MAX: usize = 128;

/// Decimals of a deposit: money comes in whole cents.
const DEPOSIT_SCALE_MAX: u32 = 2;

/// What the operators' routes work with.
#[derive(Clone)]
pub struct OpsState {
    /// Where deposits go: they move a balance, so a shard worker books them.
    pub commands: Arc<dyn Commands>,
    /// Where reads go.
    pub queries: Arc<dyn Queries>,
    /// Where accounts and keys are made.
    pub admin: Arc<dyn Admin>,
    /// The check of the books.
    pub audit: Arc<dyn Audit>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Mints ids.
    pub ids: Arc<dyn IdSource>,
    /// Mints secrets.
    pub secrets: Arc<dyn SecretSource>,
}

/// The operators' routes, behind their token.
pub fn router(state: OpsState, token: Secret, limits: BodyLimits) -> Router {
    let routes = Router::new()
        .route("/ops/v1/accounts", post(create_account))
        .route("/ops/v1/accounts/{account_id}", get(account))
        .route("/ops/v1/accounts/{account_id}/deposits", post(deposit))
        .route("/ops/v1/accounts/{account_id}/keys", post(create_key))
        .route("/ops/v1/orders/{order_id}", get(order))
        .route("/ops/v1/audit", get(audit))
        .with_state(state)
        .layer(middleware::from_fn_with_state(limits, read_body));
    platform::http::require_bearer(routes, token)
}

/// `POST /ops/v1/accounts` with `{"currency", "account_id"?}`. Giving the id makes a repeat harmless.
async fn create_account(
    State(state): State<OpsState>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiFailure> {
    let fields = read(&headers, &body)?;
    let currency = currency(&fields)?;
    let account_id = match fields.text("account_id")? {
        Some(text) => text.parse().map_err(|_| FieldError::new("account_id", "must be a UUID"))?,
        None => AccountId::new(state.ids.uuid()),
    };
    let number = state.admin.create_account(account_id, currency, state.clock.now()).await?;
    let body = json!({"account_id": account_id, "account_number": number, "currency": currency});
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `GET /ops/v1/accounts/{account_id}`.
async fn account(State(state): State<OpsState>, Path(account_id): Path<String>) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let account = state.queries.account(account_id).await?.ok_or_else(|| no_account(account_id))?;
    let positions = state.queries.positions(account_id).await?;
    Ok(Json(view::account(&account, &positions)))
}

/// `POST /ops/v1/accounts/{account_id}/deposits` with `{"amount", "currency", "reference"}`. The
/// same reference books once, however often it is sent.
async fn deposit(
    State(state): State<OpsState>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let fields = read(&headers, &body)?;
    let money = amount(&fields, currency(&fields)?)?;
    let reference = reference(&fields)?;
    let body = json!({
        "account_id": account_id,
        "amount": contracts::decimal::plain(money.amount()),
        "currency": money.currency(),
        "reference": reference,
    });
    state.commands.deposit(Deposit { id: state.ids.uuid(), account_id, money, reference }).await?;
    Ok(Json(body))
}

/// `POST /ops/v1/accounts/{account_id}/keys`: the only time that the secret is shown.
async fn create_key(State(state): State<OpsState>, Path(account_id): Path<String>) -> Result<Response, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    state.queries.account(account_id).await?.ok_or_else(|| no_account(account_id))?;
    let secret_key = URL_SAFE_NO_PAD.encode(state.secrets.secret());
    let key_id = format!("PK{:X}", state.secrets.id().simple());
    let key = ApiKey { key_id: key_id.clone(), account_id, secret_sha256: hash_secret(&secret_key) };
    state.admin.store_key(&key, state.clock.now()).await?;
    let body = json!({"account_id": account_id, "key_id": key_id, "secret_key": secret_key});
    Ok((StatusCode::CREATED, Json(body)).into_response())
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

fn read<'a>(headers: &HeaderMap, body: &'a Bytes) -> Result<Fields<'a>, ApiFailure> {
    require_json(headers)?;
    let fields = Fields::read(body)?;
    fields.require_unique()?;
    Ok(fields)
}

fn account_id_of(text: &str) -> Result<AccountId, FieldError> {
    text.parse().map_err(|_| FieldError::new("account_id", "must be a UUID"))
}

fn no_account(id: AccountId) -> ApiFailure {
    ApiFailure::NotFound { what: "account", name: id.to_string() }
}

/// Listed shares are priced in dollars, so that is what accounts hold.
fn currency(fields: &Fields<'_>) -> Result<Currency, FieldError> {
    match fields.required_text("currency")?.as_str() {
        "USD" => Ok(Currency::USD),
        _ => Err(FieldError::new("currency", "must be USD")),
    }
}

fn amount(fields: &Fields<'_>, currency: Currency) -> Result<Money, FieldError> {
    let text = fields.number("amount")?.ok_or_else(|| FieldError::new("amount", "is required"))?;
    let money = Money::parse(&text, currency).map_err(|error| FieldError::new("amount", error))?;
    if money.amount() <= Decimal::ZERO {
        return Err(FieldError::new("amount", "must be greater than zero"));
    }
    if money.amount().normalize().scale() > DEPOSIT_SCALE_MAX {
        return Err(FieldError::new("amount", "must be in whole cents"));
    }
    Ok(money)
}

fn reference(fields: &Fields<'_>) -> Result<String, FieldError> {
    let text = fields.required_text("reference")?;
    let good = !text.is_empty() && text.len() <= REFERENCE_LEN_MAX && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    let problem = || format!("must be 1 to {REFERENCE_LEN_MAX} characters of printable ASCII");
    if good { Ok(text) } else { Err(FieldError::new("reference", problem())) }
}

#[cfg(test)]
mod tests;
