//! The sections, as they are written. Every field is explained in `config.default.toml`.

use platform::config::Secret;
use platform::invariants::Pace;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Listener.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Operator's port.
    pub ops_addr: SocketAddr,
}

/// Taking others' logs in.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntakeSettings {
    /// Most slices at once.
    pub slices_max: u32,
    /// How far apart transactions of orders begin under load.
    pub orders_interval_ms: u64,
    /// The same of evidence.
    pub evidence_interval_ms: u64,
    /// Between two looks for waiting events.
    pub redrive_interval_ms: u64,
}

/// Where other processes' operator ports are.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// The order server.
    pub order_server_url: String,
    /// The fill receiver.
    pub receiver_url: String,
}

/// The broker.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct BrokerSettings {
    pub id: String,
    pub base_url: String,
    pub key_id: Secret,
    pub secret_key: Secret,
    pub account_id: String,
    pub connect_timeout_ms: u64,
    pub call_timeout_ms: u64,
    pub idle_timeout_ms: u64,
    pub body_len_max: usize,
}

/// How a used key is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EnforcementWord {
    /// Not at all.
    Never,
    /// For `key_window_ms`.
    Window,
    /// For ever.
    Always,
}

/// What the broker promises.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ProfileSettings {
    pub key_accepted: bool,
    pub key_looked_up: bool,
    pub key_enforcement: EnforcementWord,
    pub key_window_ms: i64,
    pub honours_valid_until: bool,
    pub record_lag_max_ms: i64,
    pub longest_flight_ms: i64,
    pub clock_skew_max_ms: i64,
    pub rate_limited_is_unprocessed: bool,
}

/// Patience with orders that the broker is not known to have.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct RetrySettings {
    pub minute_ms: i64,
    pub ladder_minutes: Vec<i64>,
    pub valid_for_minutes: i64,
    pub doubt_max_minutes: i64,
    pub lookup_delay_first_ms: i64,
    pub unsent_delay_first_ms: i64,
    pub unsent_delay_max_ms: i64,
    pub send_grace_ms: i64,
    pub record_grace_ms: i64,
    pub review_hold_max_ms: i64,
}

/// Patience with calls on orders that the broker has.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct LiveSettings {
    pub tries_max: i32,
    pub delay_first_ms: i64,
    pub delay_max_ms: i64,
}

/// Rate, concurrency, batches.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct LaneSettings {
    pub rate_per_s: u32,
    pub burst: u32,
    pub rate_per_s_max: u32,
    pub concurrency_max: u32,
    pub claim_len_max: u32,
    pub record_len_max: usize,
    pub record_queue_len_max: usize,
    pub rate_interval_ms: u64,
    pub poll_interval_ms: u64,
    pub claim_interval_ms: u64,
    pub record_interval_ms: u64,
    pub unreachable_pause_first_ms: u64,
    pub pause_max_ms: u64,
    pub rate_limited_pause_ms: u64,
    pub error_delay_ms: u64,
    pub record_give_up_ms: u64,
}

/// Assets and prices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ReferenceSettings {
    pub prices_interval_ms: u64,
    pub assets_interval_ms: u64,
    pub body_len_max: usize,
}

/// Counting.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// Time between two counts.
    pub count_interval_ms: u64,
    /// Longest wait for the answer.
    pub count_timeout_ms: u64,
    /// Time between two looks at the invariants; 0 for none.
    pub invariant_interval_ms: u64,
    /// Most subjects of a look.
    pub invariant_len_max: u32,
    /// Longest look.
    pub invariant_timeout_ms: u64,
}

impl WatchSettings {
    /// How the invariants are looked at; none where they are not.
    #[must_use]
    pub const fn pace(&self) -> Option<Pace> {
        Pace::new(self.invariant_interval_ms, self.invariant_timeout_ms, self.invariant_len_max)
    }
}

/// The end.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ShutdownSettings {
    /// Delay before anything ends.
    pub drain_delay_ms: u64,
    /// Longest wait.
    pub deadline_ms: u64,
}
