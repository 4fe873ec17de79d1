//! The chassis that every process of the order router starts from: configuration, telemetry, the
//! database with its migration check, the event log with its bus and feed, the account lock,
//! health and shutdown.

pub mod address;
mod allocator;
pub mod applied;
pub mod breaker;
pub mod bus;
pub mod clock;
pub mod config;
pub mod consumer;
pub mod db;
pub mod eventlog;
pub mod feed;
pub mod http;
pub mod invariants;
pub mod keys;
pub mod lease;
pub mod link;
pub mod lock;
pub mod operators;
pub mod pace;
pub mod process;
pub mod rate;
pub mod reconnect;
pub mod shutdown;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod trace;
pub mod warm;
