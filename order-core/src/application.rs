//! Use cases: what the API, the operators and the other processes may ask, and the shard workers
//! that decide it. Stores, locks and the bus come in as traits.

#[cfg(test)]
mod told;

pub mod audit;
pub mod batch;
pub mod books;
pub mod bounded;
pub mod command;
pub mod explain;
pub mod facts;
pub mod hub;
pub mod operator;
pub mod parked;
pub mod query;
pub mod queue;
pub mod reference;
pub mod shard;
pub mod store;
pub mod timeline;
pub mod updates;
