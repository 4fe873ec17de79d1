//! The fold over a request's attempts: what they add up to.
//!
//! Outcomes belong to attempts. Evidence of life on any of them wins; a refusal counts only when no
//! other attempt can have lived; what was proven not to have left us, or not to have been
//! processed, says nothing about an older doubt.

use super::attempt::{Attempt, AttemptEnd};
use super::history::History;
use super::outcome::Refusal;
use time::OffsetDateTime;

/// What a request's attempts and evidence add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing has reached the broker: every attempt is proof of that.
    Unsent {
        /// How many tries there were.
        tries: u32,
        /// When the last one ended.
        last_ended_at: Option<OffsetDateTime>,
    },
    /// An attempt is under way.
    InFlight {
        /// Until then its owner may bring a result.
        until: OffsetDateTime,
    },
    /// The broker refused it, and no attempt can have lived.
    Refused(Refusal),
    /// The broker says that it has an order under our key, but has not shown it.
    Hidden(Doubt),
    /// It may be at the broker.
    Doubtful(Doubt),
    /// The broker has it.
    Alive,
    /// The broker has something else under our key.
    Contradicted {
        /// What differs.
        what: String,
    },
}

/// What is known of a doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// How many attempts may have reached the broker.
    pub sent: u32,
    /// When the first of them was made.
    pub since: OffsetDateTime,
    /// When the last of them ended.
    pub last_ended_at: OffsetDateTime,
    /// A refusal of another attempt: not the end of this doubt, but a reason not to send again.
    pub refusal: Option<Refusal>,
}

/// Folds a history. [`History::expire`] comes first, so that an open attempt here is a live one.
#[must_use]
pub fn standing(history: &History) -> Standing {
    if history.is_alive {
        return Standing::Alive;
    }
    // An accepted attempt that showed another order is a contradiction, not life.
    if let Some(what) = &history.contradiction {
        return Standing::Contradicted { what: what.clone() };
    }
    if ends(history).any(|end| *end == AttemptEnd::Accepted) {
        return Standing::Alive;
    }
    if let Some(until) = history.attempts.iter().filter(|a| a.end.is_none()).map(|a| a.give_up_at).max() {
        return Standing::InFlight { until };
    }
    let refusal = ends(history).filter_map(as_refusal).next_back();
    if let Some(doubt) = doubt(history, refusal.clone()) {
        let is_hidden = ends(history).any(|end| *end == AttemptEnd::Duplicate);
        return if is_hidden { Standing::Hidden(doubt) } else { Standing::Doubtful(doubt) };
    }
    match refusal {
        Some(refusal) => Standing::Refused(refusal),
        None => Standing::Unsent {
            tries: u32::try_from(history.attempts.len()).unwrap_or(u32::MAX),
            last_ended_at: history.attempts.iter().filter_map(ended_at).max(),
        },
    }
}

fn ends(history: &History) -> impl DoubleEndedIterator<Item = &AttemptEnd> {
    history.attempts.iter().filter_map(|attempt| attempt.end.as_ref().map(|(end, _)| end))
}

fn as_refusal(end: &AttemptEnd) -> Option<Refusal> {
    match end {
        AttemptEnd::Rejected(refusal) => Some(refusal.clone()),
        AttemptEnd::Accepted | AttemptEnd::Duplicate | AttemptEnd::NotSent | AttemptEnd::Unknown => None,
    }
}

fn ended_at(attempt: &Attempt) -> Option<OffsetDateTime> {
    attempt.end.as_ref().map(|(_, at)| *at)
}

fn doubt(history: &History, refusal: Option<Refusal>) -> Option<Doubt> {
    let mut doubt: Option<Doubt> = None;
    for attempt in history.attempts.iter().filter(|attempt| attempt.may_have_arrived()) {
        let ended_at = ended_at(attempt).unwrap_or(attempt.give_up_at);
        doubt = Some(match doubt {
            None => Doubt { sent: 1, since: attempt.claimed_at, last_ended_at: ended_at, refusal: refusal.clone() },
            Some(so_far) => Doubt {
                sent: so_far.sent.saturating_add(1),
                since: so_far.since.min(attempt.claimed_at),
                last_ended_at: so_far.last_ended_at.max(ended_at),
                refusal: so_far.refusal,
            },
        });
    }
    doubt
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    fn history(ends: &[Option<AttemptEnd>]) -> History {
        let start = OffsetDateTime::UNIX_EPOCH;
        let attempts = ends
            .iter()
            .enumerate()
            .map(|(index, end)| {
                let number = i32::try_from(index).unwrap() + 1;
                let claimed_at = start + Duration::minutes(i64::from(number));
                Attempt {
                    number,
                    claimed_at,
                    give_up_at: claimed_at + Duration::seconds(10),
                    end: end.clone().map(|end| (end, claimed_at + Duration::seconds(5))),
                    bytes_hash: [0; 32],
                }
            })
            .collect();
        History { attempts, ..History::default() }
    }

    fn refused() -> AttemptEnd {
        AttemptEnd::Rejected(Refusal { code: 40_310_000, message: "insufficient buying power".to_owned() })
    }

    #[test]
    fn a_refusal_after_an_unknown_attempt_is_not_final() {
        let folded = standing(&history(&[Some(AttemptEnd::Unknown), Some(refused())]));
        assert!(matches!(folded, Standing::Doubtful(Doubt { sent: 1, refusal: Some(_), .. })), "{folded:?}");
    }

    #[test]
    fn a_refusal_is_final_when_nothing_else_left_us() {
        let folded = standing(&history(&[Some(AttemptEnd::NotSent), Some(refused()), Some(AttemptEnd::NotSent)]));
        assert!(matches!(folded, Standing::Refused(Refusal { code: 40_310_000, .. })), "{folded:?}");
    }

    #[test]
    fn what_was_not_sent_never_ends_an_older_doubt() {
        let folded = standing(&history(&[Some(AttemptEnd::Unknown), Some(AttemptEnd::NotSent)]));
        assert!(matches!(folded, Standing::Doubtful(Doubt { sent: 1, .. })), "{folded:?}");
    }

    #[test]
    fn evidence_of_life_on_any_attempt_wins() {
        let folded = standing(&history(&[Some(AttemptEnd::Accepted), Some(refused())]));
        assert_eq!(folded, Standing::Alive);
        let seen = History { is_alive: true, contradiction: Some("x".to_owned()), ..history(&[Some(refused())]) };
        assert_eq!(standing(&seen), Standing::Alive);
    }

    #[test]
    fn a_duplicate_means_that_it_exists() {
        let folded = standing(&history(&[Some(AttemptEnd::NotSent), Some(AttemptEnd::Duplicate)]));
        assert!(matches!(folded, Standing::Hidden(_)), "{folded:?}");
    }

    #[test]
    fn an_open_attempt_is_in_flight_until_its_owner_must_have_given_up() {
        let mut open = history(&[Some(AttemptEnd::Unknown), None]);
        let until = open.attempts[1].give_up_at;
        assert_eq!(open.expire(until - Duration::MILLISECOND), Vec::<i32>::new());
        assert_eq!(standing(&open), Standing::InFlight { until });
        assert_eq!(open.expire(until), vec![2]);
        assert!(matches!(standing(&open), Standing::Doubtful(Doubt { sent: 2, .. })));
    }

    #[test]
    fn a_request_without_attempts_is_unsent() {
        assert_eq!(standing(&History::default()), Standing::Unsent { tries: 0, last_ended_at: None });
    }
}
