//! Doing to the connection what a fault asks for.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use crate::broker::reply::{Delivery, Reply};
use crate::broker::shared::Shared;

/// Mark on a response that must not be sent: the server closes the connection instead.
#[derive(Debug, Clone, Copy)]
pub(in crate::broker) struct HangUp;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=UTF-8");
const PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n</body>\r\n</html>\r\n";

/// Closes the connection without a reply.
pub(super) fn hang_up() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.extensions_mut().insert(HangUp);
    response
}

/// Turns a reply into what the client really gets.
pub(super) async fn deliver(reply: Reply, shared: &Shared) -> Response {
    match reply.delivery {
        Delivery::Send => plain(reply),
        Delivery::SendAfter(delay_ms) => {
            hold(delay_ms, shared).await;
            plain(reply)
        }
        Delivery::HangUp => hang_up(),
        Delivery::NeverAnswer(hold_ms) => {
            hold(hold_ms, shared).await;
            hang_up()
        }
        Delivery::HalfBody => half(reply),
        Delivery::Html => {
            (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()
        }
    }
}

async fn hold(delay_ms: u64, shared: &Shared) {
    tokio::select! {
        () = shared.stop.cancelled() => {}
        () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
    }
}

fn status(reply: &Reply) -> StatusCode {
    StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn plain(reply: Reply) -> Response {
    let status = status(&reply);
    if reply.body.is_empty() {
        return status.into_response();
    }
    (status, [(header::CONTENT_TYPE, JSON)], reply.body).into_response()
}

/// Announces the whole body, sends half of it, and breaks off.
fn half(reply: Reply) -> Response {
    let whole = if reply.body.is_empty() { b"{\"message\": \"\"}".to_vec() } else { reply.body };
    let length = HeaderValue::from(whole.len());
    let mut start = whole;
    start.truncate(start.len() / 2);
    let parts: [Result<Bytes, io::Error>; 2] =
        [Ok(Bytes::from(start)), Err(io::Error::from(io::ErrorKind::ConnectionAborted))];
    let status = if reply.status == 204 { 200 } else { reply.status };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = [(header::CONTENT_TYPE, JSON), (header::CONTENT_LENGTH, length)];
    (status, headers, Body::from_stream(stream::iter(parts))).into_response()
}
