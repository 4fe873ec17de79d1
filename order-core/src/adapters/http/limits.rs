//! How often a key may ask, and how often an address may fail to show one.
//!
//! Counted in this process alone: with several copies behind a load balancer each gets its share, so
//! the configured rate is the wanted one divided by the copies.

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use platform::http::Peer;
use platform::rate::{Buckets, Rate, Verdict};
use std::net::IpAddr;
use time::OffsetDateTime;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Most keys and most addresses that are told apart.
const NAMES_MAX: usize = 100_000;

/// The rates of a process; none where there is no limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Requests of a key.
    pub requests: Option<Rate>,
    /// Requests of an address without a valid key.
    pub failures: Option<Rate>,
}

/// Counts requests.
#[derive(Debug)]
pub struct RequestLimits {
    requests: Option<Buckets<String>>,
    failures: Option<Buckets<IpAddr>>,
}

impl RequestLimits {
    /// Limits at which nothing was counted yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self {
            requests: rates.requests.map(|rate| Buckets::new(rate, NAMES_MAX)),
            failures: rates.failures.map(|rate| Buckets::new(rate, NAMES_MAX)),
        }
    }

    /// Counts a request of a valid key.
    #[must_use]
    pub fn request(&self, key_id: &str, now: OffsetDateTime) -> Option<Verdict> {
        self.requests.as_ref().map(|buckets| buckets.take(&key_id.to_owned(), now))
    }

    /// Counts a request without a valid key.
    #[must_use]
    pub fn failure(&self, peer: Option<Peer>, now: OffsetDateTime) -> Option<Verdict> {
        Some(self.failures.as_ref()?.take(&peer?.network(), now))
    }

    /// What an address that failed too often is told, before anything is looked up for it.
    #[must_use]
    pub fn blocked(&self, peer: Option<Peer>, now: OffsetDateTime) -> Option<Verdict> {
        let verdict = self.failures.as_ref()?.look(&peer?.network(), now);
        (!verdict.admitted).then_some(verdict)
    }
}

/// The headers that clients of the dialect read, on every answer that was counted.
pub fn write_headers(verdict: &Verdict, headers: &mut HeaderMap) {
    headers.insert(LIMIT, HeaderValue::from(verdict.limit));
    headers.insert(REMAINING, HeaderValue::from(verdict.remaining));
    headers.insert(RESET, HeaderValue::from(ceil_s(verdict.full_at)));
    if !verdict.admitted {
        let wait_s = u64::try_from(verdict.wait.whole_seconds()).unwrap_or_default();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(wait_s.saturating_add(1)));
    }
}

/// Whole seconds since 1970, rounded up.
fn ceil_s(at: OffsetDateTime) -> i64 {
    at.unix_timestamp() + i64::from(at.nanosecond() > 0)
}
