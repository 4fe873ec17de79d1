//! The HTTP surface.

mod access;
mod adjust;
mod deliver;
mod faults;
mod market;
mod operator;
mod orders;
mod socket;
mod stream;
mod trading;

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
    let operator = Router::new()
        .route("/sim/v1/health", get(operator::health))
        .route("/sim/v1/config", get(operator::config).put(operator::configure))
        .route("/sim/v1/faults", get(faults::faults).post(faults::add_fault).delete(faults::clear_faults))
        .route("/sim/v1/streams/reset", post(operator::reset_streams))
        .route("/sim/v1/streams/drop", post(operator::drop_from_streams))
        .route("/sim/v1/pushes", get(operator::pushes))
        .route("/sim/v1/ticks", post(operator::tick))
        .route("/sim/v1/orders/foreign", post(operator::foreign_order))
        .route("/sim/v1/busts", post(adjust::bust))
        .route("/sim/v1/corrections", post(adjust::correct))
        .route("/sim/v1/backfills", post(adjust::backfill))
        .route("/sim/v1/splits", post(adjust::split))
        .route("/sim/v1/oracle/orders", get(operator::oracle_orders))
        .route("/sim/v1/oracle/executions", get(operator::oracle_executions))
        .route("/sim/v1/oracle/faults", get(faults::oracle_faults))
        .route("/sim/v1/oracle/strikes", get(faults::oracle_strikes));
    let clients = broker_api()
        .merge(trading_api())
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), access::guard))
        // These show their key in their own way.
        .route("/oauth2/token", post(access::token))
        .route("/stream", get(socket::upgrade))
        .route("/stream/", get(socket::upgrade));
    clients
        .merge(operator)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(observe))
        .with_state(shared)
}

/// What a correspondent calls: any of its accounts, by their id.
fn broker_api() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/trading/accounts/{account_id}/orders", get(orders::list).post(orders::submit))
        .route("/v1/trading/accounts/{account_id}/orders:by_client_order_id", get(orders::by_client_order_id))
        .route(
            "/v1/trading/accounts/{account_id}/orders/{order_id}",
            get(orders::by_id).delete(orders::cancel).patch(orders::replace),
        )
        .route("/v1/assets", get(market::assets))
        .route("/v1/assets/{symbol}", get(market::asset))
        .route("/v2/stocks/trades/latest", get(market::latest_trades))
        .route("/v2/events/trades", get(stream::trades))
}

/// What the program of a customer calls: the first account.
fn trading_api() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v2/orders", get(trading::list).post(trading::submit).delete(trading::cancel_all))
        .route("/v2/orders:by_client_order_id", get(trading::by_client_order_id))
        .route("/v2/orders/{order_id}", get(trading::by_id).delete(trading::cancel).patch(trading::replace))
        .route("/v2/account", get(trading::account))
        .route("/v2/account/activities", get(trading::activities))
        .route("/v2/account/activities/FILL", get(trading::activities))
        .route("/v2/positions", get(trading::positions).delete(trading::close_all))
        .route("/v2/positions/{symbol}", get(trading::position).delete(trading::close))
        .route("/v2/assets", get(market::assets))
        .route("/v2/assets/{symbol}", get(market::asset))
        .route("/v2/clock", get(trading::clock))
        .route("/v2/calendar", get(trading::calendar))
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
