//! What the engine decides, tried in every way: exhaustive models of its protocols and a seeded
//! simulation of whole stories. Both call the production functions themselves; what is modelled is
//! the world around them: brokers, networks, databases, clocks, and processes that die.

pub mod check;
pub mod contest;
pub mod memory;
pub mod race;
pub mod retry;
pub mod story;
pub mod takeover;
pub mod tasks;
pub mod world;

/// The broker of every model.
#[must_use]
#[expect(clippy::expect_used, reason = "the name is one")]
pub fn broker_id() -> contracts::BrokerId {
    contracts::BrokerId::new("sim").expect("a valid name")
}
