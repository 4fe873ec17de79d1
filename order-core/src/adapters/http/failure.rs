//! Every answer of the API that is not a success: one status, one stable code, one sentence.
//!
//! No status here is one that client libraries repeat by themselves while the order may exist: an
//! unknown outcome is a 500 that names the order, and 503 says that nothing was taken. 429 is one of
//! them, so it is only said before a request is read.

use super::body::BodyError;
use super::fields::{FieldError, JsonError};
use super::order_body::OrderBodyError;
use crate::application::command::CommandError;
use crate::application::query::QueryError;
use crate::domain::refusal::Refusal;
use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use contracts::alpaca::codes;
use contracts::calendar::CalendarError;
use contracts::decimal::plain;
use serde_json::{Map, Value, json};
use thiserror::Error;

/// Says that an answer was given before, to the same request.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// How long a client should wait before it sends what was not taken again.
const RETRY_AFTER_S: &str = "1";

mod own_codes {
    /// A body that did not arrive in time (408).
    pub(super) const TIMEOUT: u32 = 40_810_000;
    /// A method that the route does not serve (405).
    pub(super) const METHOD: u32 = 40_510_000;
    /// A deposit reference that stands for another deposit (409).
    pub(super) const CONFLICT: u32 = 40_910_000;
    /// A body above the limit (413).
    pub(super) const TOO_LARGE: u32 = 41_310_000;
    /// A body that is not JSON by its own word (415).
    pub(super) const CONTENT_TYPE: u32 = 41_510_000;
}

/// Why a request has no success to answer with.
#[derive(Debug, Error)]
pub enum ApiFailure {
    /// No key, or a wrong one; which of the two is not told.
    #[error("a valid API key is required")]
    Unauthorized,
    /// The key, or an address without one, asks too often. Nothing of the request was looked at.
    #[error("too many requests: none of this one was taken")]
    RateLimited,
    /// The body was not taken.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The body cannot be read.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A field or parameter breaks a rule.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Nothing of that name here, or it is another account's.
    #[error("{what} not found: {name}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// By what name.
        name: String,
    },
    /// No such route.
    #[error("endpoint not found")]
    NoEndpoint,
    /// Every place for a stream is taken.
    #[error("too many streams are open")]
    TooManyStreams,
    /// The route does not serve the method.
    #[error("method is not allowed for this endpoint")]
    Method,
    /// A command was refused or failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A read failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The calendar cannot answer.
    #[error("market calendar has no answer")]
    Calendar(#[from] CalendarError),
}

impl From<OrderBodyError> for ApiFailure {
    fn from(error: OrderBodyError) -> Self {
        match error {
            OrderBodyError::Json(error) => Self::Json(error),
            OrderBodyError::Field(error) => Self::Field(error),
        }
    }
}

impl ApiFailure {
    /// The status and the code.
    #[must_use]
    pub fn answer(&self) -> (StatusCode, u32) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, codes::UNAUTHORIZED),
            Self::RateLimited => (StatusCode::TOO_MANY_REQUESTS, codes::RATE_LIMITED),
            Self::Body(BodyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, own_codes::TOO_LARGE),
            Self::Body(BodyError::TooSlow) => (StatusCode::REQUEST_TIMEOUT, own_codes::TIMEOUT),
            Self::Body(BodyError::ContentType) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, own_codes::CONTENT_TYPE),
            Self::Body(BodyError::Broken) | Self::Json(_) => (StatusCode::BAD_REQUEST, codes::INVALID_REQUEST),
            Self::Field(error) => (StatusCode::UNPROCESSABLE_ENTITY, error.code),
            Self::NotFound { .. } | Self::NoEndpoint => (StatusCode::NOT_FOUND, codes::NOT_FOUND),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, own_codes::METHOD),
            Self::Command(error) => command_answer(error),
            Self::TooManyStreams | Self::Query(QueryError::Store { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, codes::UNAVAILABLE)
            }
            Self::Query(QueryError::Corrupt { .. }) | Self::Calendar(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, codes::INTERNAL)
            }
        }
    }

    /// The body: code, message, and what else a client may need to act on it.
    #[must_use]
    pub fn body(&self) -> Map<String, Value> {
        let (_, code) = self.answer();
        let mut body = match self {
            Self::Command(CommandError::Refused(refusal)) => refusal_details(refusal),
            Self::Command(CommandError::Unknown { order_id }) => fields(json!({"order_id": order_id})),
            _ => Map::new(),
        };
        body.insert("code".to_owned(), code.into());
        body.insert("message".to_owned(), self.to_string().into());
        body
    }

    fn is_replayed(&self) -> bool {
        matches!(self, Self::Command(CommandError::Refused(Refusal::Stored { .. })))
    }
}

