//! The fill receiver against a real PostgreSQL and a broker that fails on command.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test by panicking"
)]

mod audit;
mod broker;
mod bus;
mod copies;
mod cumulative;
mod harness;
mod holes;
mod identity;
mod invariants;
mod kills;
mod metrics;
mod operators;
mod outage;
mod poison;
mod poll;
mod push;
mod replay;
mod secrets;
mod wire;
