//! How fast calls to one broker may go: a token bucket, and a pause when the broker asks for one or
//! cannot be reached. Time is what has passed since the lane started, given by the caller.

use super::outcome::LaneSignal;
use std::time::Duration;

/// One call in the bucket's unit, a millionth of a call: a rate of one a second is one unit a
/// microsecond, so that nothing is lost to rounding.
const CALL: u64 = 1_000_000;

/// Bounds of the lane's waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePolicy {
    /// Calls a second.
    pub rate_per_s: u32,
    /// Most calls at once after a rest.
    pub burst: u32,
    /// Pause after the first call that could not connect; doubles until one gets through.
    pub unreachable_pause_first: Duration,
    /// The longest pause of any kind.
    pub pause_max: Duration,
    /// Pause where a 429 names no time.
    pub rate_limited_pause: Duration,
}

/// The state of one lane.
#[derive(Debug, Clone)]
pub struct Lane {
    policy: LanePolicy,
    /// How many lanes share rate and burst.
    lanes: u32,
    tokens: u64,
    refilled_at: Duration,
    paused_until: Duration,
    /// Until when a probe under way holds others back; none when another pause has come since.
    probe_until: Option<Duration>,
    failures: u32,
}

/// How many calls may start, and when to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Calls that may start now.
    pub calls: u32,
    /// When more may be had; zero when as many as wanted were granted.
    pub retry_in: Duration,
}

impl Lane {
    /// A lane that starts with a full bucket.
    #[must_use]
    pub fn new(policy: LanePolicy) -> Self {
        let (refilled_at, paused_until) = (Duration::ZERO, Duration::ZERO);
        let empty = Self { policy, lanes: 1, tokens: 0, refilled_at, paused_until, probe_until: None, failures: 0 };
        Self { tokens: empty.full(), ..empty }
    }

    /// Takes up to `wanted` calls. While the broker cannot be reached, one at a time finds out.
    pub fn take(&mut self, now: Duration, wanted: u32) -> Grant {
        if now < self.paused_until {
            return Grant { calls: 0, retry_in: self.paused_until.saturating_sub(now) };
        }
        self.refill(now);
        let wanted = if self.failures > 0 { wanted.min(1) } else { wanted };
        let available = u32::try_from(self.tokens / CALL).unwrap_or(u32::MAX);
        let calls = wanted.min(available);
        self.tokens = self.tokens.saturating_sub(u64::from(calls).saturating_mul(CALL));
        let retry_in = if calls == wanted { Duration::ZERO } else { self.next_token_in() };
        if self.failures > 0 && calls > 0 {
            // The next probe waits for this one's end, or for the pause that its failure would bring.
            self.paused_until = now.saturating_add(self.unreachable_pause());
            self.probe_until = Some(self.paused_until);
        }
        Grant { calls, retry_in }
    }

    /// Gives back calls that were taken and not made.
    pub fn give_back(&mut self, calls: u32) {
        let given = u64::from(calls).saturating_mul(CALL);
        self.tokens = self.tokens.saturating_add(given).min(self.full());
        // Not a pause that the broker has asked for meanwhile.
        if calls > 0 && self.probe_until.take() == Some(self.paused_until) {
            self.paused_until = Duration::ZERO;
        }
    }

    /// Learns from the end of a call.
    pub fn observe(&mut self, now: Duration, signal: LaneSignal) {
        match signal {
            LaneSignal::Reached => {
                if self.failures > 0 {
                    self.failures = 0;
                    self.paused_until = Duration::ZERO;
                }
            }
            LaneSignal::Silent => {}
            LaneSignal::Unreachable => {
                // Many calls fail together; only the first after a pause makes the next one longer.
                if now >= self.paused_until || self.failures == 0 {
                    self.failures = self.failures.saturating_add(1);
                    self.paused_until = now.saturating_add(self.unreachable_pause());
                }
            }
            LaneSignal::RateLimited { retry_after } => {
                let pause = retry_after.unwrap_or(self.policy.rate_limited_pause).min(self.policy.pause_max);
                self.paused_until = self.paused_until.max(now.saturating_add(pause));
            }
            LaneSignal::Unauthorized => {
                self.paused_until = self.paused_until.max(now.saturating_add(self.policy.pause_max));
            }
        }
    }

    /// Changes the rate, from this call on: what the bucket holds beyond it is gone.
    pub fn set_rate(&mut self, now: Duration, rate_per_s: u32) {
        self.refill(now);
        self.policy.rate_per_s = rate_per_s;
        self.tokens = self.tokens.min(self.full());
    }

