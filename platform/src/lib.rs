//! The chassis that every process of the order router starts from: configuration, telemetry, the
//! database with its migration check, the event log with its bus and feed, the account lock,
//! health and shutdown.

pub mod applied;
pub mod clock;
pub mod config;
pub mod db;
pub mod eventlog;
pub mod http;
pub mod reconnect;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
