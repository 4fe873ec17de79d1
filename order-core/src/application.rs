//! Use cases: what the API, the operators and the other processes may ask, and the shard workers
//! that decide it. Stores, locks and the bus come in as traits.

pub mod command;
pub mod query;
