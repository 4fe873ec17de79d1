//! The outside: the broker's stream and pushes, the database, the operator's port.

pub mod db;
pub mod http;
pub mod orders;
pub mod push;
mod refusal;
pub mod sse;
