//! All that decisions depend on besides a request itself: the broker's promises and our patience.

use crate::domain::live::LivePolicy;
use crate::domain::profile::Profile;
use crate::domain::retry::RetryPolicy;
use time::{Duration, OffsetDateTime};

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

/// What holds back new orders of an account: see [`Rules::review_hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReviewHold {
    /// The start of this process, by the database's clock.
    pub since: OffsetDateTime,
    /// Attempts that must have ended by this moment were claimed before the start: whoever made them
    /// may be dead.
    pub claimed_before_ends: OffsetDateTime,
    /// How long a doubt that could not be looked up holds.
    pub hold_max: Duration,
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

impl Rules {
    /// What holds back new orders of an account until its doubts were looked into; none where the
    /// broker cannot be asked, so that waiting would teach nothing.
    #[must_use]
    pub fn review_hold(&self) -> Option<ReviewHold> {
        let since = self.retry.reviewed_since;
        self.profile.key_looked_up.then(|| ReviewHold {
            since,
            claimed_before_ends: since.saturating_add(self.timings.give_up_after()),
            hold_max: self.retry.review_hold_max,
        })
    }
}
