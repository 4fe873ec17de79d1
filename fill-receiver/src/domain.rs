//! The rules of receiving, without any I/O, clock or randomness.
//!
//! - [`frame`]: bytes of an event stream into frames and comments, within limits;
//! - [`comment`]: what the broker says in comment lines (heartbeat, lost messages, its own failure);
//! - [`identity`]: which execution or state an event is about, and our event id from that alone;
//! - [`reading`]: a frame's JSON into a [`contracts::event::BrokerEvent`], or why that cannot be;
//! - [`binding`]: which order of ours a broker's order is, settled once;
//! - [`cumulative`]: fills of a broker that shows only what is filled of an order in all;
//! - [`polled`]: an order that the broker shows when it is asked, as a frame;
//! - [`cursor`]: where to resume, and how far the cursor may move;
//! - [`intake`]: which frames go into one batch, and which must not be stored;
//! - [`signature`], [`push`]: whether a push is the broker's, and its body into frames;
//! - [`seen`]: frames that were committed a moment ago, to save work.

pub mod binding;
pub mod comment;
pub mod cumulative;
pub mod cursor;
pub mod frame;
pub mod identity;
pub mod intake;
pub mod polled;
pub mod push;
pub mod reading;
pub mod seen;
pub mod signature;
