//! What an operator may change while the broker runs.

use std::collections::{BTreeMap, BTreeSet};

use contracts::alpaca::number;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::fault::{Call, FaultKind, Stage};
use super::maintenance::DailySpan;
use super::profile::{KeyEnforcement, Profile};

/// Longest delay that can be asked for, in milliseconds.
const DELAY_MAX_MS: u64 = 600_000;
/// Longest window or lifetime, in milliseconds.
const SPAN_MAX_MS: u64 = 86_400_000;

/// A probability in millionths, from 0 to 1. On the wire a decimal such as `"0.05"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u32);

impl Probability {
    /// Millionths of certainty.
    pub const CERTAIN: u32 = 1_000_000;

    /// From millionths; more than certain is certain.
    #[must_use]
    pub const fn from_millionths(millionths: u32) -> Self {
        Self(if millionths > Self::CERTAIN { Self::CERTAIN } else { millionths })
    }

    /// In millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }
}

impl Serialize for Probability {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&Decimal::new(i64::from(self.0), 6).normalize())
    }
}

impl<'de> Deserialize<'de> for Probability {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(input)?;
        let value = number::parse(raw.get().trim_matches('"')).map_err(D::Error::custom)?;
        if value.is_sign_negative() && !value.is_zero() || value > Decimal::ONE {
            return Err(D::Error::custom("a probability is between 0 and 1"));
        }
        let millionths = (value * Decimal::from(Self::CERTAIN)).round().to_u32();
        millionths.map(Self).ok_or_else(|| D::Error::custom("a probability is between 0 and 1"))
    }
}

/// Probabilities by kind of fault.
pub type Probabilities = BTreeMap<FaultKind, Probability>;

/// Everything that can be changed at run time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimConfig {
    /// Seed of everything that looks random. Changing it changes only what comes after.
    pub seed: u64,
    /// Time between steps of the price path, in milliseconds; 0 lets it stand still until an
    /// operator steps it.
    pub tick_ms: u64,
    /// How often an order is filled in two to four parts.
    pub partial_probability: Probability,
    /// Time between the parts of a market order, in milliseconds; 0 fills all parts at once.
    pub partial_gap_ms: u64,
    /// Time from the answer to a cancel until it takes effect, in milliseconds. Meanwhile the
    /// order can still fill.
    pub cancel_delay_ms: u64,
    /// Time between heartbeats of a quiet stream, in milliseconds.
    pub heartbeat_ms: u64,
    /// Events that a live stream may lag behind before it is dropped to the newest.
    pub stream_buffer_max: u64,
    /// The profile that the promises below were taken from; naming another one sets them all anew.
    pub profile: Profile,
    /// Whether it takes the client's order id; otherwise it shows one of its own.
    pub key_accepted: bool,
    /// Whether an order can be asked for by its key.
    pub key_looked_up: bool,
    /// Whether a used key is refused.
    pub key_enforcement: KeyEnforcement,
    /// With `window`: for how long after its first use, in milliseconds.
    pub key_window_ms: u64,
    /// Whether a request processed after its `valid_until` is refused.
    pub honours_valid_until: bool,
    /// Whether events show executions, with ids; otherwise only what is filled of the order in all.
    pub execution_ids: bool,
    /// Whether a stream can start in the past; otherwise it is always live.
    pub replay: bool,
    /// Requests a minute; 0 for no limit.
    pub requests_per_minute: u32,
    /// Requests a second; 0 for no limit.
    pub requests_per_second: u32,
    /// Whether only a token is taken, not the key itself.
    pub tokens_required: bool,
    /// How long a token is taken, in milliseconds; a new one ends the one before at once.
    pub token_lifetime_ms: u64,
    /// Whether orders beyond the account's cash or shares are refused.
    pub checks_funds: bool,
    /// Symbols that do not trade now. Their orders are taken, and wait.
    pub halted: BTreeSet<String>,
    /// Whether every call of a client is answered with 503.
    pub maintenance: bool,
    /// The same every day between two times of the exchange's clock.
    pub maintenance_daily: Option<DailySpan>,
    /// Shortest delay of a fault drawn by probability, in milliseconds.
    pub fault_delay_min_ms: u64,
    /// Longest delay of a fault drawn by probability, and the delay of one asked for without any.
    pub fault_delay_max_ms: u64,
    /// How long a request is held that is never answered, in milliseconds.
    pub never_answer_ms: u64,
    /// Faults of order requests, and of what becomes of the order.
    pub submit: Probabilities,
    /// Faults of cancel requests.
    pub cancel: Probabilities,
    /// Faults of replacements.
    pub replace: Probabilities,
    /// Faults of lookups.
    pub lookup: Probabilities,
    /// Faults of lists of orders.
    pub list: Probabilities,
    /// Faults of the event stream, drawn once an event.
    pub stream: Probabilities,
    /// Faults of pushes, drawn once an event; they strike the push that the event is in.
    pub push: Probabilities,
    /// Streams and replays show nothing new, only heartbeats: what happens is pushed before it is streamed.
    pub stream_stalled: bool,
}

