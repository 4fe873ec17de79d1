//! What may be traded.

use super::failure::ApiFailure;
use super::fields::FieldError;
use super::{ApiState, PathName, QueryParams, entity, not_found};
use axum::Json;
use axum::extract::State;
use contracts::Symbol;
use contracts::alpaca::AssetEntity;

/// `GET /v2/assets`. Every listed asset is active and an US equity.
pub(super) async fn list(
    State(state): State<ApiState>,
    QueryParams(params): QueryParams,
) -> Result<Json<Vec<AssetEntity>>, ApiFailure> {
    let active = match params.one("status")? {
        None | Some("active" | "all") => true,
        Some("inactive") => false,
        Some(_) => return Err(FieldError::new("status", "must be active or inactive").into()),
    };
    let equities = params.one("asset_class")?.is_none_or(|class| class == "us_equity" || class == "all");
    if !active || !equities {
        return Ok(Json(Vec::new()));
    }
    let exchange = params.one("exchange")?;
    let assets = state.reference.assets();
    let entities = assets.iter().map(entity::asset);
    Ok(Json(entities.filter(|asset| exchange.is_none_or(|wanted| asset.exchange.as_str() == wanted)).collect()))
}

/// `GET /v2/assets/{symbol_or_id}`.
pub(super) async fn one(
    State(state): State<ApiState>,
    PathName(name): PathName,
) -> Result<Json<AssetEntity>, ApiFailure> {
    let assets = state.reference.assets();
    let by_symbol = Symbol::new(name.as_str()).ok().and_then(|symbol| assets.get(&symbol));
    let found = by_symbol.or_else(|| assets.by_id(name.parse().ok()?));
    found.map(|asset| Json(entity::asset(asset))).ok_or_else(|| not_found("asset", &name))
}
