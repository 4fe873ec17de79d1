//! API keys. A secret is shown once, when it is made, and kept only as a hash.

use super::{OpsState, TEXT_LEN_MAX, account_id_of, actor, full_page, no_account, page_len, read, text};
use crate::adapters::http::auth::hash_secret;
use crate::adapters::http::fields::{FieldError, Fields};
use crate::adapters::http::{ApiFailure, QueryParams};
use crate::application::operator::{Action, KeyRotation};
use crate::application::query::ApiKey;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::AccountId;
use platform::operators::Operator;
use serde_json::{Value, json};
use time::Duration;
use time::format_description::well_known::Rfc3339;

/// Longest time that a rotated key may go on.
const OVERLAP_S_MAX: i64 = 7 * 24 * 3600;

/// `POST /ops/v1/accounts/{account_id}/keys`: the only time that the secret is shown.
pub(super) async fn issue(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path(account_id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let fields = read(&headers, &body)?;
    state.queries.account(account_id).await?.ok_or_else(|| no_account(account_id))?;
    let (key, secret_key) = mint(&state, account_id);
    let action = action(&operator, &fields, "key.issued", &key, String::new())?;
    state.operations.issue_key(&key, &action, state.clock.now()).await?;
    let body = json!({"account_id": account_id, "key_id": key.key_id, "secret_key": secret_key});
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `GET /ops/v1/accounts/{account_id}/keys?after=&limit=`, by key id.
pub(super) async fn list(
    State(state): State<OpsState>,
    Path(account_id): Path<String>,
    QueryParams(params): QueryParams,
) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    state.queries.account(account_id).await?.ok_or_else(|| no_account(account_id))?;
    let limit = page_len(&params)?;
    let after = params.one("after")?.map(|after| key_id_of(after.to_owned())).transpose()?;
    let keys = state.operations.keys(account_id, after.as_deref(), limit).await?;
    let next = full_page(&keys, limit).map(|last| last.key_id.clone());
    Ok(Json(json!({"keys": keys, "after": next})))
}

/// `POST /ops/v1/accounts/{account_id}/keys/{key_id}/rotate` with `{"overlap_s"}`: a new key now, and
/// the old one for so long; 0 ends it at once.
pub(super) async fn rotate(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path((account_id, key_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let fields = read(&headers, &body)?;
    let key_id = key_id_of(key_id)?;
    let overlap_s = overlap_s(&fields)?;
    let (new, secret_key) = mint(&state, account_id);
    let now = state.clock.now();
    let action = action(&operator, &fields, "key.rotated", &new, format!("from {key_id}, overlap {overlap_s} s"))?;
    let rotation = KeyRotation { old: key_id.clone(), overlap: Duration::seconds(overlap_s), new };
    let ends_at = state.operations.rotate_key(&rotation, &action, now).await?;
    let ends_at = ends_at.ok_or_else(|| no_key(key_id.clone()))?;
    let body = json!({
        "account_id": account_id,
        "key_id": rotation.new.key_id,
        "secret_key": secret_key,
        "old_key_id": key_id,
        "old_key_ends_at": ends_at.format(&Rfc3339).ok(),
    });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `POST /ops/v1/accounts/{account_id}/keys/{key_id}/revoke`.
pub(super) async fn revoke(
    State(state): State<OpsState>,
    Extension(operator): Extension<Operator>,
    Path((account_id, key_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiFailure> {
    let account_id = account_id_of(&account_id)?;
    let fields = read(&headers, &body)?;
    let key_id = key_id_of(key_id)?;
    let action = Action {
        actor: actor(&operator, &fields)?,
        kind: "key.revoked",
        account_id: Some(account_id),
        subject: key_id.clone(),
        reason: text(&fields, "reason", TEXT_LEN_MAX)?,
        terms: String::new(),
    };
    if !state.operations.revoke_key(account_id, &key_id, &action, state.clock.now()).await? {
        return Err(no_key(key_id));
    }
    Ok(Json(json!({"account_id": account_id, "key_id": key_id, "revoked": true})))
}

fn mint(state: &OpsState, account_id: AccountId) -> (ApiKey, String) {
    let secret_key = URL_SAFE_NO_PAD.encode(state.secrets.secret());
    let key_id = format!("PK{:X}", state.secrets.id().simple());
    (ApiKey { key_id, account_id, secret_sha256: hash_secret(&secret_key), ends: false }, secret_key)
}

fn action(
    operator: &Operator,
    fields: &Fields<'_>,
    kind: &'static str,
    key: &ApiKey,
    terms: String,
) -> Result<Action, FieldError> {
    Ok(Action {
        actor: actor(operator, fields)?,
        kind,
        account_id: Some(key.account_id),
        subject: key.key_id.clone(),
        reason: text(fields, "reason", TEXT_LEN_MAX)?,
        terms,
    })
}

fn overlap_s(fields: &Fields<'_>) -> Result<i64, FieldError> {
    let text = fields.number("overlap_s")?.ok_or_else(|| FieldError::new("overlap_s", "is required"))?;
    let seconds = text.parse().ok().filter(|seconds| (0..=OVERLAP_S_MAX).contains(seconds));
    seconds.ok_or_else(|| FieldError::new("overlap_s", format!("must be a whole number from 0 to {OVERLAP_S_MAX}")))
}

/// What cannot be a key's id names no key.
fn key_id_of(text: String) -> Result<String, ApiFailure> {
    let good = !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_graphic());
    if good { Ok(text) } else { Err(no_key("not a key id".to_owned())) }
}

const fn no_key(name: String) -> ApiFailure {
    ApiFailure::NotFound { what: "valid key of this account", name }
}
