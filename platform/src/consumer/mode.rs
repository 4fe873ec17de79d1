//! Where a consumer reads: the bus, or the feed while the bus cannot be trusted.

use serde::Serialize;
use std::time::{Duration, Instant};

/// Where a consumer reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Events come over the bus; the feed only fills gaps.
    Bus,
    /// The bus is dead or not fed: the feed is polled.
    Polling,
}

/// What one look at the bus showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BusLook {
    /// No answer.
    Dead,
    /// It answers, but nobody announces heads.
    Unfed,
    /// It answers and heads are announced, but something that exists does not stand on it.
    Incomplete,
    /// Everything that we still need stands on it, without a gap.
    Whole,
}

/// Decides between the modes. Pure: the time is given.
#[derive(Debug)]
pub(crate) struct ModeSwitch {
    mode: Mode,
    /// How long the bus may go unfed before it counts as dead.
    patience: Duration,
    unfed_since: Option<Instant>,
}

impl ModeSwitch {
    pub(crate) const fn new(patience: Duration) -> Self {
        Self { mode: Mode::Bus, patience, unfed_since: None }
    }

    pub(crate) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Takes in a look at the bus; answers the new mode when it changed.
    pub(crate) fn saw(&mut self, look: BusLook, now: Instant) -> Option<Mode> {
        let unfed_for = match look {
            BusLook::Unfed => now.saturating_duration_since(*self.unfed_since.get_or_insert(now)),
            BusLook::Dead => self.patience,
            BusLook::Incomplete | BusLook::Whole => {
                self.unfed_since = None;
                Duration::ZERO
            }
        };
        let next = match (self.mode, look) {
            // A bus that does not answer is left at once; one that is merely not fed, after a
            // while; a hole in it is filled from the feed without leaving it.
            (Mode::Bus, BusLook::Dead) => Mode::Polling,
            (Mode::Bus, BusLook::Unfed) if unfed_for >= self.patience => Mode::Polling,
            (Mode::Bus, BusLook::Unfed | BusLook::Incomplete | BusLook::Whole) => Mode::Bus,
            (Mode::Polling, BusLook::Whole) => Mode::Bus,
            (Mode::Polling, BusLook::Dead | BusLook::Unfed | BusLook::Incomplete) => Mode::Polling,
        };
        let changed = next != self.mode;
        self.mode = next;
        changed.then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    #[test]
    fn a_dead_bus_is_left_at_once_and_taken_again_only_when_whole() {
        let now = Instant::now();
        let mut switch = ModeSwitch::new(PATIENCE);
        assert_eq!(switch.saw(BusLook::Dead, now), Some(Mode::Polling));
        assert_eq!(switch.saw(BusLook::Unfed, now), None);
        assert_eq!(switch.saw(BusLook::Incomplete, now), None);
        assert_eq!(switch.saw(BusLook::Whole, now), Some(Mode::Bus));
    }

    #[test]
    fn an_unfed_bus_is_left_after_a_while_and_a_hole_never_leaves_it() {
        let now = Instant::now();
        let mut switch = ModeSwitch::new(PATIENCE);
        assert_eq!(switch.saw(BusLook::Unfed, now), None);
        assert_eq!(switch.saw(BusLook::Incomplete, now + PATIENCE), None);
        assert_eq!(switch.saw(BusLook::Unfed, now + PATIENCE), None, "the time starts again");
        assert_eq!(switch.saw(BusLook::Unfed, now + PATIENCE * 2), Some(Mode::Polling));
    }

    fn looks() -> impl Strategy<Value = BusLook> {
        prop_oneof![Just(BusLook::Dead), Just(BusLook::Unfed), Just(BusLook::Incomplete), Just(BusLook::Whole)]
    }

    proptest! {
        #[test]
        fn the_bus_is_used_after_every_whole_look_and_never_after_a_dead_one(
            steps in prop::collection::vec((looks(), 0_u64..3000), 1..60)
        ) {
            let mut now = Instant::now();
            let mut switch = ModeSwitch::new(PATIENCE);
            for (look, passed_ms) in steps {
                now += Duration::from_millis(passed_ms);
                let before = switch.mode();
                let change = switch.saw(look, now);
                prop_assert_eq!(change.is_some(), before != switch.mode());
                match look {
                    BusLook::Whole => prop_assert_eq!(switch.mode(), Mode::Bus),
                    BusLook::Dead => prop_assert_eq!(switch.mode(), Mode::Polling),
                    BusLook::Incomplete => prop_assert_eq!(switch.mode(), before),
                    BusLook::Unfed => {}
                }
            }
        }
    }
}
