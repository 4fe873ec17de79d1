//! The pure part: what an outcome means, what a request's attempts add up to, what may be done next,
//! and how fast the lane may go. No I/O, no clock, no randomness: time and jitter are arguments.

pub mod attempt;
pub mod history;
pub mod lane;
pub mod live;
pub mod order;
pub mod outcome;
pub mod profile;
pub mod retry;
pub mod standing;
pub mod state;

#[cfg(test)]
mod broker_model;
#[cfg(test)]
mod retry_properties;
