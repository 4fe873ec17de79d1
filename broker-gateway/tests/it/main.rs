//! The gateway against real PostgreSQL and Redis, and a broker that misbehaves on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test by panicking"
)]

mod broker;
mod cancels;
mod claims;
mod doubt;
mod harness;
mod intake;
mod invariants;
mod meeting;
mod metrics;
mod redrive;
mod reviews;
mod secrets;
mod service;
mod settlement;
mod straight;
mod wire;
