//! The gateway against real PostgreSQL and Redis, and a broker that misbehaves on command.

mod broker;
mod cancels;
mod claims;
mod doubt;
mod harness;
mod intake;
mod service;
mod settlement;
mod wire;
