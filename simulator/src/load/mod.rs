//! Load on the order API, and the benchmark that is made of it.
//!
//! The generator shares the machine with what it measures, so it is lean: one thread for all connections, requests
//! that are written in one piece, and answers of which only the id is read.

mod account;
pub mod bench;
mod connection;
mod cpu;
mod figures;
pub mod generator;
mod order;
mod pgbench;
mod phase;
mod proof;
mod statements;

pub use account::open_accounts;
pub use order::OrderBook;

use std::time::Duration;

/// Why a load or a benchmark could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A part of the stack.
    #[error(transparent)]
    Stack(#[from] crate::stack::StackError),
    /// A connection to the order API could not be opened.
    #[error("connecting to the order API at {address} failed")]
    Connect {
        /// Where.
        address: String,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// An order could not be written down as a request.
    #[error("the address {0} is no plain HTTP address")]
    Address(String),
    /// The histogram of latencies.
    #[error("latencies could not be recorded")]
    Histogram(#[from] hdrhistogram::CreationError),
    /// The thread of the generator failed.
    #[error("the thread of the generator ended early")]
    Thread,
    /// Its event loop could not be made.
    #[error("the generator's event loop could not be made")]
    Runtime(#[source] std::io::Error),
    /// pgbench did not do its work.
    #[error("pgbench: {0}")]
    Pgbench(String),
    /// A statement on a database of the stack.
    #[error("{what} failed")]
    Database {
        /// What was tried.
        what: &'static str,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// Orders that should fill did not.
    #[error("not all orders were filled: no progress for {} s", .0.as_secs())]
    NotFilled(Duration),
    /// Not what a benchmark can be made of.
    #[error("{0}")]
    Settings(String),
}
