//! Reads request bodies under a limit, once it is known who is asking.
//!
//! A body that is too large is read on and thrown away, up to a second limit: a client that is
//! still sending would otherwise see a reset connection instead of the answer.

use super::failure::ApiFailure;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::time::Duration;
use thiserror::Error;

/// Limits of a request body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes that are taken.
    pub len_max: usize,
    /// Most bytes that are read and thrown away.
    pub drained_len_max: usize,
    /// Longest time for all of it.
    pub read_timeout: Duration,
}

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Too many bytes.
    #[error("body is too large: at most {len_max} bytes")]
    TooLarge {
        /// The limit.
        len_max: usize,
    },
    /// It did not come in time.
    #[error("body did not arrive in time")]
    TooSlow,
    /// The connection broke, or the framing is not valid.
    #[error("body could not be read")]
    Broken,
    /// Not JSON by its own word.
    #[error("content-type must be application/json")]
    ContentType,
}

/// Replaces a request's body by the bytes that were read, or answers.
pub async fn read_body(State(limits): State<BodyLimits>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // A client that asks before it sends has sent nothing yet, and need not.
    let asks_first = parts.headers.get(header::EXPECT).is_some();
    if asks_first && announced_len(&parts.headers).is_some_and(|len| len > limits.len_max as u64) {
        return closing(BodyError::TooLarge { len_max: limits.len_max });
    }
    match tokio::time::timeout(limits.read_timeout, collect(body, limits)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(error)) => closing(error),
        Err(_elapsed) => closing(BodyError::TooSlow),
    }
}

/// Longest wait for the body of a request that is refused without it.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

/// Throws the body of a refused request away, and says whether all of it was there. None of it is
/// kept; not reading it at all would have the client see a reset connection instead of the answer.
pub(super) async fn discard(request: Request, limits: BodyLimits) -> bool {
    let (parts, body) = request.into_parts();
    if parts.headers.contains_key(header::EXPECT) {
        return false;
    }
    let mut stream = body.into_data_stream();
    let all = async {
        let mut read_len = 0_usize;
        while let Some(Ok(chunk)) = stream.next().await {
            read_len = read_len.saturating_add(chunk.len());
            if read_len > limits.len_max {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DISCARD_TIMEOUT.min(limits.read_timeout), all).await.unwrap_or(false)
}

/// What is left of the body may still be under way, so the connection cannot be used again.
fn closing(error: BodyError) -> Response {
    let mut response = ApiFailure::from(error).into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn collect(body: Body, limits: BodyLimits) -> Result<Bytes, BodyError> {
    let mut stream = body.into_data_stream();
    let mut kept = Vec::new();
    let mut read_len = 0_usize;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        read_len = read_len.saturating_add(chunk.len());
        if read_len > limits.drained_len_max {
            break;
        }
        if read_len <= limits.len_max {
            kept.extend_from_slice(&chunk);
        } else {
            kept.clear();
        }
    }
    if read_len > limits.len_max {
        return Err(BodyError::TooLarge { len_max: limits.len_max });
    }
    Ok(kept.into())
}

fn announced_len(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses a body that does not call itself JSON. Parameters such as a charset are ignored.
///
/// # Errors
/// [`BodyError::ContentType`].
pub fn require_json(headers: &HeaderMap) -> Result<(), BodyError> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(BodyError::ContentType) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BodyLimits = BodyLimits { len_max: 8, drained_len_max: 32, read_timeout: Duration::from_secs(5) };

    fn chunks(len: usize) -> Body {
        let parts = (0..len).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"abcd")));
        Body::from_stream(futures_util::stream::iter(parts))
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_taken_and_one_above_is_not() {
        assert_eq!(collect(chunks(2), LIMITS).await.unwrap().len(), 8);
        for len in [3, 8, 100] {
            assert_eq!(collect(chunks(len), LIMITS).await, Err(BodyError::TooLarge { len_max: 8 }), "{len}");
        }
    }

    #[test]
    fn only_json_is_taken() {
        let mut headers = HeaderMap::new();
        assert!(require_json(&headers).is_err());
        for (value, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("application/jsonx", false),
        ] {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(require_json(&headers).is_ok(), good, "{value}");
        }
    }
}
