//! Seeded choices: the same seed, subject and number always give the same ones.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::config::Probability;

/// A stream of choices about one subject.
#[derive(Debug)]
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The choices of `seed` about `subject`, for its attempt or item number `n`. `purpose` keeps
    /// different questions about one subject independent.
    pub(super) fn new(seed: u64, purpose: &str, subject: &str, n: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(purpose.as_bytes());
        hash.update([0]);
        hash.update(subject.as_bytes());
        hash.update([0]);
        hash.update(n.to_be_bytes());
        Self(ChaCha8Rng::from_seed(hash.finalize().into()))
    }

    /// Whether something of that probability happens.
    pub(super) fn hits(&mut self, probability: Probability) -> bool {
        self.millionth() < probability.millionths()
    }

    /// A number from 0 to 999,999.
    pub(super) fn millionth(&mut self) -> u32 {
        self.0.random_range(0..Probability::CERTAIN)
    }

    /// A number between two, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        if low >= high { low } else { self.0.random_range(low..=high) }
    }

    /// A signed number between `-reach` and `reach`.
    pub(super) fn swing(&mut self, reach: i64) -> i64 {
        let reach = reach.max(0);
        self.0.random_range(-reach..=reach)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.0.next_u32() & 1 == 1
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// 80 random bits, the tail of a ULID.
    pub(super) fn ulid_tail(&mut self) -> u128 {
        u128::from(self.0.next_u64()) << 15
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_question_same_answer_and_another_number_another_answer() {
        let answer = |seed, n| Dice::new(seed, "order", "key", n).uuid();
        assert_eq!(answer(1, 1), answer(1, 1));
        assert_ne!(answer(1, 1), answer(1, 2));
        assert_ne!(answer(1, 1), answer(2, 1));
    }
}
