//! What an order, an account and a movement of money are, and what may happen to them. Pure: no
//! I/O, no clock, no randomness; the time and every id come in as arguments.

pub mod account;
pub mod asset;
pub mod execution;
pub mod facts;
pub mod hold;
pub mod journal;
pub mod order;
pub mod place;
pub mod refusal;
pub mod reply;
pub mod status;
pub mod update;
pub mod update_id;

#[cfg(test)]
pub(crate) mod interleaving;
