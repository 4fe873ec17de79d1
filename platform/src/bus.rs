//! The bus: copies of the event log in Redis Streams, so that consumers need not poll.
//!
//! It only carries. What is dropped here (a full queue, a dead server) is missing on the stream and
//! nowhere else: consumers notice the gap, or that the announced heads are ahead, and read the feed.

mod announcer;
mod config;
mod publisher;

pub use config::BusConfig;
pub use publisher::Publisher;
