//! The other processes' parts of a story, over HTTP with the token between processes.

use crate::application::explain::{PeerAnswer, Peers};
use async_trait::async_trait;
use platform::config::Secret;
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use std::time::Duration;
use thiserror::Error;

/// Longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Most bytes of one answer.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// Why the other processes cannot be asked.
#[derive(Debug, Error)]
pub enum PeersError {
    /// An address that is no URL.
    #[error("peer address {0} is not valid")]
    Address(String),
    /// The HTTP client could not be built.
    #[error("http client could not be built")]
    Client(#[source] reqwest::Error),
}

/// The gateway and the receiver.
pub struct HttpPeers {
    gateway: Url,
    receiver: Url,
    token: Secret,
    http: Client,
}

impl HttpPeers {
    /// The processes whose operator ports are at these addresses.
    ///
    /// # Errors
    /// [`PeersError`].
    pub fn new(gateway_url: &str, receiver_url: &str, token: Secret) -> Result<Self, PeersError> {
        let url = |text: &str| {
            let parsed = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            parsed.ok_or_else(|| PeersError::Address(text.to_owned()))
        };
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(TIMEOUT).build();
        let http = http.map_err(PeersError::Client)?;
        Ok(Self { gateway: url(gateway_url)?, receiver: url(receiver_url)?, token, http })
    }

    async fn ask(&self, base: &Url, path: [&str; 4]) -> PeerAnswer {
        let mut url = base.clone();
        // Segment by segment, so that an id is never more than an id.
        match url.path_segments_mut() {
            Ok(mut segments) => {
                segments.pop_if_empty().extend(path.into_iter().filter(|part| !part.is_empty()));
            }
            Err(()) => return PeerAnswer::Unreachable("its address is not valid".to_owned()),
        }
        match self.read(url).await {
            Ok(answer) => answer,
            Err(why) => PeerAnswer::Unreachable(why),
        }
    }

    async fn read(&self, url: Url) -> Result<PeerAnswer, String> {
        let sent = self.http.get(url).bearer_auth(self.token.expose()).send().await;
        let mut response =
            sent.map_err(|error| if error.is_timeout() { "no answer in time" } else { "no connection" })?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| "the answer broke off")? {
            if body.len() + chunk.len() > ANSWER_LEN_MAX {
                return Err(format!("its answer is larger than {ANSWER_LEN_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        let code = value.as_ref().and_then(|value| value.get("code")).and_then(Value::as_u64);
        match (status, value) {
            (StatusCode::OK, Some(value)) => Ok(PeerAnswer::Known(value)),
            // Only its own "not found" says that it knows nothing: any other may come from in between.
            (StatusCode::NOT_FOUND, _) if code == Some(40_410_000) => Ok(PeerAnswer::Unknown),
            // An id that its kind cannot have.
            (StatusCode::BAD_REQUEST, _) if code.is_some() => Ok(PeerAnswer::Unknown),
            (status, _) => Err(format!("it answered status {}", status.as_u16())),
        }
    }
}

#[async_trait]
impl Peers for HttpPeers {
    async fn gateway_story(&self, id: &str) -> PeerAnswer {
        self.ask(&self.gateway, ["story", "v1", "requests", id]).await
    }

    async fn receiver_story(&self, id: &str) -> PeerAnswer {
        self.ask(&self.receiver, ["story", "v1", "events", id]).await
    }

    async fn unsettled(&self) -> PeerAnswer {
        self.ask(&self.gateway, ["story", "v1", "unsettled", ""]).await
    }
}
