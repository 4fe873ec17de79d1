//! The one place that writes to a broker's socket. One call is one request on the wire: HTTP/1 with
//! kept-alive connections, no redirects, no retries, no proxy, a bounded body, bounded time.

use crate::application::ports::Caller;
use crate::application::wire::{Verb, WireFailure, WireReply, WireRequest, WireResult};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use platform::address::shown_url;
use platform::config::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, Url};
use std::error::Error;
use std::time::Duration;
use thiserror::Error as ThisError;

/// Why the caller cannot be built.
#[derive(Debug, ThisError)]
pub enum CallerError {
    /// The base address is not an HTTP URL.
    #[error("broker address {0:?} is not an http(s) URL")]
    Address(String),
    /// The credentials do not fit a header.
    #[error("broker credentials cannot be sent in a header")]
    Credentials,
    /// The client could not be built.
    #[error("http client could not be built")]
    Client(#[source] reqwest::Error),
}

/// Limits of the calls.
#[derive(Debug, Clone, Copy)]
pub struct CallerLimits {
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest whole call.
    pub call_timeout: Duration,
    /// Idle connections end after this; shorter than the broker keeps them, or calls race its close.
    pub idle_timeout: Duration,
    /// Most idle connections that are kept.
    pub idle_connections_max: usize,
    /// Largest reply body, in bytes.
    pub body_len_max: usize,
}

/// Calls one broker over HTTP.
#[derive(Debug, Clone)]
pub struct HttpCaller {
    client: Client,
    base: Url,
    call_timeout: Duration,
    body_len_max: usize,
}

impl HttpCaller {
    /// A caller with HTTP basic credentials.
    ///
    /// # Errors
    /// [`CallerError`].
    pub fn new(base_url: &str, key_id: &Secret, secret: &Secret, limits: CallerLimits) -> Result<Self, CallerError> {
        let address = || CallerError::Address(shown_url(base_url));
        let base = Url::parse(base_url).map_err(|_| address())?;
        if base.cannot_be_a_base() || !matches!(base.scheme(), "http" | "https") {
            return Err(address());
        }
        let credentials = STANDARD.encode(format!("{}:{}", key_id.expose(), secret.expose()));
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {credentials}")).map_err(|_| CallerError::Credentials)?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        let client = Client::builder()
            .default_headers(headers)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .tcp_nodelay(true)
            .connect_timeout(limits.connect_timeout)
            .timeout(limits.call_timeout)
            .pool_idle_timeout(limits.idle_timeout)
            .pool_max_idle_per_host(limits.idle_connections_max)
            .build()
            .map_err(CallerError::Client)?;
        Ok(Self { client, base, call_timeout: limits.call_timeout, body_len_max: limits.body_len_max })
    }

    async fn try_call(&self, request: WireRequest) -> WireResult {
        let url = self
            .base
            .join(&request.target)
            .map_err(|error| WireFailure::NotConnected { reason: format!("no such address: {error}") })?;
        let method = match request.verb {
            Verb::Get => Method::GET,
            Verb::Post => Method::POST,
            Verb::Delete => Method::DELETE,
        };
        let mut builder = self.client.request(method, url);
        if let Some(body) = request.body {
            builder = builder.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        if let Some(traceparent) = request.traceparent {
            builder = builder.header("traceparent", traceparent);
        }
        let response = builder.send().await.map_err(|error| failure(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let body = self.read(response).await?;
        Ok(WireReply { status, retry_after, body })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, WireFailure> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| failure(&error))? {
            if body.len().saturating_add(chunk.len()) > self.body_len_max {
                let reason = format!("reply body is larger than {} bytes", self.body_len_max);
                return Err(WireFailure::Broken { reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl Caller for HttpCaller {
    async fn call(&self, request: WireRequest) -> WireResult {
        // The client has the same limit; this one holds whatever the client does.
        let limit = self.call_timeout.saturating_add(Duration::from_millis(50));
        match tokio::time::timeout(limit, self.try_call(request)).await {
            Ok(result) => result,
            Err(_) => Err(WireFailure::Broken { reason: "no whole reply within the call timeout".to_owned() }),
        }
    }
}

/// Only an error of the connector proves that nothing was written.
fn failure(error: &reqwest::Error) -> WireFailure {
    let reason = describe(error);
    if error.is_connect() { WireFailure::NotConnected { reason } } else { WireFailure::Broken { reason } }
}

fn describe(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() { "timeout".to_owned() } else { String::new() };
    let mut source = error.source();
    for _ in 0..5 {
        let Some(inner) = source else { break };
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    if text.is_empty() { "no reply".to_owned() } else { text }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(3600)))
}
