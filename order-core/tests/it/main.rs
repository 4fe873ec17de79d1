//! Integration tests of the order server against real PostgreSQL and Redis.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod api;
mod commands;
mod facts;
mod invariants;
mod lock;
mod metrics;
mod operators;
mod publishing;
mod secrets;
mod world;
mod wrap;
