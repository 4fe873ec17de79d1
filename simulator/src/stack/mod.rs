//! The local stack: every process of the system on this machine, as separate operating system processes.
//!
//! A stack owns private PostgreSQL and Redis servers (or uses given ones), the simulated broker and the three engine
//! processes. It restarts nothing by itself, so that what a process leaves behind when it dies can be looked at; it is
//! the base of `make stack`, of the demo and of the drills.

mod child;
pub mod control;
mod env_file;
mod error;
mod layout;
mod name;
mod operator;
mod ports;
mod postgres;
mod running;
mod servers;
mod services;
mod supervisor;
mod surroundings;

pub use child::ChildSpec;
pub use env_file::EnvFile;
pub use error::StackError;
pub use layout::{Layout, RunLock};
pub use name::{COPIES_MAX, ProcessName};
pub(crate) use operator::describe as describe_error;
pub use operator::{ApiKey, NewAccount, Operator};
pub use ports::ReservedPort;
pub use postgres::{ensure_database, find_server};
pub use running::{Stack, StackOptions, http_client};
pub use servers::{DatabaseUrls, GivenServers, Servers};
pub use services::{Addresses, MarketHours, Secrets};
pub use supervisor::{Announcer, OnChange, ProcessState, Snapshot, Supervisor};
pub use surroundings::{Variables, with_pace, with_profile};

/// A random secret of more than 240 bits, in hexadecimal digits.
fn secret() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}
