//! The broker's list of orders.

use super::sse::SseClientError;
use crate::application::ports::{ConnectError, OrderSource, OrderText};
use platform::config::Secret;
use reqwest::{Client, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Longest answer: a page of orders of 4 KiB each.
const ANSWER_BYTES_MAX: usize = 500 * 4096;

/// Where orders are asked for.
#[derive(Debug, Clone)]
pub struct OrdersConfig {
    /// Base URL of the broker.
    pub base_url: String,
    /// Path of the list.
    pub path: String,
    /// The account that it is of.
    pub account_id: String,
    /// Key for basic authentication.
    pub key_id: String,
    /// Secret for basic authentication.
    pub secret_key: Secret,
    /// Longest wait for a connection.
    pub connect_timeout_ms: u64,
    /// Longest wait for the whole answer.
    pub answer_timeout_ms: u64,
    /// Orders of a page.
    pub page_len: u32,
}

/// Asks the broker for orders.
#[derive(Debug, Clone)]
pub struct HttpOrders {
    client: Client,
    url: String,
    config: OrdersConfig,
}

impl HttpOrders {
    /// Builds the client.
    ///
    /// # Errors
    /// [`SseClientError`] when the TLS backend cannot be used.
    pub fn new(config: OrdersConfig) -> Result<Self, SseClientError> {
        let client = super::sse::client(config.connect_timeout_ms)?;
        let url = format!("{}{}", config.base_url.trim_end_matches('/'), config.path);
        Ok(Self { client, url, config })
    }

    /// The answer; none for a 404.
    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<Option<T>, ConnectError> {
        let limit = Duration::from_millis(self.config.answer_timeout_ms);
        let answer = tokio::time::timeout(limit, self.read(url)).await.map_err(|_elapsed| ConnectError::Deadline)??;
        let Some(body) = answer else { return Ok(None) };
        // Bytes that are no text, in one order, must not spoil the whole page.
        serde_json::from_str(&String::from_utf8_lossy(&body))
            .map(Some)
            .map_err(|error| ConnectError::Failed(Box::new(error)))
    }

    async fn read(&self, url: &str) -> Result<Option<Vec<u8>>, ConnectError> {
        let failed = |error: reqwest::Error| ConnectError::Failed(Box::new(error.without_url()));
        let request = self.client.get(url).basic_auth(&self.config.key_id, Some(self.config.secret_key.expose()));
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(ConnectError::Refused { status: status.as_u16(), body: "too long an answer".to_owned() });
            }
        }
        if status == StatusCode::OK {
            return Ok(Some(body));
        }
        let body: String = String::from_utf8_lossy(&body).chars().take(200).collect();
        Err(ConnectError::Refused { status: status.as_u16(), body })
    }
}

impl OrderSource for HttpOrders {
    fn account_id(&self) -> &str {
        &self.config.account_id
    }

    async fn placed_after(&self, after: OffsetDateTime) -> Result<Vec<OrderText>, ConnectError> {
        let after = after.format(&Rfc3339).map_err(|error| ConnectError::Failed(Box::new(error)))?;
        let limit = self.config.page_len;
        let url = format!("{}?status=all&direction=asc&limit={limit}&after={}", self.url, after.replace('+', "%2B"));
        // A list that is not there is no empty list.
        self.get(&url).await?.ok_or_else(|| ConnectError::Refused { status: 404, body: "no list of orders".to_owned() })
    }

    async fn order(&self, broker_order_id: &str) -> Result<Option<OrderText>, ConnectError> {
        // The id came from the broker, and must not become a path of its own.
        if !broker_order_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Ok(None);
        }
        self.get(&format!("{}/{broker_order_id}", self.url)).await
    }
}
