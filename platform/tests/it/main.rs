//! The event bus, feed, consumer and account lock against real PostgreSQL and Redis.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper that fails has failed its test")]

mod bus;
mod consumer;
mod database_start;
mod feed;
mod history;
mod lease;
mod lock;
mod metrics;
mod outage;
mod planner;
mod slow_wire;
mod trace;
mod warm;
mod world;
