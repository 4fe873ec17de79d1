//! What a seed decides before a story begins.

use broker_gateway::application::rules::{Rules, Timings};
use broker_gateway::domain::live::LivePolicy;
use broker_gateway::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use broker_gateway::domain::retry::RetryPolicy;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::fmt;
use time::{Duration, OffsetDateTime};

/// A design that is known to be wrong, planted to prove that stories can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// None.
    None,
    /// The gateway sees an event before its transaction is committed.
    PublishBeforeCommit,
    /// The customer is told before the commit.
    AcknowledgeBeforeCommit,
    /// Every attempt has a key of its own.
    NewKeyForEachAttempt,
    /// The gateway believes that keys are enforced for ever.
    ResendOutsideTheWindow,
    /// The gateway believes that nothing can arrive or surface any more as soon as it asks.
    NoneMeansFailed,
    /// The receiver tells events apart by their position.
    DedupByCursor,
    /// The receiver goes on after the broker has dropped messages.
    IgnoreDroppedMessages,
    /// The order server's consumer goes on over a gap.
    IgnoreSequenceGap,
    /// The position in a log moves before the effect is committed.
    PositionBeforeEffect,
}

impl Mutation {
    /// All that are wrong.
    pub const WRONG: [Self; 9] = [
        Self::PublishBeforeCommit,
        Self::AcknowledgeBeforeCommit,
        Self::NewKeyForEachAttempt,
        Self::ResendOutsideTheWindow,
        Self::NoneMeansFailed,
        Self::DedupByCursor,
        Self::IgnoreDroppedMessages,
        Self::IgnoreSequenceGap,
        Self::PositionBeforeEffect,
    ];
}

/// What is decided before a story begins.
#[derive(Debug, Clone)]
pub struct Plot {
    /// What the broker is like.
    pub truth: Profile,
    /// What is planted.
    pub mutation: Mutation,
    /// How far the broker's clock is off.
    pub skew: Duration,
    /// Orders: shares, price in dollars, whether the customer sells.
    pub orders: Vec<(i64, i64, bool)>,
    /// Steps of the wild part.
    pub steps: u32,
    /// How often of a hundred times something goes wrong where it can.
    pub trouble: u32,
    name: &'static str,
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, orders, steps, trouble, mutation, .. } = self;
        let skew = self.skew.whole_milliseconds();
        write!(f, "{name} broker, clock off by {skew} ms, orders {orders:?}, {steps} steps, {trouble} % trouble")?;
        if *mutation == Mutation::None { Ok(()) } else { write!(f, ", planted: {mutation:?}") }
    }
}

impl Plot {
    pub(super) fn draw(rng: &mut ChaCha8Rng, mutation: Mutation) -> Self {
        let (name, truth) = profile(rng);
        let skew_ms = i64::try_from(truth.clock_skew_max.whole_milliseconds()).unwrap_or(0);
        let count = rng.random_range(1..=4);
        let orders = (0..count)
            .map(|_| (rng.random_range(1..=5), rng.random_range(10..=14), rng.random_range(0..4) == 0))
            .collect();
        Self {
            truth,
            mutation,
            skew: Duration::milliseconds(rng.random_range(-skew_ms..=skew_ms)),
            orders,
            steps: rng.random_range(40..=400),
            trouble: *[0, 5, 15, 30, 60].get(rng.random_range(0..5)).unwrap_or(&0),
            name,
        }
    }

    /// What the gateway works by.
    pub(super) fn rules(&self, since: OffsetDateTime) -> Rules {
        let send_grace = Duration::SECOND;
        let mut profile = self.truth.clone();
        let mut valid_for = Duration::minutes(17);
        match self.mutation {
            Mutation::ResendOutsideTheWindow if profile.key_accepted => {
                profile.key_enforcement = KeyEnforcement::Always;
            }
            Mutation::NoneMeansFailed if profile.key_looked_up => {
                profile.valid_until = ValidUntil::Honoured { record_lag_max: Some(Duration::ZERO) };
                profile.clock_skew_max = Duration::ZERO;
                valid_for = Duration::ZERO;
            }
            _ => {}
        }
        Rules {
            profile,
            retry: RetryPolicy {
                ladder: [1, 2, 4, 8].map(Duration::minutes).to_vec(),
                lookup_delay_first: Duration::milliseconds(200),
                lookup_delay_max: Duration::minutes(1),
                unsent_delay_first: Duration::milliseconds(250),
                unsent_delay_max: Duration::seconds(30),
                doubt_max: Duration::minutes(60),
                send_grace,
                reviewed_since: since,
                review_hold_max: Duration::seconds(30),
            },
            live: LivePolicy { tries_max: 6, delay_first: Duration::SECOND, delay_max: Duration::seconds(30) },
            timings: Timings {
                send_grace,
                call_timeout: Duration::seconds(5),
                record_grace: Duration::SECOND,
                valid_for,
            },
        }
    }
}

fn profile(rng: &mut ChaCha8Rng) -> (&'static str, Profile) {
    let full = Profile {
        broker: crate::broker_id(),
        key_accepted: true,
        key_looked_up: true,
        key_enforcement: KeyEnforcement::Always,
        valid_until: ValidUntil::Honoured { record_lag_max: Some(Duration::seconds(rng.random_range(0..10))) },
        longest_flight: Some(Duration::seconds(rng.random_range(6..30))),
        clock_skew_max: Duration::seconds(2),
        rate_limited_is_unprocessed: true,
    };
    let window = KeyEnforcement::Window(Duration::seconds(rng.random_range(60..900)));
    let mute = Profile { key_looked_up: false, ..full.clone() };
    match rng.random_range(0..8) {
        0 | 1 => ("full", full),
        2 => ("windowed", Profile { key_enforcement: window, ..full }),
        3 => ("windowed and late", Profile { key_enforcement: window, valid_until: ValidUntil::Ignored, ..full }),
        4 => ("keys without lookup", mute),
        5 => ("windowed without lookup", Profile { key_enforcement: window, valid_until: ValidUntil::Ignored, ..mute }),
        6 => ("lookup-only", Profile { key_enforcement: KeyEnforcement::Never, ..full }),
        _ => (
            "blind",
            Profile {
                key_accepted: false,
                key_looked_up: false,
                key_enforcement: KeyEnforcement::Never,
                valid_until: ValidUntil::Ignored,
                ..full
            },
        ),
    }
}
