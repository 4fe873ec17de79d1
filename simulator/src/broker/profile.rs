//! What a broker promises its clients, in the four forms that brokers come in.

use serde::{Deserialize, Serialize};

/// Which promises a broker makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Profile {
    /// Keys are enforced for ever and looked up, executions have ids, the stream can be replayed.
    #[default]
    Full,
    /// As full, but a key is enforced for a while only; then the same key is a new order.
    Windowed,
    /// Finds an order by its key, but does not refuse a second one under it.
    LookupOnly,
    /// Takes no key, finds nothing by it, gives executions no id but shows what is filled of an order
    /// in all, does not replay its stream, and does not look at `valid_until`.
    Blind,
}

/// Whether a used key is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyEnforcement {
    /// For ever.
    #[default]
    Always,
    /// For `key_window_ms` after its first use.
    Window,
    /// Never.
    Never,
}
