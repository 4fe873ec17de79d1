//! What the receiver does, in terms of a store and an event source.
//!
//! - [`receiver`]: the life of one stream: lease, connect, read until something is wrong, again;
//! - [`audit`]: read the stream a second time, since it can look alive and still lose an event;
//! - [`poll`]: ask a broker without replay for its orders, which show what its stream missed;
//! - [`session`]: the life of one connection: a reader and a writer with a bounded queue between;
//! - [`connect`]: where to resume, and what to do when the broker no longer replays that far;
//! - [`operations`]: what operators ask and order;
//! - [`push`]: what the broker sends us by itself;
//! - [`ports`], [`records`]: what is needed from the outside, and what is shown of it;
//! - [`database`]: whether the database answers;
//! - [`status`]: what is known about the stream right now.

pub mod audit;
pub mod connect;
pub mod database;
pub mod operations;
pub mod poll;
pub mod ports;
pub mod push;
pub mod receiver;
pub mod records;
pub mod session;
pub mod status;
