//! All that is known of one request: the input of the retry protocol.

use super::attempt::{Attempt, AttemptEnd};
use time::OffsetDateTime;

/// What lookups by our key have said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// How many were begun since the doubt began.
    pub count: u32,
    /// When the last one was begun, by the database's clock.
    pub last_began_at: Option<OffsetDateTime>,
    /// When the last one that ended in a well-formed "none" was begun.
    pub last_none_began_at: Option<OffsetDateTime>,
}

/// Everything that the protocol decides on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The attempt log, in order.
    pub attempts: Vec<Attempt>,
    /// Lookups.
    pub asked: Asked,
    /// Whether any evidence has shown the order at the broker.
    pub is_alive: bool,
    /// Evidence that the broker holds another order under our key, and what differs.
    pub contradiction: Option<String>,
    /// Whether the customer wants it cancelled.
    pub cancel_requested: bool,
    /// The time after which the broker refuses it; fixed at the first attempt.
    pub valid_until: Option<OffsetDateTime>,
}

impl History {
    /// Closes attempts whose owner can no longer bring a result. Returns the numbers of those that
    /// became unknown.
    pub fn expire(&mut self, now: OffsetDateTime) -> Vec<i32> {
        let mut expired = Vec::new();
        for attempt in &mut self.attempts {
            if attempt.end.is_none() && attempt.give_up_at <= now {
                attempt.end = Some((AttemptEnd::Unknown, now));
                expired.push(attempt.number);
            }
        }
        expired
    }

    /// When the key was first used, if any attempt may have used it.
    #[must_use]
    pub fn first_claimed_at(&self) -> Option<OffsetDateTime> {
        self.attempts.iter().map(|attempt| attempt.claimed_at).min()
    }

    /// The last moment in the attempt log: a clock that shows less has run backwards.
    #[must_use]
    pub fn last_moment(&self) -> Option<OffsetDateTime> {
        self.attempts.iter().flat_map(|a| [Some(a.claimed_at), a.end.as_ref().map(|(_, at)| *at)]).flatten().max()
    }
}
