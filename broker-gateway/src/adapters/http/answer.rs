//! Error answers: a stable code and a sentence.

use crate::application::chain::Chain;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub(super) fn refuse(status: StatusCode, code: u32, message: impl Into<String>) -> Response {
    (status, Json(json!({"code": code, "message": message.into()}))).into_response()
}

pub(super) fn bad_request(message: impl Into<String>) -> Response {
    refuse(StatusCode::BAD_REQUEST, 40_010_001, message)
}

pub(super) fn not_found(message: impl Into<String>) -> Response {
    refuse(StatusCode::NOT_FOUND, 40_410_000, message)
}

pub(super) fn conflict(message: impl Into<String>) -> Response {
    refuse(StatusCode::CONFLICT, 40_910_000, message)
}

/// An error of ours: logged whole, told in general.
pub(super) fn internal(error: &dyn std::error::Error) -> Response {
    tracing::error!(error = %Chain(error), "operator request failed");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, 50_010_000, "the request failed; see the log")
}