fn command_answer(error: &CommandError) -> (StatusCode, u32) {
    match error {
        CommandError::Refused(refusal) => {
            let (status, code) = refusal.answer();
            (StatusCode::from_u16(status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY), code)
        }
        CommandError::NotTaken { .. } | CommandError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, codes::UNAVAILABLE),
        CommandError::Unknown { .. } | CommandError::UnknownRepeatable => {
            (StatusCode::INTERNAL_SERVER_ERROR, codes::INTERNAL)
        }
        CommandError::ReferenceConflict => (StatusCode::CONFLICT, own_codes::CONFLICT),
        CommandError::CurrencyMismatch => (StatusCode::UNPROCESSABLE_ENTITY, codes::INVALID_REQUEST),
        CommandError::AccountNotFound => (StatusCode::NOT_FOUND, codes::NOT_FOUND),
    }
}

fn refusal_details(refusal: &Refusal) -> Map<String, Value> {
    match refusal {
        Refusal::InsufficientQuantity { symbol, existing, held, available, .. } => fields(json!({
            "symbol": symbol,
            "existing_qty": plain(*existing),
            "held_for_orders": plain(*held),
            "available": plain(*available),
        })),
        Refusal::InsufficientBuyingPower { available, required } => {
            fields(json!({"buying_power": plain(*available), "cost_basis": plain(*required)}))
        }
        _ => Map::new(),
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

impl IntoResponse for ApiFailure {
    fn into_response(self) -> Response {
        let (status, code) = self.answer();
        if status.is_server_error() {
            tracing::error!(error = %platform::telemetry::Chain(&self), code, "request failed");
        }
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"orders\""));
            }
            _ => {}
        }
        if self.is_replayed() {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// The answer to a request whose handler died: nothing is known about what it did.
pub(super) fn panicked(_panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    let body = json!({"code": codes::INTERNAL, "message": "the outcome of this request is not known"});
    (StatusCode::INTERNAL_SERVER_ERROR, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::Status;
    use contracts::{OrderId, Symbol};
    use rust_decimal::Decimal;
    use uuid::Uuid;

    fn refusals() -> Vec<Refusal> {
        let symbol = Symbol::new("AAPL").unwrap();
        vec![
            Refusal::UnknownAsset(symbol.clone()),
            Refusal::NotTradable(symbol.clone()),
            Refusal::NotFractionable(symbol.clone()),
            Refusal::NoReferencePrice(symbol.clone()),
            Refusal::InsufficientBuyingPower { available: Decimal::ONE, required: Decimal::TEN },
            Refusal::InsufficientQuantity {
                symbol,
                existing: Decimal::TEN,
                held: Decimal::TWO,
                available: Decimal::from(8),
                requested: Decimal::from(9),
            },
            Refusal::Restricted("it owes".to_owned()),
            Refusal::Halted(crate::domain::refusal::Halt::Market),
            Refusal::InsufficientCash { available: Decimal::ONE, requested: Decimal::TEN },
            Refusal::DuplicateClientOrderId,
            Refusal::OrderNotFound(OrderId::new(Uuid::nil())),
            Refusal::NotCancelable { status: Status::Filled },
            Refusal::OutOfRange,
            Refusal::Stored { status: 403, code: 40_310_000, message: "no".to_owned() },
        ]
    }

    fn commands() -> Vec<CommandError> {
        let mut all: Vec<_> = refusals().into_iter().map(CommandError::Refused).collect();
        all.extend([
            CommandError::NotTaken { reason: "busy" },
            CommandError::Unknown { order_id: OrderId::new(Uuid::nil()) },
            CommandError::ReferenceConflict,
            CommandError::UnknownRepeatable,
            CommandError::CurrencyMismatch,
            CommandError::AccountNotFound,
            CommandError::Store("down".into()),
        ]);
        all
    }

    #[test]
    fn no_answer_is_one_that_client_libraries_repeat_by_themselves() {
        for failure in commands().into_iter().map(ApiFailure::from) {
            let (status, _) = failure.answer();
            assert!(!matches!(status.as_u16(), 408 | 425 | 429 | 504), "{failure}");
        }
    }

    #[test]
    fn every_answer_has_a_code_and_a_message() {
        for failure in commands().into_iter().map(ApiFailure::from) {
            let body = failure.body();
            assert!(body["code"].as_u64().unwrap() > 40_000_000 && !body["message"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn an_unknown_outcome_names_the_order_and_is_never_called_not_taken() {
        let order_id = OrderId::new(Uuid::from_u128(5));
        let failure = ApiFailure::from(CommandError::Unknown { order_id });
        assert_eq!(failure.answer(), (StatusCode::INTERNAL_SERVER_ERROR, 50_010_000));
        assert_eq!(failure.body()["order_id"], order_id.to_string());
    }

    #[test]
    fn too_few_shares_are_explained_in_the_fields_of_the_dialect() {
        let body = ApiFailure::from(CommandError::Refused(refusals().remove(5))).body();
        assert_eq!(
            (&body["existing_qty"], &body["held_for_orders"], &body["available"]),
            (&json!("10"), &json!("2"), &json!("8"))
        );
        assert_eq!((&body["code"], &body["symbol"]), (&json!(40_310_000), &json!("AAPL")));
    }
}
