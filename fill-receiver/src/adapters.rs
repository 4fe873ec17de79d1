//! The outside: the broker's stream, the database, the operator's port.

pub mod db;
pub mod http;
pub mod sse;
