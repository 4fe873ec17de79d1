//! Mutants: known ways to lose or double an order or a fill, put into the engine's own source one at a time, and the
//! test that must then fail.
//!
//! The work is done in a copy of the tree. Every catcher passes there first: else its failure would prove nothing.

pub mod catcher;
pub mod copy;
pub mod list;
pub mod mutation;
pub mod report;
pub mod run;
