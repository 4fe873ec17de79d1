//! The broker's event stream over HTTP.

use crate::application::ports::{Chunks, ConnectError, EventSource};
use crate::domain::cursor::Cursor;
use futures_util::{StreamExt, TryStreamExt};
use platform::config::Secret;
use reqwest::{Client, Response, StatusCode, header};
use serde::Deserialize;
use std::time::Duration;
use thiserror::Error;

/// How much of a refusal's body is kept for the log.
const REFUSAL_BYTES_MAX: usize = 2048;
/// The content type of an event stream.
const EVENT_STREAM: &str = "text/event-stream";

/// Where the stream is, and time limits of getting it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SseConfig {
    /// Base URL of the broker.
    pub base_url: String,
    /// Path of the stream.
    pub path: String,
    /// Key for basic authentication.
    pub key_id: String,
    /// Secret for basic authentication.
    pub secret_key: Secret,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
    /// Longest wait for the head of the answer.
    pub answer_timeout_ms: u64,
}

/// The HTTP client could not be made.
#[derive(Debug, Error)]
#[error("http client could not be built")]
pub struct SseClientError(#[source] reqwest::Error);

/// Asks the broker for its stream.
#[derive(Debug, Clone)]
pub struct SseSource {
    client: Client,
    url: String,
    config: SseConfig,
}

impl SseSource {
    /// Builds the client.
    ///
    /// # Errors
    /// [`SseClientError`] when the TLS backend cannot be used.
    pub fn new(config: SseConfig) -> Result<Self, SseClientError> {
        let client = client(config.connect_timeout_ms)?;
        let url = format!("{}{}", config.base_url.trim_end_matches('/'), config.path);
        Ok(Self { client, url, config })
    }
}

/// A client of the broker. It follows no redirect, uses no proxy and repeats nothing by itself.
pub(super) fn client(connect_timeout_ms: u64) -> Result<Client, SseClientError> {
    Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_millis(connect_timeout_ms))
        .user_agent(concat!("fill-receiver/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(SseClientError)
}

impl EventSource for SseSource {
    async fn connect(&self, since: Cursor, until: Option<Cursor>) -> Result<Chunks, ConnectError> {
        let until = until.map(|until| format!("&until_id={until}")).unwrap_or_default();
        let request = self
            .client
            .get(format!("{}?since_id={since}{until}", self.url))
            .basic_auth(&self.config.key_id, Some(self.config.secret_key.expose()))
            .header(header::ACCEPT, EVENT_STREAM)
            .header(header::CACHE_CONTROL, "no-cache");
        let limit = Duration::from_millis(self.config.answer_timeout_ms);
        let response = tokio::time::timeout(limit, request.send())
            .await
            .map_err(|_elapsed| ConnectError::Deadline)?
            .map_err(|error| ConnectError::Failed(Box::new(error.without_url())))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response, limit).await);
        }
        let content_type = content_type(&response);
        if !content_type.to_ascii_lowercase().starts_with(EVENT_STREAM) {
            return Err(ConnectError::NotAStream { content_type });
        }
        Ok(response.bytes_stream().map_err(Into::into).boxed())
    }
}

fn content_type(response: &Response) -> String {
    let value = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.unwrap_or("nothing").chars().take(100).collect()
}

async fn refusal(response: Response, limit: Duration) -> ConnectError {
    let status = response.status();
    let body = tokio::time::timeout(limit, start_of(response)).await.unwrap_or_default();
    match status {
        // What a broker answers to a position that it cannot replay from.
        StatusCode::BAD_REQUEST
        | StatusCode::GONE
        | StatusCode::RANGE_NOT_SATISFIABLE
        | StatusCode::UNPROCESSABLE_ENTITY => ConnectError::ReplayRefused { status: status.as_u16(), body },
        _ => ConnectError::Refused { status: status.as_u16(), body },
    }
}

async fn start_of(mut response: Response) -> String {
    let mut start = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = REFUSAL_BYTES_MAX.saturating_sub(start.len());
        start.extend(chunk.iter().take(room));
        if start.len() >= REFUSAL_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&start).into_owned()
}
