//! Frames that this process has committed, remembered for a while to save work.
//!
//! A replay, and the audit, bring mostly bytes that were stored moments ago. Forgetting costs a look
//! into the database and no more; the database decides what is new. Remembering what the database has
//! lost (it was restored, or failed over to a copy that lags) would be wrong, so everything is forgotten
//! with every error of the database and every new connection to the broker. What was committed before
//! that must not come back: it carries the epoch in which its transaction began.

use super::cursor::Cursor;
use std::collections::{HashMap, VecDeque};

/// A bounded memory of hashes; the oldest go first.
#[derive(Debug)]
pub struct SeenFrames {
    len_max: usize,
    positions: HashMap<[u8; 32], Option<Cursor>>,
    order: VecDeque<[u8; 32]>,
    epoch: u64,
}

impl SeenFrames {
    /// Remembers at most `len_max` frames.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self { len_max, positions: HashMap::new(), order: VecDeque::new(), epoch: 0 }
    }

    /// The position of a frame that was committed: `Some(None)` where it has none.
    #[must_use]
    pub fn position(&self, sha256: &[u8; 32]) -> Option<Option<Cursor>> {
        self.positions.get(sha256).copied()
    }

    /// Changes whenever everything is forgotten.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A frame was committed by a transaction that began in `epoch`.
    pub fn insert(&mut self, epoch: u64, sha256: [u8; 32], position: Option<Cursor>) {
        if epoch != self.epoch || self.len_max == 0 || self.positions.insert(sha256, position).is_some() {
            return;
        }
        self.order.push_back(sha256);
        while self.order.len() > self.len_max {
            if let Some(oldest) = self.order.pop_front() {
                self.positions.remove(&oldest);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.positions.clear();
        self.order.clear();
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_frames_are_forgotten_first_and_a_repeat_takes_no_room() {
        let mut seen = SeenFrames::new(2);
        for n in [1, 1, 2, 3] {
            seen.insert(0, [n; 32], None);
        }
        assert_eq!([1, 2, 3].map(|n| seen.position(&[n; 32]).is_some()), [false, true, true]);
        seen.clear();
        assert_eq!(seen.position(&[3; 32]), None);
        let mut none = SeenFrames::new(0);
        none.insert(0, [1; 32], None);
        assert_eq!(none.position(&[1; 32]), None);
    }

    #[test]
    fn what_was_committed_before_everything_was_forgotten_does_not_come_back() {
        let mut seen = SeenFrames::new(2);
        let began = seen.epoch();
        seen.clear();
        seen.insert(began, [1; 32], None);
        assert_eq!(seen.position(&[1; 32]), None);
        seen.insert(seen.epoch(), [1; 32], None);
        assert!(seen.position(&[1; 32]).is_some());
    }
}
