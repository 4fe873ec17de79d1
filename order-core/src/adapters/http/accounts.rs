//! The caller's account and holdings.

use super::auth::Caller;
use super::entity::Valued;
use super::failure::ApiFailure;
use super::{ApiState, PathName, entity, not_found};
use crate::application::query::PositionView;
use crate::application::reference::Reference;
use axum::extract::State;
use axum::{Extension, Json};
use contracts::alpaca::{AccountEntity, PositionEntity};

/// `GET /v2/account`.
pub(super) async fn account(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<AccountEntity>, ApiFailure> {
    let view = state.queries.account(caller.account_id).await?;
    let view = view.ok_or_else(|| not_found("account", &caller.account_id.to_string()))?;
    let positions = state.queries.positions(caller.account_id).await?;
    let valued: Vec<_> = positions.iter().map(|view| valued(&state, view)).collect();
    Ok(Json(entity::account(&view, &valued)))
}

/// `GET /v2/positions`.
pub(super) async fn positions(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<PositionEntity>>, ApiFailure> {
    let positions = state.queries.positions(caller.account_id).await?;
    Ok(Json(positions.iter().map(|view| entity::position(valued(&state, view))).collect()))
}

/// `GET /v2/positions/{symbol_or_id}`.
pub(super) async fn position(
    State(state): State<ApiState>,
    Extension(caller): Extension<Caller>,
    PathName(name): PathName,
) -> Result<Json<PositionEntity>, ApiFailure> {
    let positions = state.queries.positions(caller.account_id).await?;
    let id = name.parse().ok();
    let found = positions.iter().find(|view| view.asset.symbol.as_str() == name || Some(view.asset.id) == id);
    let view = found.ok_or_else(|| not_found("position", &name))?;
    Ok(Json(entity::position(valued(&state, view))))
}

fn valued<'a>(state: &ApiState, view: &'a PositionView) -> Valued<'a> {
    Valued { view, last: state.reference.price(&view.asset.symbol) }
}
