//! The order server's database and lock server in memory, behind the traits that the production workers
//! use. A task's calls wait until a scheduler takes them: between any two of them anything may happen.
//!
//! It does what the real one does at read committed: a row lock is held until the end of its transaction,
//! locked rows are skipped or waited for as the call says, nothing of a transaction is seen before its commit.

mod db;
mod op;
mod port;
mod write;

pub use db::{Db, Guard, Positions};
pub use op::{Op, Reply, TxId, TxOp};
pub use port::{Market, Port, PortLocks, PortStore, PortTx};
