//! Randomness for waits.

use crate::application::ports::JitterSource;

/// The thread's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomJitter;

impl JitterSource for RandomJitter {
    fn permille(&self) -> u16 {
        rand::random_range(0..=1000)
    }
}
