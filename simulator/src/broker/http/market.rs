//! Assets and last prices of the dialect.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contracts::alpaca::{AssetEntity, LatestTrade, LatestTrades, codes};

use super::deliver::hang_up;
use super::{error, invalid};
use crate::broker::shared::Shared;
use crate::broker::universe::{self, INSTRUMENTS, Instrument};

/// Most symbols in a price request.
const SYMBOLS_MAX: usize = 200;

pub(super) async fn assets() -> Response {
    let assets: Vec<AssetEntity> = INSTRUMENTS.iter().map(Instrument::entity).collect();
    axum::Json(assets).into_response()
}

pub(super) async fn asset(Path(symbol): Path<String>) -> Response {
    let by_id = || INSTRUMENTS.iter().find(|instrument| instrument.asset_id.to_string() == symbol);
    match universe::find(&symbol).map(|(_, instrument)| instrument).or_else(by_id) {
        Some(instrument) => axum::Json(instrument.entity()).into_response(),
        None => error(StatusCode::NOT_FOUND, codes::NOT_FOUND, format!("asset not found for {symbol}")),
    }
}

pub(super) async fn latest_trades(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let Some(symbols) = query.get("symbols") else { return invalid("symbols is required") };
    let symbols: Vec<&str> = symbols.split(',').take(SYMBOLS_MAX).collect();
    let Ok(latest) = shared.with(|exchange| exchange.latest_trades(symbols.into_iter())) else { return hang_up() };
    let trades = latest.into_iter().map(|(symbol, price, at)| (symbol, LatestTrade { price, at })).collect();
    axum::Json(LatestTrades { trades }).into_response()
}
