//! All that is known of one request: the input of the retry protocol.

use super::attempt::{Attempt, AttemptEnd};
use time::OffsetDateTime;

/// What lookups by our key have said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Asked {
    /// How many were begun since the doubt began.
    pub count: u32,
    /// When the last one was begun, by the database's clock.
    pub last_began_at: Option<OffsetDateTime>,
    /// When the last one that ended in a well-formed "none" was begun.
    pub last_none_began_at: Option<OffsetDateTime>,
}

impl Asked {
    /// A new attempt was made: the questions after it are counted anew. When one was asked, and what
    /// came of it, stays.
    pub const fn start_again(&mut self) {
        self.count = 0;
    }

    /// A lookup begins.
    pub const fn began(&mut self, at: OffsetDateTime) {
        self.count = self.count.saturating_add(1);
        self.last_began_at = Some(at);
    }

    /// A lookup that began then ended in a well-formed "none". Lookups may end in any order: the one
    /// that began last counts.
    pub fn heard_none(&mut self, began_at: OffsetDateTime) {
        self.last_none_began_at = self.last_none_began_at.max(Some(began_at));
    }
}

/// Everything that the protocol decides on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_none_that_comes_late_does_not_replace_one_that_was_asked_for_later() {
        let mut asked = Asked::default();
        asked.began(START);
        asked.began(START + Duration::SECOND);
        asked.heard_none(START + Duration::SECOND);
        asked.heard_none(START);
        assert_eq!(asked.last_none_began_at, Some(START + Duration::SECOND));
        asked.start_again();
        assert_eq!((asked.count, asked.last_began_at), (0, Some(START + Duration::SECOND)));
    }

    #[test]
    fn a_late_result_replaces_a_given_up_attempts_end_and_no_other() {
        let mut attempt = Attempt { number: 1, claimed_at: START, give_up_at: START, end: None, bytes_hash: [0; 32] };
        attempt.close(AttemptEnd::Unknown, START);
        attempt.close(AttemptEnd::NotSent, START + Duration::SECOND);
        attempt.close(AttemptEnd::Accepted, START + Duration::SECOND);
        assert_eq!(attempt.end, Some((AttemptEnd::NotSent, START + Duration::SECOND)));
    }
}
