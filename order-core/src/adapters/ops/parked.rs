//! `GET /ops/v1/parked` and `POST /ops/v1/parked/{producer}/{partition}/{seq}/retry`.

use crate::adapters::http::ApiFailure;
use crate::adapters::http::fields::FieldError;
use crate::application::operator::Actor;
use crate::application::parked::{Parked, ParkedEvent, ParkedPlace};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use contracts::Partition;
use platform::clock::Clock;
use platform::operators::{Operator, Operators, require_operator};
use std::sync::Arc;

/// Most parked events in one answer.
const LISTED_MAX: i64 = 200;

#[derive(Clone)]
struct ParkedState {
    parked: Arc<dyn Parked>,
    clock: Arc<dyn Clock>,
}

/// The routes, behind the operators' tokens.
pub fn router(parked: Arc<dyn Parked>, clock: Arc<dyn Clock>, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/parked", get(list))
        .route("/ops/v1/parked/{producer}/{partition}/{seq}/retry", post(retry))
        .with_state(ParkedState { parked, clock });
    require_operator(routes, operators)
}

async fn list(State(state): State<ParkedState>) -> Result<Json<Vec<ParkedEvent>>, ApiFailure> {
    Ok(Json(state.parked.parked(LISTED_MAX).await?))
}

async fn retry(
    State(state): State<ParkedState>,
    Extension(operator): Extension<Operator>,
    Path((producer, partition, seq)): Path<(String, i16, i64)>,
) -> Result<StatusCode, ApiFailure> {
    let partition = Partition::new(partition).map_err(|_| FieldError::new("partition", "is out of range"))?;
    let actor = Actor { name: operator.name.clone(), credential: operator.name };
    let place = ParkedPlace { producer, partition, seq };
    let found = state.parked.retry(&place, &actor, state.clock.now()).await?;
    Ok(if found { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND })
}
