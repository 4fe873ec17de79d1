//! Reads another process's log and lets each event take effect here exactly once, in order.
//!
//! One task a producer, over all partitions. The bus (Redis Streams) is read from the applied
//! position; whatever it does not bring (a gap, silence, a dead server) comes from the producer's
//! feed, which is the truth. The position moves in the transaction of the effect, so a crash or a
//! second copy can neither skip nor double an event.
//!
//! A history that does not fit (an event that names another predecessor, or a feed that ends before
//! our position) stops that partition until a person has looked: a producer that lost the tail of
//! its log re-uses sequence numbers, and skipping on would swallow new events as old ones. The bus
//! alone never stops anything, since it may hold old copies; the feed is asked first. For the same
//! reason the very first event of a partition comes from the feed: nothing of ours vouches for it.

mod bus_reader;
mod config;
mod job;
mod mode;
mod partitions;
mod sink;
mod slice;
mod status;
pub mod tracker;
mod worker;

pub use config::ConsumerConfig;
pub use mode::Mode;
pub use sink::{Sink, SinkError, SliceOutcome};
pub use slice::{Slice, SliceError};
pub use status::{ConsumerSnapshot, ConsumerStatus, PartitionStatus};

use crate::config::RedisConfig;
use crate::feed::FeedClient;
use crate::lease::Leases;
use crate::link::LinkError;
use bus_reader::BusReader;
use contracts::event::Producer;
use job::JobContext;
use std::sync::Arc;
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use worker::Worker;

/// Why a consumer cannot start.
#[derive(Debug, Error)]
pub enum ConsumerError {
    /// The Redis URL cannot be read.
    #[error("consumer's redis is not usable")]
    Redis(#[source] LinkError),
}

/// Consumes a producer's log until `shutdown`. Slices under way are finished first.
///
/// `consumer_name` is the same for all copies of a process: the producer keeps on the bus what any
/// name has not applied yet. Of the partitions this copy reads those that `leases` prefers.
///
/// # Errors
/// [`ConsumerError`] at the start only; trouble later is retried for ever.
#[expect(clippy::too_many_arguments, reason = "the wiring of a process, called once a producer")]
pub async fn run<S: Sink>(
    consumer_name: &'static str,
    producer: Producer,
    sink: Arc<S>,
    redis: RedisConfig,
    feed: FeedClient,
    config: ConsumerConfig,
    status: ConsumerStatus,
    leases: Leases,
    shutdown: CancellationToken,
) -> Result<(), ConsumerError> {
    let bus = BusReader::new(&redis, consumer_name, producer, config.bus_batch_len_max.max(1))
        .map_err(ConsumerError::Redis)?;
    let feed_batch_len_max = config.feed_batch_len_max;
    let context = JobContext { producer, sink, feed, feed_batch_len_max, shutdown };
    Worker::new(consumer_name, config, context, bus, status, leases).run().await;
    Ok(())
}
