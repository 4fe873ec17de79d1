//! The sections of the receiver's configuration.

use crate::application::database::Looks;
use crate::domain::identity::ExecutionScope;
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

/// The broker.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerSettings {
    /// Its name.
    pub id: String,
    /// Base URL.
    pub base_url: String,
    /// Key of basic authentication.
    pub key_id: String,
    /// Secret of basic authentication.
    pub secret_key: Secret,
    /// Our account there, to ask for orders in.
    pub account_id: String,
    /// Within what its execution ids are unique.
    pub execution_scope: ExecutionScope,
    /// Whether its events tell executions.
    pub executions: ExecutionsWord,
    /// Decimals of its average prices.
    pub average_decimals: u32,
    /// Decimals of its finest fill.
    pub quantity_decimals: u32,
    /// How far back it replays; 0 where it does not say.
    pub replay_window_ms: u64,
}

/// Whether a broker's events tell executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionsWord {
    /// Each with an id.
    Single,
    /// Only what is filled of an order in all.
    Cumulative,
}

/// Asking for orders.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml and at the structures they become")]
pub struct PollSettings {
    pub interval_ms: u64,
    pub path: String,
    pub page_len: u32,
    pub pages_max: u32,
    pub singles_max: u32,
}

/// The stream.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml and at the structures they become")]
pub struct StreamSettings {
    pub name: String,
    pub path: String,
    pub first_since: String,
    pub connect_timeout_ms: u64,
    pub answer_timeout_ms: u64,
    pub silence_deadline_ms: u64,
    pub overlap_ms: u64,
    pub cursor_lead_max_ms: u64,
    pub alive_interval_ms: u64,
    pub reconnect_delay_initial_ms: u64,
    pub reconnect_delay_max_ms: u64,
    pub frame_bytes_max: usize,
    pub seen_events_max: usize,
    pub queue_events_max: usize,
    pub queue_bytes_max: usize,
    pub batch_events_max: usize,
    pub batch_interval_ms: u64,
    pub batch_bytes_max: usize,
}

/// The broker's pushes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml and at the structures they become")]
pub struct PushSettings {
    pub addr: String,
    pub keys: Vec<PushKeySettings>,
    pub window_ms: u64,
    pub nonce_retention_ms: u64,
    pub prune_interval_ms: u64,
    pub body_bytes_max: usize,
    pub events_max: usize,
    pub body_timeout_ms: u64,
    pub connections_max: usize,
    pub in_flight_max: usize,
    pub deadline_ms: u64,
    pub retry_after_s: u32,
}

/// One of the broker's keys.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PushKeySettings {
    /// Its name.
    pub id: String,
    /// Its secret.
    pub secret: Secret,
    /// Not valid before, as RFC 3339; empty for no limit.
    #[serde(default)]
    pub not_before: String,
    /// Not valid from then on, as RFC 3339; empty for no limit.
    #[serde(default)]
    pub not_after: String,
}

/// Calls of the database.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Longest call.
    pub call_timeout_ms: u64,
}

/// Which copy reads.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSettings {
    /// How long a lease lasts.
    pub duration_ms: u64,
    /// Time between two renewals.
    pub renewal_ms: u64,
}

/// Counting.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WatchSettings {
    /// Time between two counts.
    pub count_interval_ms: u64,
    /// Time between two looks at the database.
    pub database_interval_ms: u64,
    /// Longest look at the database.
    pub database_timeout_ms: u64,
    /// How long the stream may be away before health calls it late.
    pub stream_late_ms: u64,
    /// Time between two looks at the invariants; 0 for none.
    pub invariant_interval_ms: u64,
    /// Most subjects of a look.
    pub invariant_len_max: u32,
    /// Longest look.
    pub invariant_timeout_ms: u64,
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

impl WatchSettings {
    /// How the database is watched.
    #[must_use]
    pub const fn looks(&self) -> Looks {
        Looks { interval_ms: self.database_interval_ms, timeout_ms: self.database_timeout_ms }
    }

    /// How the invariants are looked at; none where they are not.
    #[must_use]
    pub const fn pace(&self) -> Option<Pace> {
        Pace::new(self.invariant_interval_ms, self.invariant_timeout_ms, self.invariant_len_max)
    }
}
