//! For the order server, with the token between processes: what this process knows of an order, and
//! what waits for evidence or for persons.

use super::answer::{bad_request, internal, not_found};
use crate::application::dossier::DossierStore;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use contracts::{EventId, OrderId};
use platform::config::Secret;
use platform::http::require_bearer;
use serde_json::json;
use std::sync::Arc;
use uuid::Uuid;

/// Most requests in one list.
const LIST_LEN_MAX: u32 = 100;

/// The routes.
pub fn router<S: DossierStore>(store: Arc<S>, peer_token: Secret) -> Router {
    let routes = Router::new()
        .route("/story/v1/requests/{id}", get(story::<S>))
        .route("/story/v1/unsettled", get(unsettled::<S>))
        .with_state(store);
    require_bearer(routes, peer_token)
}

/// Of our order id, or of the id of an event of this process's log.
async fn story<S: DossierStore>(State(store): State<Arc<S>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<Uuid>() else { return bad_request("id must be a UUID") };
    match find(&*store, id).await {
        Ok(Some(story)) => story,
        Ok(None) => not_found("no such request"),
        Err(error) => internal(&error),
    }
}

async fn find<S: DossierStore>(store: &S, id: Uuid) -> Result<Option<Response>, crate::application::ports::StoreError> {
    let mut order = OrderId::new(id);
    let mut dossier = store.dossier(order).await?;
    if dossier.is_none()
        && let Some(of_event) = store.order_of_event(EventId::new(id)).await?
    {
        order = of_event;
        dossier = store.dossier(order).await?;
    }
    let Some(dossier) = dossier else { return Ok(None) };
    let log = store.log(order).await?;
    Ok(Some(Json(json!({"story": dossier, "log": log})).into_response()))
}

async fn unsettled<S: DossierStore>(State(store): State<Arc<S>>) -> Response {
    match store.unsettled(LIST_LEN_MAX).await {
        Ok(list) => Json(json!({ "requests": list })).into_response(),
        Err(error) => internal(&error),
    }
}
