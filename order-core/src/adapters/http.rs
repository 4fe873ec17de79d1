//! The order API: the Alpaca Trading API v2, so that existing client libraries work against it.
//!
//! A request goes through these, outermost first: an id of its own and metrics; a guard against
//! panics; the route; the key and how often it asks; the body, read under limits. There is deliberately no time limit
//! around a handler: one that gives up on a command would have to lie about its outcome.

mod accounts;
mod admit;
mod assets;
pub mod auth;
pub mod body;
pub mod entity;
mod failure;
pub mod fields;
pub mod limits;
mod market;
mod observe;
pub mod order_body;
pub mod order_list;
mod orders;
pub mod params;
pub mod stream;
mod trade_event;

#[cfg(test)]
pub(crate) mod fakes;
#[cfg(test)]
mod tests;

pub use body::BodyLimits;
pub use failure::ApiFailure;

use crate::application::command::Commands;
use crate::application::query::Queries;
use crate::application::reference::ReferenceData;
use auth::Authenticator;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::routing::{MethodRouter, any, get};
use axum::{Router, middleware};
use contracts::calendar::MarketCalendar;
use limits::RequestLimits;
use params::Params;
use platform::clock::{Clock, IdSource};
use std::sync::Arc;
use stream::StreamState;
use tower_http::catch_panic::CatchPanicLayer;

/// What the handlers work with. Every layer has it, and gives it to each request.
pub type ApiState = Arc<ApiParts>;

/// The parts of an [`ApiState`].
#[derive(Clone)]
pub struct ApiParts {
    /// Where commands go.
    pub commands: Arc<dyn Commands>,
    /// Where reads go.
    pub queries: Arc<dyn Queries>,
    /// Listed assets and last prices.
    pub reference: Arc<ReferenceData>,
    /// The market's sessions.
    pub calendar: Arc<MarketCalendar>,
    /// Who is asking.
    pub authenticator: Arc<Authenticator>,
    /// How often each may ask.
    pub limits: Arc<RequestLimits>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Mints order ids.
    pub ids: Arc<dyn IdSource>,
}

/// The routes of the order API, with those of the streams, if there are any.
pub fn router(state: ApiState, streams: Option<StreamState>, limits: BodyLimits) -> Router {
    let gate = admit::Gate { state: state.clone(), limits };
    let nothing_here = any(|| async { ApiFailure::NoEndpoint });
    let (events, sockets) = streams.map_or_else(Default::default, stream::routes);
    let routes = Router::new()
        .route("/v2/orders", served(get(orders::list).post(orders::place).delete(orders::cancel_all)))
        .route("/v2/orders:by_client_order_id", served(get(orders::by_client_id)))
        .route("/v2/orders/{order_id}", served(get(orders::one).delete(orders::cancel)))
        .route("/v2/account", served(get(accounts::account)))
        .route("/v2/positions", served(get(accounts::positions)))
        .route("/v2/positions/{symbol_or_id}", served(get(accounts::position)))
        .route("/v2/assets", served(get(assets::list)))
        .route("/v2/assets/{symbol_or_id}", served(get(assets::one)))
        .route("/v2/clock", served(get(market::clock)))
        .route("/v2/calendar", served(get(market::calendar)))
        .merge(events)
        .fallback_service(nothing_here.with_state(state.clone()))
        .layer(middleware::from_fn_with_state(state.clone(), admit::still_valid))
        .layer(middleware::from_fn_with_state(limits, body::read_body))
        .layer(middleware::from_fn_with_state(gate, admit::admit))
        .with_state(state.clone());
    routes
        .merge(sockets)
        .layer(CatchPanicLayer::custom(failure::panicked))
        .layer(middleware::from_fn_with_state(state, observe::observe))
}

/// A route that answers other methods in the dialect's shape.
fn served<S: Clone + Send + Sync + 'static>(methods: MethodRouter<S>) -> MethodRouter<S> {
    methods.fallback(|| async { ApiFailure::Method })
}

/// Query parameters that never fail to be read; each handler checks its own.
pub(crate) struct QueryParams(pub(crate) Params);

impl<S: Send + Sync> FromRequestParts<S> for QueryParams {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiFailure> {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let pairs = query.map_err(|_| fields::FieldError::new("query", "could not be read"))?;
        Ok(Self(Params::new(pairs.0)))
    }
}

/// The variable part of a path. One that is no text names nothing.
struct PathName(String);

impl<S: Send + Sync> FromRequestParts<S> for PathName {
    type Rejection = ApiFailure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiFailure> {
        let name = axum::extract::Path::<String>::from_request_parts(parts, state).await;
        name.map(|name| Self(name.0)).map_err(|_| not_found("path", "it is not UTF-8"))
    }
}

/// Longest part of a path that an error repeats.
const NAME_LEN_SHOWN: usize = 64;

fn not_found(what: &'static str, name: &str) -> ApiFailure {
    ApiFailure::NotFound { what, name: name.chars().take(NAME_LEN_SHOWN).collect() }
}