    /// Shares rate and burst with other lanes to the same broker from now on: `lanes` in all.
    pub fn share(&mut self, now: Duration, lanes: u32) {
        self.refill(now);
        self.lanes = lanes.max(1);
        self.tokens = self.tokens.min(self.full());
    }

    /// Starts nothing for a while.
    pub fn hold(&mut self, now: Duration, pause: Duration) {
        self.paused_until = self.paused_until.max(now.saturating_add(pause));
    }

    /// How many lanes share the rate.
    #[must_use]
    pub const fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Calls a second, of all lanes together.
    #[must_use]
    pub const fn rate_per_s(&self) -> u32 {
        self.policy.rate_per_s
    }

    /// For how long nothing may start.
    #[must_use]
    pub fn paused_for(&self, now: Duration) -> Duration {
        self.paused_until.saturating_sub(now)
    }

    fn unreachable_pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let pause = self.policy.unreachable_pause_first.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(1));
        pause.min(self.policy.pause_max)
    }

    fn refill(&mut self, now: Duration) {
        let micros = u64::try_from(now.saturating_sub(self.refilled_at).as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(u64::from(self.policy.rate_per_s)) / u64::from(self.lanes);
        self.tokens = self.tokens.saturating_add(gained).min(self.full());
        self.refilled_at = self.refilled_at.saturating_add(Duration::from_micros(micros));
    }

    /// A full bucket: this lane's part of the burst, or of the calls of a second where they are fewer, but
    /// always one call, unless the rate is none at all.
    fn full(&self) -> u64 {
        let (burst, rate) = (self.policy.burst, self.policy.rate_per_s);
        let least = if rate == 0 { 0 } else { CALL };
        (u64::from(burst.min(rate)).saturating_mul(CALL) / u64::from(self.lanes)).max(least)
    }

    fn next_token_in(&self) -> Duration {
        let missing = CALL.saturating_sub(self.tokens % CALL).saturating_mul(u64::from(self.lanes));
        Duration::from_micros(missing / u64::from(self.policy.rate_per_s).max(1) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: LanePolicy = LanePolicy {
        rate_per_s: 100,
        burst: 10,
        unreachable_pause_first: Duration::from_millis(100),
        pause_max: Duration::from_secs(5),
        rate_limited_pause: Duration::from_secs(1),
    };

    #[test]
    fn a_429_pauses_the_whole_lane_for_as_long_as_asked() {
        let mut lane = Lane::new(POLICY);
        let asked = LaneSignal::RateLimited { retry_after: Some(Duration::from_secs(2)) };
        lane.observe(Duration::ZERO, asked);
        assert_eq!(lane.take(Duration::from_millis(1999), 5).calls, 0);
        assert_eq!(lane.take(Duration::from_secs(2), 5).calls, 5);
    }

    #[test]
    fn an_unreachable_broker_is_probed_one_call_at_a_time_ever_more_rarely() {
        let mut lane = Lane::new(POLICY);
        lane.observe(Duration::ZERO, LaneSignal::Unreachable);
        lane.observe(Duration::ZERO, LaneSignal::Unreachable);
        assert_eq!(lane.take(Duration::from_millis(99), 5).calls, 0);
        assert_eq!(lane.take(Duration::from_millis(100), 5).calls, 1);
        assert_eq!(lane.take(Duration::from_millis(101), 5).calls, 0, "the probe is out");
        lane.observe(Duration::from_millis(250), LaneSignal::Unreachable);
        assert_eq!(lane.paused_for(Duration::from_millis(250)), Duration::from_millis(200));
        assert_eq!(lane.take(Duration::from_millis(450), 5).calls, 1);
        lane.observe(Duration::from_millis(460), LaneSignal::Reached);
        assert_eq!(lane.take(Duration::from_millis(461), 5).calls, 5);
    }

    #[test]
    fn a_changed_rate_holds_from_then_on() {
        let mut lane = Lane::new(POLICY);
        assert_eq!(lane.take(Duration::ZERO, 10).calls, 10);
        lane.set_rate(Duration::ZERO, 1);
        assert_eq!(lane.take(Duration::from_millis(999), 10).calls, 0);
        assert_eq!(lane.take(Duration::from_millis(1001), 10).calls, 1);
    }

    #[test]
    fn a_full_bucket_is_no_way_around_a_low_rate_or_none_at_all() {
        for (rate_per_s, at_once) in [(0, 0), (7, 7), (100, 10)] {
            assert_eq!(Lane::new(LanePolicy { rate_per_s, ..POLICY }).take(Duration::ZERO, 20).calls, at_once);
            let mut lane = Lane::new(POLICY);
            lane.set_rate(Duration::ZERO, rate_per_s);
            lane.give_back(20);
            assert_eq!(lane.take(Duration::ZERO, 20).calls, at_once, "set to {rate_per_s}/s");
        }
    }

    #[test]
    fn a_lane_that_is_held_starts_nothing_until_then() {
        let mut lane = Lane::new(POLICY);
        lane.hold(Duration::ZERO, Duration::from_millis(500));
        assert_eq!(lane.take(Duration::from_millis(499), 1).calls, 0);
        assert_eq!(lane.take(Duration::from_millis(500), 1).calls, 1);
    }

    proptest! {
        #[test]
        fn lanes_that_share_a_rate_never_make_more_calls_together_than_one(
            lanes in 1_u32..5, steps in prop::collection::vec((0u64..50_000, 0u32..20), 1..200)
        ) {
            let mut all: Vec<Lane> = (0..lanes).map(|_| Lane::new(POLICY)).collect();
            all.iter_mut().for_each(|lane| lane.share(Duration::ZERO, lanes));
            let mut now = Duration::ZERO;
            let mut made: u64 = 0;
            for (micros, wanted) in steps {
                now += Duration::from_micros(micros);
                made += all.iter_mut().map(|lane| u64::from(lane.take(now, wanted).calls)).sum::<u64>();
                let allowed = 10 + u64::try_from(now.as_micros()).unwrap() * 100 / 1_000_000;
                prop_assert!(made <= allowed, "{made} calls, {allowed} allowed");
            }
        }

        #[test]
        fn lanes_that_share_a_rate_use_it_up(lanes in 1_u32..5, gap_micros in 1u64..3_000) {
            let mut all: Vec<Lane> = (0..lanes).map(|_| Lane::new(POLICY)).collect();
            all.iter_mut().for_each(|lane| lane.share(Duration::ZERO, lanes));
            let mut now = Duration::ZERO;
            let mut made: u64 = 0;
            while now < Duration::from_secs(10) {
                now += Duration::from_micros(gap_micros);
                made += all.iter_mut().map(|lane| u64::from(lane.take(now, 5).calls)).sum::<u64>();
            }
            prop_assert!(made >= 980, "{made} calls in 10 s at 100/s");
        }

        #[test]
        fn never_more_calls_than_the_burst_and_the_rate_allow(steps in prop::collection::vec((0u64..50_000, 0u32..20), 1..200)) {
            let mut lane = Lane::new(POLICY);
            let mut now = Duration::ZERO;
            let mut made: u64 = 0;
            for (micros, wanted) in steps {
                now += Duration::from_micros(micros);
                made += u64::from(lane.take(now, wanted).calls);
                let allowed = 10 + u64::try_from(now.as_micros()).unwrap() * 100 / 1_000_000;
                prop_assert!(made <= allowed, "{made} calls, {allowed} allowed");
            }
        }

        #[test]
        fn a_steady_asker_gets_the_rate(gap_micros in 1u64..3_000) {
            let mut lane = Lane::new(POLICY);
            let mut now = Duration::ZERO;
            let mut made: u64 = 0;
            while now < Duration::from_secs(10) {
                now += Duration::from_micros(gap_micros);
                made += u64::from(lane.take(now, 5).calls);
            }
            prop_assert!(made >= 990, "{made} calls in 10 s at 100/s");
        }
    }

    #[test]
    fn a_probe_that_is_not_made_ends_no_pause_that_came_meanwhile() {
        let mut lane = Lane::new(POLICY);
        lane.observe(Duration::ZERO, LaneSignal::Unreachable);
        let probe_at = lane.paused_for(Duration::ZERO);
        assert_eq!(lane.take(probe_at, 1).calls, 1);
        lane.observe(probe_at, LaneSignal::RateLimited { retry_after: Some(Duration::from_secs(2)) });
        lane.give_back(1);
        assert_eq!(lane.paused_for(probe_at), Duration::from_secs(2));
        // Without such a pause the next probe need not wait.
        let later = probe_at + Duration::from_secs(2);
        assert_eq!(lane.take(later, 1).calls, 1);
        assert_eq!(lane.take(later, 1).calls, 0);
        lane.give_back(1);
        assert_eq!(lane.take(later, 1).calls, 1);
    }
}