/// Why a change of the configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It does not have the shape.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// A kind in a table where it cannot happen.
    #[error("`{kind}` cannot happen in `{table}`")]
    Misplaced {
        /// The kind.
        kind: &'static str,
        /// The table.
        table: &'static str,
    },
    /// The kinds of one table exclude each other, so their probabilities may not exceed 1.
    #[error("the request faults of `{0}` add up to more than 1")]
    Overfull(&'static str),
    /// A number outside its bounds.
    #[error("`{field}` must be between {min} and {max}")]
    OutOfBounds {
        /// The field.
        field: &'static str,
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
}

impl SimConfig {
    /// A broker without faults, with a price step ten times a second.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            tick_ms: 100,
            partial_probability: Probability::from_millionths(300_000),
            partial_gap_ms: 20,
            cancel_delay_ms: 10,
            heartbeat_ms: 2_000,
            stream_buffer_max: 10_000,
            profile: Profile::Full,
            key_accepted: true,
            key_looked_up: true,
            key_enforcement: KeyEnforcement::Always,
            key_window_ms: 600_000,
            honours_valid_until: true,
            execution_ids: true,
            replay: true,
            requests_per_minute: 0,
            requests_per_second: 0,
            tokens_required: false,
            token_lifetime_ms: 3_600_000,
            checks_funds: false,
            halted: BTreeSet::new(),
            maintenance: false,
            maintenance_daily: None,
            fault_delay_min_ms: 50,
            fault_delay_max_ms: 1_000,
            never_answer_ms: 60_000,
            submit: Probabilities::new(),
            cancel: Probabilities::new(),
            replace: Probabilities::new(),
            lookup: Probabilities::new(),
            list: Probabilities::new(),
            stream: Probabilities::new(),
            push: Probabilities::new(),
            stream_stalled: false,
        }
    }

    /// This configuration with the promises of a profile.
    #[must_use]
    pub fn with_profile(mut self, profile: Profile) -> Self {
        let blind = profile == Profile::Blind;
        self.profile = profile;
        self.key_accepted = !blind;
        self.key_looked_up = !blind;
        self.key_enforcement = match profile {
            Profile::Full => KeyEnforcement::Always,
            Profile::Windowed => KeyEnforcement::Window,
            Profile::LookupOnly | Profile::Blind => KeyEnforcement::Never,
        };
        self.honours_valid_until = !blind;
        self.execution_ids = !blind;
        self.replay = !blind;
        self
    }

    /// This configuration with the named fields of `change` replaced; tables are merged by kind. A
    /// profile comes before the other fields.
    ///
    /// # Errors
    /// [`ConfigError`] when the result is none.
    pub fn merged(&self, change: Value) -> Result<Self, ConfigError> {
        let named = change.get("profile").map(Profile::deserialize).transpose()?;
        let base = named.map(|profile| self.clone().with_profile(profile));
        let mut value = serde_json::to_value(base.as_ref().unwrap_or(self))?;
        merge(&mut value, change);
        let config: Self = serde_json::from_value(value)?;
        config.check()?;
        Ok(config)
    }

    /// The table that faults of a call are drawn from.
    #[must_use]
    pub fn table(&self, call: Call) -> &Probabilities {
        match call {
            Call::Submit => &self.submit,
            Call::Cancel => &self.cancel,
            Call::Replace => &self.replace,
            Call::Lookup => &self.lookup,
            Call::List => &self.list,
            Call::Stream => &self.stream,
            Call::Push => &self.push,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        for call in [Call::Submit, Call::Cancel, Call::Replace, Call::Lookup, Call::List, Call::Stream, Call::Push] {
            check_table(call, self.table(call))?;
        }
        let bounds = [
            ("tick_ms", self.tick_ms, 0, DELAY_MAX_MS),
            ("partial_gap_ms", self.partial_gap_ms, 0, DELAY_MAX_MS),
            ("cancel_delay_ms", self.cancel_delay_ms, 0, DELAY_MAX_MS),
            ("heartbeat_ms", self.heartbeat_ms, 10, DELAY_MAX_MS),
            ("stream_buffer_max", self.stream_buffer_max, 1, 1_000_000),
            ("fault_delay_min_ms", self.fault_delay_min_ms, 0, self.fault_delay_max_ms),
            ("fault_delay_max_ms", self.fault_delay_max_ms, 0, DELAY_MAX_MS),
            ("never_answer_ms", self.never_answer_ms, 1, DELAY_MAX_MS),
            ("key_window_ms", self.key_window_ms, 1, SPAN_MAX_MS),
            ("token_lifetime_ms", self.token_lifetime_ms, 1, SPAN_MAX_MS),
        ];
        for (field, value, min, max) in bounds {
            if value < min || value > max {
                return Err(ConfigError::OutOfBounds { field, min, max });
            }
        }
        Ok(())
    }
}

