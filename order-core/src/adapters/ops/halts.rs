//! Halts: no new orders of an account, in a symbol, or at all. Orders that are there go on, and can be
//! cancelled.

use super::{OpsState, account_id_of, accountable, read};
use crate::adapters::http::ApiFailure;
use crate::adapters::http::fields::FieldError;
use crate::application::command::HaltAccount;
use crate::application::operator::{Action, HaltOutcome};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use contracts::Symbol;
use platform::operators::Operator;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;

/// `POST /ops/v1/accounts/{account_id}/halt` with `{"operator", "reason"}`.
pub(super) async fn halt_account(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set_account(&state, &operator, &account_id, &headers, &body, true).await
}

/// `POST /ops/v1/accounts/{account_id}/lift` with `{"operator", "reason"}`.
pub(super) async fn lift_account(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set_account(&state, &operator, &account_id, &headers, &body, false).await
}

async fn set_account(
    state: &OpsState,
    operator: &Operator,
    account_id: &str,
    headers: &HeaderMap,
    body: &Bytes,
    halted: bool,
) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(account_id)?;
    let (actor, reason) = accountable(operator, &read(headers, body)?)?;
    let halt_reason = halted.then(|| reason.clone());
    state.commands.halt(HaltAccount { account_id, halt_reason, reason: Some(reason), actor }).await?;
    Ok(Json(json!({"account_id": account_id, "halted": halted})))
}

/// `POST /ops/v1/halts/market/halt` with `{"operator", "reason"}`: no new orders at all.
pub(super) async fn halt_market(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set(&state, &operator, None, &headers, &body, true).await
}

/// `POST /ops/v1/halts/market/lift` with `{"operator", "reason"}`.
pub(super) async fn lift_market(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set(&state, &operator, None, &headers, &body, false).await
}

/// `POST /ops/v1/halts/symbols/{symbol}/halt` with `{"operator", "reason"}`.
pub(super) async fn halt_symbol(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(symbol): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set(&state, &operator, Some(symbol_of(symbol)?), &headers, &body, true).await
}

/// `POST /ops/v1/halts/symbols/{symbol}/lift` with `{"operator", "reason"}`.
pub(super) async fn lift_symbol(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(symbol): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    set(&state, &operator, Some(symbol_of(symbol)?), &headers, &body, false).await
}

async fn set(
    state: &OpsState,
    operator: &Operator,
    symbol: Option<Symbol>,
    headers: &HeaderMap,
    body: &Bytes,
    halted: bool,
) -> Result<Json<Value>, ApiFailure> {
    let (actor, reason) = accountable(operator, &read(headers, body)?)?;
    let subject = symbol.as_ref().map_or_else(|| "market".to_owned(), ToString::to_string);
    let kind = if halted { "halt.set" } else { "halt.lifted" };
    let action = Action { actor, kind, account_id: None, subject, reason: Some(reason), terms: String::new() };
    let now = state.clock.now();
    let outcome = if halted {
        state.operations.halt(symbol.as_ref(), &action, now).await?
    } else {
        state.operations.lift(symbol.as_ref(), &action, now).await?
    };
    match outcome {
        HaltOutcome::Done | HaltOutcome::Already => {
            let changed = outcome == HaltOutcome::Done;
            Ok(Json(json!({"subject": action.subject, "halted": halted, "changed": changed})))
        }
        HaltOutcome::TooMany => Err(FieldError::new("symbol", "cannot be halted: too many symbols are").into()),
    }
}

/// `GET /ops/v1/halts`: of symbols and of the market. An account's is shown with the account.
pub(super) async fn list(State(state): State<OpsState>) -> Result<Json<Value>, ApiFailure> {
    let halts = state.operations.halts().await?;
    let halts: Vec<_> = halts
        .iter()
        .map(|halt| {
            json!({
                "subject": halt.symbol.as_ref().map_or_else(|| "market".to_owned(), ToString::to_string),
                "reason": halt.reason,
                "operator": halt.operator,
                "at": halt.at.format(&Rfc3339).ok(),
            })
        })
        .collect();
    Ok(Json(json!({"halts": halts})))
}

fn symbol_of(text: String) -> Result<Symbol, FieldError> {
    Symbol::new(text).map_err(|error| FieldError::new("symbol", error))
}
