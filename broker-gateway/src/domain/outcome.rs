//! The outcome classes: every call to a broker ends in exactly one.

use super::order::SeenOrder;
use std::time::Duration;

/// How a create call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateOutcome {
    /// The broker has the order and showed it.
    Accepted(Box<SeenOrder>),
    /// The broker has an order under our key already. A success, once the original is fetched.
    Duplicate,
    /// The broker's own well-formed refusal of this attempt.
    Rejected(Refusal),
    /// Proof that nothing left us.
    NotSent {
        /// What the proof is.
        reason: String,
    },
    /// Not processed; come back later.
    RateLimited {
        /// The broker's own wish, where it named one.
        retry_after: Option<Duration>,
    },
    /// Anything else. The order may be at the broker.
    Unknown {
        /// What was seen instead of an answer.
        reason: String,
    },
}

/// A refusal in the broker's own words.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The broker's code; 0 where it gave none.
    pub code: i64,
    /// The broker's message.
    pub message: String,
}

/// How a lookup ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupOutcome {
    /// The broker has the order.
    Found(Box<SeenOrder>),
    /// A well-formed 404 with the broker's own code. Any other 404 is unknown.
    None,
    /// Come back later.
    RateLimited {
        /// The broker's own wish, where it named one.
        retry_after: Option<Duration>,
    },
    /// The broker could not be reached.
    NotSent {
        /// Why.
        reason: String,
    },
    /// Says nothing.
    Unknown {
        /// What was seen.
        reason: String,
    },
}

/// How a cancel call ended. None of them ends the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// The broker took the request; whether the order is canceled comes by its stream.
    Requested,
    /// The broker will not cancel.
    Refused(Refusal),
    /// A well-formed 404 with the broker's own code.
    NotFound,
    /// Come back later.
    RateLimited {
        /// The broker's own wish, where it named one.
        retry_after: Option<Duration>,
    },
    /// The broker could not be reached.
    NotSent {
        /// Why.
        reason: String,
    },
    /// Says nothing.
    Unknown {
        /// What was seen.
        reason: String,
    },
}

/// What an outcome says about the broker as a whole, for the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneSignal {
    /// It answered.
    Reached,
    /// No connection could be made.
    Unreachable,
    /// It asks everybody to slow down.
    RateLimited {
        /// For how long, where it said.
        retry_after: Option<Duration>,
    },
    /// Our credentials are not taken: nothing will work until a person has looked.
    Unauthorized,
    /// Says nothing about the broker as a whole.
    Silent,
}

impl CreateOutcome {
    /// The word in the database and in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected(_) => "rejected",
            Self::NotSent { .. } => "not_sent",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl LookupOutcome {
    /// The word in the database and in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::None => "none",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
        }
    }
}

impl CancelOutcome {
    /// The word in the database and in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Refused(_) => "refused",
            Self::NotFound => "not_found",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotSent { .. } => "not_sent",
            Self::Unknown { .. } => "unknown",
        }
    }
}
