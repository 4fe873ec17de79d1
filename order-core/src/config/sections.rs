//! The sections that have no rules of their own.

use super::rate::Bps;
use contracts::calendar::{self, MarketHours};
use platform::invariants::Pace;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Listeners.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct HttpSettings {
    pub api_addr: SocketAddr,
    pub ops_addr: SocketAddr,
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub header_timeout_ms: u64,
    pub write_stall_max_ms: u64,
    pub body_len_max: usize,
    pub drained_len_max: usize,
    pub body_timeout_ms: u64,
    pub drain_timeout_ms: u64,
}

/// How often each client may ask.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct LimitSettings {
    pub requests_per_minute: u32,
    pub requests_burst: u32,
    pub auth_failures_per_minute: u32,
    pub auth_failures_burst: u32,
}

/// The shard workers.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct WorkerSettings {
    pub shards: i16,
    pub batch_len_max: usize,
    pub queue_len_max: usize,
    pub command_deadline_ms: u64,
    pub tick_ms: u64,
    pub busy_pause_ms: u64,
    pub gather_ms: u64,
    pub facts_interval_ms: u64,
    pub losses_max: u32,
    pub busy_wait_max_ms: u64,
    pub tries_max: u32,
    pub retry_pause_ms: u64,
    pub retry_max_ms: u64,
}

/// The market.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct MarketSettings {
    pub hours: MarketHours,
    pub pace: calendar::Pace,
}

/// What we charge.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ChargeSettings {
    pub commission_bps: Bps,
    pub collar_bps: Bps,
}

/// Assets and prices.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ReferenceSettings {
    pub poll_ms: u64,
    pub age_max_ms: u64,
}

/// The other processes.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct PeerSettings {
    pub gateway_url: String,
    pub receiver_url: String,
}

/// Looking after ourselves.
#[derive(Debug, Clone, Copy, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct WatchSettings {
    pub ping_interval_ms: u64,
    pub ping_timeout_ms: u64,
    pub count_interval_ms: u64,
    pub invariant_interval_ms: u64,
    pub invariant_len_max: u32,
    pub invariant_timeout_ms: u64,
    pub audit_interval_ms: u64,
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
#[expect(missing_docs, reason = "explained in config.default.toml")]
pub struct ShutdownSettings {
    pub drain_delay_ms: u64,
    pub deadline_ms: u64,
}
