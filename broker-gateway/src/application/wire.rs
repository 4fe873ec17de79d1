//! Requests and replies as they are on the wire, between the pure dialect and the one caller.

use sha2::{Digest, Sha256};
use std::time::Duration;

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Places an order.
    Post,
    /// Asks for a cancel.
    Delete,
}

impl Verb {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// A request, ready to be written. Credentials are not part of it; the caller adds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireRequest {
    /// Method.
    pub verb: Verb,
    /// Path and query, with a leading slash.
    pub target: String,
    /// JSON body; none for requests without one.
    pub body: Option<String>,
    /// Trace that the call belongs to, for its header; no part of what the broker decides by.
    pub traceparent: Option<String>,
}

impl WireRequest {
    /// A hash of what the broker will see of it, the same for equal requests.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.verb.as_str(), &self.target, self.body.as_deref().unwrap_or_default()] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireReply {
    /// HTTP status.
    pub status: u16,
    /// The `Retry-After` header, where it holds seconds.
    pub retry_after: Option<Duration>,
    /// The body, bounded by the caller.
    pub body: Vec<u8>,
}

/// Why there is no whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireFailure {
    /// No connection was made, so nothing can have been written.
    NotConnected {
        /// What the connector said.
        reason: String,
    },
    /// Anything after that: bytes may have left.
    Broken {
        /// What was seen.
        reason: String,
    },
}

/// The end of a call.
pub type WireResult = Result<WireReply, WireFailure>;