fn check_table(call: Call, table: &Probabilities) -> Result<(), ConfigError> {
    let mut sum = 0_u64;
    for (kind, probability) in table {
        if !kind.strikes(call) {
            return Err(ConfigError::Misplaced { kind: kind.as_str(), table: call.as_str() });
        }
        if kind.stage() == Stage::Request {
            sum += u64::from(probability.millionths());
        }
    }
    if sum > u64::from(Probability::CERTAIN) { Err(ConfigError::Overfull(call.as_str())) } else { Ok(()) }
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn change_replaces_only_what_it_names() {
        let config = SimConfig::new(7);
        let config = config.merged(json!({"submit": {"drop_reply": "0.05"}})).unwrap();
        let config = config.merged(json!({"submit": {"slow_reply": 0.1}, "tick_ms": 0})).unwrap();
        assert_eq!(config.seed, 7);
        assert_eq!(config.tick_ms, 0);
        assert_eq!(config.submit.get(&FaultKind::DropReply), Some(&Probability::from_millionths(50_000)));
        assert_eq!(config.submit.get(&FaultKind::SlowReply), Some(&Probability::from_millionths(100_000)));
        assert_eq!(serde_json::to_value(&config).unwrap()["submit"]["drop_reply"], "0.05");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = SimConfig::new(1);
        for bad in [
            json!({"unknown": 1}),
            json!({"submit": {"drop_reply": 1.5}}),
            json!({"submit": {"drop_reply": 0.6, "slow_reply": 0.6}}),
            json!({"submit": {"stream_reset": 0.1}}),
            json!({"lookup": {"record_late": 0.1}}),
            json!({"heartbeat_ms": 0}),
            json!({"profile": "generous"}),
            json!({"maintenance_daily": {"from": "25:00", "until": "01:00"}}),
            json!({"fault_delay_min_ms": 2000}),
            json!([]),
        ] {
            assert!(config.merged(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_profile_sets_every_promise_and_the_named_fields_come_after() {
        let config = SimConfig::new(1).merged(json!({"profile": "blind", "replay": true})).unwrap();
        assert!(!config.key_accepted && !config.key_looked_up && !config.honours_valid_until && !config.execution_ids);
        assert_eq!((config.key_enforcement, config.replay), (KeyEnforcement::Never, true));
        let config = config.merged(json!({"profile": "windowed", "key_window_ms": 5})).unwrap();
        assert!(config.key_accepted && config.execution_ids);
        assert_eq!((config.key_enforcement, config.key_window_ms), (KeyEnforcement::Window, 5));
        let later = config.merged(json!({"tick_ms": 0})).unwrap();
        assert_eq!(later.key_window_ms, 5, "a change that names no profile keeps the promises");
    }
}
