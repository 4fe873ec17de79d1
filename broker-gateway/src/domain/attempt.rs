//! One try to place an order: what is known of it.

use super::outcome::{CreateOutcome, Refusal};
use time::OffsetDateTime;

/// How an attempt ended, as far as the fold over attempts needs it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AttemptEnd {
    /// The broker took this attempt.
    Accepted,
    /// The broker has an order under the key.
    Duplicate,
    /// The broker refused this attempt.
    Rejected(Refusal),
    /// Nothing left us, or the broker documents that it did not process it.
    NotSent,
    /// It may be at the broker.
    Unknown,
}

/// One row of the attempt log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// Counts the order's attempts, from 1.
    pub number: i32,
    /// When its row was written, by the database's clock: no byte left before.
    pub claimed_at: OffsetDateTime,
    /// Until then its owner may still bring a result; after that it is unknown, whoever looks.
    pub give_up_at: OffsetDateTime,
    /// How and when it ended; none while open.
    pub end: Option<(AttemptEnd, OffsetDateTime)>,
    /// Hash of the bytes that it sent, or would have.
    pub bytes_hash: [u8; 32],
}

impl Attempt {
    /// Whether the order may have reached the broker through this attempt.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        !matches!(self.end, Some((AttemptEnd::NotSent | AttemptEnd::Rejected(_), _)))
    }

    /// Its owner saw how it ended. A result that comes after the attempt was given up still counts:
    /// it is the truth about this attempt; any other second end is ignored.
    pub fn close(&mut self, end: AttemptEnd, at: OffsetDateTime) {
        if matches!(self.end, None | Some((AttemptEnd::Unknown, _))) {
            self.end = Some((end, at));
        }
    }
}

impl From<&CreateOutcome> for AttemptEnd {
    fn from(outcome: &CreateOutcome) -> Self {
        match outcome {
            CreateOutcome::Accepted(_) => Self::Accepted,
            CreateOutcome::Duplicate => Self::Duplicate,
            CreateOutcome::Rejected(refusal) => Self::Rejected(refusal.clone()),
            CreateOutcome::NotSent { .. } | CreateOutcome::RateLimited { .. } => Self::NotSent,
            CreateOutcome::Unknown { .. } => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proof_that_nothing_left_counts_as_not_sent() {
        let refusal = Refusal { code: 1, message: String::new() };
        let reason = String::new;
        let outcomes = [
            (CreateOutcome::Unknown { reason: reason() }, true),
            (CreateOutcome::Duplicate, true),
            (CreateOutcome::Rejected(refusal), false),
            (CreateOutcome::NotSent { reason: reason() }, false),
            (CreateOutcome::RateLimited { retry_after: None }, false),
        ];
        for (outcome, may_have_arrived) in outcomes {
            let at = OffsetDateTime::UNIX_EPOCH;
            let mut attempt = Attempt { number: 1, claimed_at: at, give_up_at: at, end: None, bytes_hash: [0; 32] };
            attempt.close(AttemptEnd::from(&outcome), at);
            assert_eq!(attempt.may_have_arrived(), may_have_arrived, "{outcome:?}");
        }
    }
}
