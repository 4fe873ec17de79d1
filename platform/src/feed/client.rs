//! The reading side of the feed.

use super::{ANSWER_LEN_MAX, EventsAnswer, HeadsAnswer, READ_LIMIT_MAX, RefusalBody, Unservable};
use crate::address::shown_url;
use crate::config::Secret;
use crate::eventlog::Position;
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use reqwest::{Client, Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for a whole answer, unless told otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Why the feed gave no events.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The base address is not a URL.
    #[error("feed address {address} is not valid")]
    Address {
        /// What was given, without credentials.
        address: String,
    },
    /// The producer could not be reached, or did not answer in time.
    #[error("feed could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// The token is not the producer's.
    #[error("feed refused the token")]
    Unauthorized,
    /// The place does not exist in this log. Not an infrastructure error.
    #[error("feed cannot serve from {after}: {reason:?}")]
    Unservable {
        /// The place that was asked for.
        after: i64,
        /// Why not.
        reason: Unservable,
    },
    /// Any other status.
    #[error("feed answered status {0}")]
    Status(StatusCode),
    /// The answer is larger than any answer may be.
    #[error("feed answer is larger than {max} bytes", max = ANSWER_LEN_MAX)]
    TooLarge,
    /// The answer is not of its shape.
    #[error("feed answer could not be read")]
    Malformed(#[source] serde_json::Error),
    /// The address leads to another producer.
    #[error("feed is the log of {actual}")]
    OtherProducer {
        /// Whose log it is.
        actual: Producer,
    },
}

/// Reads a producer's log.
#[derive(Debug, Clone)]
pub struct FeedClient {
    base: Url,
    token: Secret,
    http: Client,
    timeout: Duration,
}

impl FeedClient {
    /// A client of the process whose operator port is at `base_url`, such as
    /// `http://127.0.0.1:8081`.
    ///
    /// # Errors
    /// [`FeedError::Address`] when that is no HTTP address.
    pub fn new(base_url: &str, token: Secret, http: Client) -> Result<Self, FeedError> {
        let address = || FeedError::Address { address: shown_url(base_url) };
        let mut base = Url::parse(base_url).map_err(|_| address())?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(address());
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { base, token, http, timeout: TIMEOUT_DEFAULT })
    }

    /// Changes the longest wait for a whole answer.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The newest event of every partition.
    ///
    /// # Errors
    /// [`FeedError`].
    pub async fn heads(&self, producer: Producer) -> Result<BTreeMap<Partition, Position>, FeedError> {
        let answer: HeadsAnswer = self.get("feed/heads", &[], 0).await?;
        if answer.producer != producer {
            return Err(FeedError::OtherProducer { actual: answer.producer });
        }
        Ok(answer.heads.into_iter().map(|(partition, head)| (partition, head.into())).collect())
    }

    /// What follows `after` in a partition, oldest first, at most `limit` (1 to 1000) events.
    ///
    /// # Errors
    /// [`FeedError::Unservable`] when the log does not have that place, others for trouble.
    pub async fn read(&self, partition: Partition, after: i64, limit: u32) -> Result<Vec<Envelope>, FeedError> {
        let limit = limit.clamp(1, READ_LIMIT_MAX);
        let query = [("after", after.to_string()), ("limit", limit.to_string())];
        let answer: EventsAnswer = self.get(&format!("feed/{partition}"), &query, after).await?;
        Ok(answer.events)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)], after: i64) -> Result<T, FeedError> {
        let mut url =
            self.base.join(path).map_err(|_| FeedError::Address { address: format!("{}{path}", self.base) })?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.get(url).bearer_auth(self.token.expose()).timeout(self.timeout);
        let response = request.send().await.map_err(FeedError::Unreachable)?;
        let status = response.status();
        let body = read_bounded(response).await?;
        match status {
            StatusCode::OK => serde_json::from_slice(&body).map_err(FeedError::Malformed),
            StatusCode::UNAUTHORIZED => Err(FeedError::Unauthorized),
            // Only our own refusal proves something about the log; a proxy's 410 does not.
            StatusCode::GONE => match serde_json::from_slice::<RefusalBody>(&body) {
                Ok(RefusalBody { reason: Some(reason), .. }) => Err(FeedError::Unservable { after, reason }),
                _ => Err(FeedError::Status(status)),
            },
            _ => Err(FeedError::Status(status)),
        }
    }
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, FeedError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(FeedError::Unreachable)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_LEN_MAX {
            return Err(FeedError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(base: &str) -> Result<FeedClient, FeedError> {
        crate::tls::install_crypto_provider();
        FeedClient::new(base, Secret::new("t"), Client::new())
    }

    #[test]
    fn an_address_that_is_no_http_url_is_refused() {
        for bad in ["", "127.0.0.1:80", "ftp://host", "mailto:a@b"] {
            assert!(matches!(client(bad), Err(FeedError::Address { .. })), "{bad}");
        }
        assert_eq!(client("http://h:1").unwrap().base.as_str(), "http://h:1/");
        assert_eq!(client("http://h:1/x").unwrap().base.as_str(), "http://h:1/x/");
    }
}
