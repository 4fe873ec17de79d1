//! `/ops/v1`: stories and settlements. Everything here needs an operator's token.

use super::answer::{bad_request, conflict, internal, not_found};
use crate::application::dossier::DossierStore;
use crate::application::rules::Rules;
use crate::application::settlement::{self, Decision, Settled, SettlementError, SettlementStore};
use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use contracts::{BrokerOrderId, OrderId};
use platform::operators::{Operator, Operators, require_operator};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;

/// Most requests in one list.
const LIST_LEN_MAX: u32 = 100;

/// Largest body that is read, in bytes.
const BODY_LEN_MAX: usize = 16 * 1024;

/// What the operator port works with.
pub struct OpsPort<S> {
    /// The requests.
    pub store: Arc<S>,
    /// Promises and patience.
    pub rules: Arc<Rules>,
}

impl<S> Clone for OpsPort<S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), rules: Arc::clone(&self.rules) }
    }
}

/// The routes.
pub fn router<S: DossierStore + SettlementStore>(port: OpsPort<S>, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/manual", get(unsettled::<S>))
        .route("/ops/v1/manual/{order_id}/settlement", post(settle::<S>))
        .route("/ops/v1/requests/{order_id}", get(story::<S>))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(port);
    require_operator(routes, operators)
}

async fn unsettled<S: DossierStore + SettlementStore>(State(port): State<OpsPort<S>>) -> Response {
    match port.store.unsettled(LIST_LEN_MAX).await {
        Ok(list) => Json(json!({ "requests": list })).into_response(),
        Err(error) => internal(&error),
    }
}

async fn story<S: DossierStore + SettlementStore>(
    State(port): State<OpsPort<S>>,
    Path(order_id): Path<String>,
) -> Response {
    let Ok(order_id) = order_id.parse::<OrderId>() else { return bad_request("order id must be a UUID") };
    match port.store.dossier(order_id).await {
        Ok(Some(dossier)) => Json(dossier).into_response(),
        Ok(None) => not_found("no such request"),
        Err(error) => internal(&error),
    }
}

/// A person's decision.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SettlementBody {
    /// May be given, and then must be the name that belongs to the token.
    operator: Option<String>,
    evidence_digest: String,
    /// `absent`, or `bound` with the broker's order.
    decision: String,
    broker_order_id: Option<String>,
}

impl SettlementBody {
    /// Who decides is who the token belongs to: two names in two bodies could be one person.
    fn into_decision(self, operator: Operator) -> Result<Decision, String> {
        if self.operator.is_some_and(|name| name != operator.name) {
            return Err(format!("operator must be {}, whose token this is", operator.name));
        }
        let broker_order_id = match (self.decision.as_str(), self.broker_order_id) {
            ("absent", None) => None,
            ("bound", Some(id)) => Some(BrokerOrderId::new(id).map_err(|error| error.to_string())?),
            ("absent", Some(_)) => return Err("absent takes no broker_order_id".to_owned()),
            ("bound", None) => return Err("bound needs broker_order_id".to_owned()),
            _ => return Err("decision must be absent or bound".to_owned()),
        };
        Ok(Decision { person: operator.name, evidence_digest: self.evidence_digest, broker_order_id })
    }
}

async fn settle<S: DossierStore + SettlementStore>(
    State(port): State<OpsPort<S>>,
    Extension(operator): Extension<Operator>,
    Path(order_id): Path<String>,
    body: Result<Json<SettlementBody>, JsonRejection>,
) -> Response {
    let Ok(order_id) = order_id.parse::<OrderId>() else { return bad_request("order id must be a UUID") };
    let body = match body {
        Ok(Json(body)) => body,
        Err(rejection) => return bad_request(rejection.body_text()),
    };
    let decision = match body.into_decision(operator) {
        Ok(decision) => decision,
        Err(message) => return bad_request(message),
    };
    tracing::info!(order_id = %order_id, person = %decision.person, "settlement decision");
    match settlement::decide(&*port.store, &port.rules, order_id, decision).await {
        Ok(Settled::Waiting { approved_by }) => {
            Json(json!({"settled": false, "approved_by": approved_by})).into_response()
        }
        Ok(Settled::Done { by }) => Json(json!({"settled": true, "approved_by": by})).into_response(),
        Err(SettlementError::NotFound) => not_found("no such request"),
        Err(SettlementError::Person) => bad_request(SettlementError::Person.to_string()),
        Err(
            error @ (SettlementError::NotManual { .. }
            | SettlementError::EvidenceChanged { .. }
            | SettlementError::Contradicts { .. }),
        ) => conflict(error.to_string()),
        Err(error @ SettlementError::Store(_)) => internal(&error),
    }
}
