//! The fill receiver: persists broker events before it acknowledges them.
//!
//! It reads a broker's event stream, and in one transaction stores the bytes as they came, mints our
//! event from what they say, appends it to the event log, and moves the stream's cursor. Only then
//! is anything passed on. Everything may come twice; the identity of an execution decides what is
//! new. Nothing here waits for the order server, the gateway or Redis.

pub mod adapters;
pub mod application;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod service;
