//! A broker that fails in every real way, the local stack, drills and load

pub mod drill;
pub mod load;
pub mod mutants;
pub mod stack;

pub mod broker;
