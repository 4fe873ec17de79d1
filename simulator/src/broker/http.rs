//! The HTTP surface.

mod access;
mod deliver;
mod market;
mod operator;
mod orders;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use contracts::alpaca::{ApiError, codes};

use super::metrics::observe;
use super::shared::Shared;
pub(super) use deliver::HangUp;

/// Largest request body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// All routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    let dialect = Router::new()
        .route("/v1/trading/accounts/{account_id}/orders", get(orders::list).post(orders::submit))
        .route("/v1/trading/accounts/{account_id}/orders:by_client_order_id", get(orders::by_client_order_id))
        .route("/v1/trading/accounts/{account_id}/orders/{order_id}", get(orders::by_id).delete(orders::cancel))
        .route("/v1/assets", get(market::assets))
        .route("/v1/assets/{symbol}", get(market::asset))
        .route("/v2/stocks/trades/latest", get(market::latest_trades))
        .route("/v2/events/trades", get(stream::trades))
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), access::guard));
    let operator = Router::new()
        .route("/sim/v1/health", get(operator::health))
        .route("/sim/v1/config", get(operator::config).put(operator::configure))
        .route("/sim/v1/faults", get(operator::faults).post(operator::add_fault).delete(operator::clear_faults))
        .route("/sim/v1/streams/reset", post(operator::reset_streams))
        .route("/sim/v1/streams/drop", post(operator::drop_from_streams))
        .route("/sim/v1/pushes", get(operator::pushes))
        .route("/sim/v1/ticks", post(operator::tick))
        .route("/sim/v1/orders/foreign", post(operator::foreign_order))
        .route("/sim/v1/oracle/orders", get(operator::oracle_orders))
        .route("/sim/v1/oracle/executions", get(operator::oracle_executions));
    dialect
        .merge(operator)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(observe))
        .with_state(shared)
}

async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, codes::NOT_FOUND, "endpoint not found")
}

/// An error of the dialect.
fn error(status: StatusCode, code: u32, message: impl Into<String>) -> Response {
    (status, axum::Json(ApiError::new(code, message))).into_response()
}

/// A query or body that cannot be read.
fn invalid(message: impl Into<String>) -> Response {
    error(StatusCode::UNPROCESSABLE_ENTITY, codes::INVALID_REQUEST, message)
}
