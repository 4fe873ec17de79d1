//! Frames that this process has committed, remembered for a while to save work.
//!
//! A replay, and the audit, bring mostly bytes that were stored moments ago. Forgetting costs a look
//! into the database and no more; the database decides what is new. Remembering what the database has
//! lost (it was restored) would be wrong, so a reader that finds an older cursor than it wrote
//! forgets everything.

use super::cursor::Cursor;
use std::collections::{HashMap, VecDeque};

/// A bounded memory of hashes; the oldest go first.
#[derive(Debug)]
pub struct SeenFrames {
    len_max: usize,
    positions: HashMap<[u8; 32], Option<Cursor>>,
    order: VecDeque<[u8; 32]>,
}

impl SeenFrames {
    /// Remembers at most `len_max` frames.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self { len_max, positions: HashMap::new(), order: VecDeque::new() }
    }

    /// The position of a frame that was committed: `Some(None)` where it has none.
    #[must_use]
    pub fn position(&self, sha256: &[u8; 32]) -> Option<Option<Cursor>> {
        self.positions.get(sha256).copied()
    }

    /// A frame was committed.
    pub fn insert(&mut self, sha256: [u8; 32], position: Option<Cursor>) {
        if self.len_max == 0 || self.positions.insert(sha256, position).is_some() {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_frames_are_forgotten_first_and_a_repeat_takes_no_room() {
        let mut seen = SeenFrames::new(2);
        for n in [1, 1, 2, 3] {
            seen.insert([n; 32], None);
        }
        assert_eq!([1, 2, 3].map(|n| seen.position(&[n; 32]).is_some()), [false, true, true]);
        seen.clear();
        assert_eq!(seen.position(&[3; 32]), None);
        let mut none = SeenFrames::new(0);
        none.insert([1; 32], None);
        assert_eq!(none.position(&[1; 32]), None);
    }
}
