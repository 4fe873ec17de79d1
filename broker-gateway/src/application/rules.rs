//! All that decisions depend on besides a request itself: the broker's promises and our patience.

use crate::domain::live::LivePolicy;
use crate::domain::profile::Profile;
use crate::domain::retry::RetryPolicy;
use time::Duration;

/// How long the phases of a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// From claiming an attempt to writing it.
    pub send_grace: Duration,
    /// A whole call, from connecting to the last byte of the reply.
    pub call_timeout: Duration,
    /// From the end of a call to its record; past all three an attempt without a result is unknown.
    pub record_grace: Duration,
    /// How long an order may be taken by the broker, from its first attempt on.
    pub valid_for: Duration,
}

impl Timings {
    /// From claiming a call to giving up on its result.
    #[must_use]
    pub fn give_up_after(&self) -> Duration {
        self.send_grace.saturating_add(self.call_timeout).saturating_add(self.record_grace)
    }
}

/// The rules of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The broker's promises.
    pub profile: Profile,
    /// Patience with orders that the broker is not known to have.
    pub retry: RetryPolicy,
    /// Patience with calls on orders that it has.
    pub live: LivePolicy,
    /// Phases of a call.
    pub timings: Timings,
}
