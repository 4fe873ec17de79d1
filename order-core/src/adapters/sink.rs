//! The way of the gateway's and the receiver's events to the shard workers.

use crate::application::facts::{FactSlice, SliceResult};
use crate::application::queue::Shards;
use crate::application::store::LogPosition;
use contracts::Partition;
use contracts::event::Producer;
use platform::applied;
use platform::consumer::{Sink, SinkError, Slice, SliceOutcome};
use platform::eventlog::Position;
use sqlx::PgPool;
use std::collections::BTreeMap;
use std::time::Duration;

/// Hands slices to the worker that owns their partition.
#[derive(Clone)]
pub struct FactSink {
    shards: Shards,
    pool: PgPool,
    wait_max: Duration,
}

impl FactSink {
    /// A sink in front of the workers; the pool is for reading positions, each in `wait_max`.
    #[must_use]
    pub const fn new(shards: Shards, pool: PgPool, wait_max: Duration) -> Self {
        Self { shards, pool, wait_max }
    }
}

impl Sink for FactSink {
    async fn positions(&self, producer: Producer) -> Result<BTreeMap<Partition, Position>, SinkError> {
        let read = applied::positions(&self.pool, producer);
        let read = tokio::time::timeout(self.wait_max, read).await.map_err(SinkError::new)?;
        read.map_err(SinkError::new)
    }

    async fn apply(&self, slice: Slice) -> Result<SliceOutcome, SinkError> {
        let (producer, partition, after) = (slice.producer, slice.partition, slice.after);
        let after = LogPosition { seq: after.seq, event_id: after.event_id };
        let slice = FactSlice { producer, partition, after, events: slice.events };
        match self.shards.apply(slice).await.map_err(SinkError::new)? {
            SliceResult::Applied(to) => Ok(SliceOutcome::Applied(Position { seq: to.seq, event_id: to.event_id })),
            SliceResult::Moved => Ok(SliceOutcome::Moved),
        }
    }
}
