//! `GET /ops/v1/parked` and `POST /ops/v1/parked/{producer}/{partition}/{seq}/retry`.

use crate::adapters::http::ApiFailure;
use crate::adapters::http::fields::FieldError;
use crate::application::parked::{Parked, ParkedEvent};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use contracts::Partition;
use platform::operators::{Operators, require_operator};
use std::sync::Arc;

/// Most parked events in one answer.
const LISTED_MAX: i64 = 200;

/// The routes, behind the operators' tokens.
pub fn router(parked: Arc<dyn Parked>, operators: Operators) -> Router {
    let routes = Router::new()
        .route("/ops/v1/parked", get(list))
        .route("/ops/v1/parked/{producer}/{partition}/{seq}/retry", post(retry))
        .with_state(parked);
    require_operator(routes, operators)
}

async fn list(State(parked): State<Arc<dyn Parked>>) -> Result<Json<Vec<ParkedEvent>>, ApiFailure> {
    Ok(Json(parked.parked(LISTED_MAX).await?))
}

async fn retry(
    State(parked): State<Arc<dyn Parked>>,
    Path((producer, partition, seq)): Path<(String, i16, i64)>,
) -> Result<StatusCode, ApiFailure> {
    let partition = Partition::new(partition).map_err(|_| FieldError::new("partition", "is out of range"))?;
    let found = parked.retry(&producer, partition, seq).await?;
    Ok(if found { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND })
}
