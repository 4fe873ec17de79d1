//! A broker that can fail in every way a real one does.
//!
//! It speaks the Alpaca Broker dialect from the broker's side: orders, lookup by client order id,
//! cancel, assets, last trades, and a trade-event stream with a cursor. Inside, one deterministic
//! [`exchange::Exchange`] (no clock, no sockets: the time is handed in) keeps the book; around it,
//! an HTTP server carries out what a fault asks of the connection.
//!
//! Invariants:
//! - one seed gives one story: every choice is drawn from the seed and the order's key, never from
//!   the time or from what other orders do;
//! - a client order id is taken for ever, also across a restart with a state file;
//! - what was answered or streamed is in the state file first;
//! - the oracle tells the truth even where a fault lies to the client.

pub mod bars;
pub mod config;
mod dice;
mod event_log;
pub mod exchange;
mod fact;
pub mod fault;
mod http;
mod journal;
pub mod maintenance;
mod matching;
pub mod metrics;
mod oracle;
mod order;
mod price;
pub mod profile;
pub mod push;
mod reply;
mod schedule;
mod server;
pub mod settings;
mod shared;
mod split;
pub mod universe;

pub use journal::JournalError;
pub use server::{RunningBroker, StartError, start, start_beside};
pub use settings::{ExtraBroker, Settings, report};
