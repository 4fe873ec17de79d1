//! Drills: failures made on purpose, under load, and the proof that nothing was lost or doubled.
//!
//! A drill starts a private stack, lets customers trade over the real order API, breaks something, waits until all is
//! quiet, and compares what the customers were told with what the simulated broker really did.

pub mod availability;
pub mod books;
pub mod burst;
pub mod bus;
pub mod check;
pub mod clock;
pub mod closing;
pub mod command;
pub mod copies;
pub mod cut;
pub mod demo;
pub mod disk;
pub mod exercise;
pub mod health;
pub mod kill;
pub mod load;
pub mod market;
pub mod oracle;
pub mod outage;
pub mod outcome;
pub mod persons;
pub mod push;
pub mod records;
pub mod report;
pub mod scenario;
pub mod series;
pub mod steps;
pub mod trace;
pub mod trader;
