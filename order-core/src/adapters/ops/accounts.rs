//! Accounts, and money in and out of them.

use super::{NAME_LEN_MAX, OpsState, account_id_of, actor, full_page, no_account, page_len, read, view};
use crate::adapters::http::fields::{FieldError, Fields};
use crate::adapters::http::{ApiFailure, QueryParams};
use crate::application::command::{CommandError, Deposit, Withdrawal};
use crate::application::operator::{AccountMade, AccountRequest};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use contracts::{AccountId, Currency, Money};
use platform::operators::Operator;
use rust_decimal::Decimal;
use serde_json::{Value, json};

/// Decimals of an amount: money comes and goes in whole cents.
const AMOUNT_SCALE_MAX: u32 = 2;

/// `POST /ops/v1/accounts` with `{"currency", "account_id"?}`. Giving the id makes a repeat harmless.
pub(super) async fn make(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiFailure> {
    let fields = read(&headers, &body)?;
    let currency = currency(&fields)?;
    let id = match fields.text("account_id")? {
        Some(text) => account_id_of(&text)?,
        None => AccountId::new(state.ids.uuid()),
    };
    let request = AccountRequest { id, currency, actor: actor(&operator, &fields)? };
    let (status, number) = match state.operations.make_account(&request, state.clock.now()).await? {
        AccountMade::New(number) => (StatusCode::CREATED, number),
        AccountMade::Known(number) => (StatusCode::OK, number),
        AccountMade::OtherCurrency(_) => return Err(CommandError::CurrencyMismatch.into()),
    };
    let body = json!({"account_id": id, "account_number": number, "currency": currency});
    Ok((status, Json(body)).into_response())
}

/// `GET /ops/v1/accounts?after=&limit=`, by id.
pub(super) async fn list(
    State(state): State<OpsState>,
    QueryParams(params): QueryParams,
) -> Result<Json<Value>, ApiFailure> {
    let limit = page_len(&params)?;
    let after = params.one("after")?.map(account_id_of).transpose()?;
    let accounts = state.operations.accounts(after, limit).await?;
    let next = full_page(&accounts, limit).map(|last| last.id);
    let accounts: Vec<_> = accounts.iter().map(view::account_line).collect();
    Ok(Json(json!({"accounts": accounts, "after": next})))
}

/// `GET /ops/v1/accounts/{account_id}`.
pub(super) async fn one(
    State(state): State<OpsState>,
    Path(account_id): Path<String>,
) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let account = state.queries.account(account_id).await?.ok_or_else(|| no_account(account_id))?;
    let positions = state.queries.positions(account_id).await?;
    Ok(Json(view::account(&account, &positions)))
}

/// `POST /ops/v1/accounts/{account_id}/deposits` with `{"amount", "currency", "reference"}`. The
/// same reference books once, however often it is sent.
pub(super) async fn deposit(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    let deposit = movement(&state, &operator, &account_id, &headers, &body)?;
    let answer = movement_view(&deposit);
    state.commands.deposit(deposit).await?;
    Ok(Json(answer))
}

/// `POST /ops/v1/accounts/{account_id}/withdrawals`, the same in the other direction. Only what is
/// available goes out.
pub(super) async fn withdraw(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    let withdrawal = movement(&state, &operator, &account_id, &headers, &body)?;
    let answer = movement_view(&withdrawal);
    state.commands.withdraw(Withdrawal(withdrawal)).await?;
    Ok(Json(answer))
}

fn movement(
    state: &OpsState,
    operator: &Operator,
    account_id: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Deposit, ApiFailure> {
    let account_id = account_id_of(account_id)?;
    let fields = read(headers, body)?;
    let money = amount(&fields, currency(&fields)?)?;
    let reference = reference(&fields)?;
    Ok(Deposit { id: state.ids.uuid(), account_id, money, reference, actor: actor(operator, &fields)? })
}

fn movement_view(movement: &Deposit) -> Value {
    json!({
        "account_id": movement.account_id,
        "amount": contracts::decimal::plain(movement.money.amount()),
        "currency": movement.money.currency(),
        "reference": movement.reference,
    })
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
    if money.amount().normalize().scale() > AMOUNT_SCALE_MAX {
        return Err(FieldError::new("amount", "must be in whole cents"));
    }
    Ok(money)
}

fn reference(fields: &Fields<'_>) -> Result<String, FieldError> {
    let text = fields.required_text("reference")?;
    let good = !text.is_empty() && text.len() <= NAME_LEN_MAX && text.bytes().all(|b| (0x20..0x7f).contains(&b));
    let problem = || format!("must be 1 to {NAME_LEN_MAX} characters of printable ASCII");
    if good { Ok(text) } else { Err(FieldError::new("reference", problem())) }
}
