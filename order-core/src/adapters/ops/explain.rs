//! `GET /ops/v1/explain/{id}` and `GET /ops/v1/doubtful`.

use super::{account_id_of, page_len, view};
use crate::adapters::http::fields::FieldError;
use crate::adapters::http::{ApiFailure, QueryParams};
use crate::application::explain::{self, Peers, StoryStore};
use crate::application::query::Queries;
use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use platform::clock::Clock;
use platform::operators::{Operators, require_operator};
use serde_json::{Value, json};
use std::sync::Arc;

/// Longest id that is looked up: that of a client order id.
const ID_LEN_MAX: usize = 128;

/// What the routes work with.
#[derive(Clone)]
pub struct ExplainState {
    /// This process's part.
    pub store: Arc<dyn StoryStore>,
    /// Orders.
    pub queries: Arc<dyn Queries>,
    /// The others' parts.
    pub peers: Arc<dyn Peers>,
    /// Now.
    pub clock: Arc<dyn Clock>,
}

/// The routes, behind the operators' tokens.
pub fn router(state: ExplainState, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/explain/{id}", get(one))
        .route("/ops/v1/doubtful", get(doubtful))
        .with_state(state);
    require_operator(routes, operators)
}

/// The story of the order that an id stands for: ours, the client's, the broker's, an execution's or an
/// event's. An id of several orders answers with their list; `?account_id=` tells them apart.
async fn one(
    State(state): State<ExplainState>,
    Path(id): Path<String>,
    QueryParams(params): QueryParams,
) -> Result<Json<Value>, ApiFailure> {
    let account = params.one("account_id")?.map(account_id_of).transpose()?;
    if id.is_empty() || id.len() > ID_LEN_MAX || id.chars().any(char::is_control) {
        return Err(FieldError::new("id", format!("must be 1 to {ID_LEN_MAX} printable characters")).into());
    }
    let told = explain::explain(&*state.store, &*state.queries, &*state.peers, &id, account).await?;
    if told.is_nothing() {
        return Err(ApiFailure::NotFound { what: "order", name: id.chars().take(64).collect() });
    }
    Ok(Json(json!({
        "id": id,
        "ambiguous": told.matches.len() > 1,
        "matches": told.matches,
        "refusals": told.refusals,
        "order": told.order.as_ref().map(view::order),
        "parts": told.parts(),
        "truncated": told.truncated,
        "timeline": told.timeline,
    })))
}

/// Orders in doubt or in the hands of persons, oldest first, with the gateway's evidence.
async fn doubtful(
    State(state): State<ExplainState>,
    QueryParams(params): QueryParams,
) -> Result<Json<Value>, ApiFailure> {
    let limit = page_len(&params)?;
    Ok(Json(explain::doubtful(&*state.store, &*state.peers, limit, state.clock.now()).await?))
}

#[cfg(test)]
mod tests;
