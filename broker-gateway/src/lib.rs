//! The broker gateway: takes orders from the order server's log, calls the broker, and tells what
//! came of it. It never loses an order, never sends one twice, and never calls an outcome known
//! that is not.
//!
//! Every call is a row before it is bytes ([`domain::attempt`]); every end of a call is one of the
//! classes of [`domain::outcome`]; what may be done next is one pure function,
//! [`domain::retry::next_action`].

pub mod adapters;
pub mod application;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod service;
