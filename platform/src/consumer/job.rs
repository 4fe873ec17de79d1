//! One piece of work for one partition: fetch if need be, then let it take effect.

use super::sink::{Sink, SinkError, SliceOutcome};
use super::slice::{Slice, SliceError};
use super::tracker::FeedReason;
use crate::eventlog::Position;
use crate::feed::{FeedClient, FeedError};
use contracts::Partition;
use contracts::event::Producer;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What to do for a partition.
pub(super) enum Job {
    /// Events from the bus.
    Apply(Slice),
    /// Read the feed after a place, then apply.
    Feed { after: Position, reason: FeedReason },
}

/// How it went.
pub(super) enum JobEnd {
    /// Effect up to here, by events from the bus or the feed.
    Applied { to: Position, by_bus: bool, events: i64 },
    /// Another copy holds or moved the position.
    Moved,
    /// The feed has nothing after our position.
    FeedEmpty,
    /// The log is not the one that was applied.
    HistoryFault(String),
    /// The feed gave no usable answer.
    FeedFailed(FeedTrouble),
    /// The sink could not apply.
    SinkFailed(SinkError),
    /// A defect in the sink.
    Panicked,
    /// The process is ending.
    Abandoned,
}

/// Why the feed's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedTrouble {
    #[error(transparent)]
    Request(#[from] FeedError),
    #[error("feed answer does not follow the place that was asked for")]
    Disorder(#[source] SliceError),
}

/// What every job needs.
pub(super) struct JobContext<S> {
    pub(super) producer: Producer,
    pub(super) sink: Arc<S>,
    pub(super) feed: FeedClient,
    pub(super) feed_batch_len_max: u32,
    pub(super) shutdown: CancellationToken,
}

impl<S> Clone for JobContext<S> {
    fn clone(&self) -> Self {
        Self {
            producer: self.producer,
            sink: Arc::clone(&self.sink),
            feed: self.feed.clone(),
            feed_batch_len_max: self.feed_batch_len_max,
            shutdown: self.shutdown.clone(),
        }
    }
}

impl<S: Sink> JobContext<S> {
    pub(super) async fn run(self, partition: Partition, job: Job) -> JobEnd {
        match job {
            Job::Apply(slice) => self.apply(slice, true).await,
            Job::Feed { after, reason } => {
                metrics::counter!(
                    "consumer_feed_reads_total",
                    "producer" => self.producer.as_str(),
                    "reason" => reason.as_str()
                )
                .increment(1);
                let read = tokio::select! {
                    read = self.feed.read(partition, after.seq, self.feed_batch_len_max) => read,
                    () = self.shutdown.cancelled() => return JobEnd::Abandoned,
                };
                let events = match read {
                    Ok(events) => events,
                    Err(error @ FeedError::Unservable { .. }) => return JobEnd::HistoryFault(error.to_string()),
                    Err(error) => return JobEnd::FeedFailed(error.into()),
                };
                match Slice::new(self.producer, partition, after, events) {
                    Ok(slice) => self.apply(slice, false).await,
                    Err(SliceError::Empty) => JobEnd::FeedEmpty,
                    Err(error @ SliceError::HistoryMismatch { .. }) => JobEnd::HistoryFault(error.to_string()),
                    Err(error @ (SliceError::Gap { .. } | SliceError::OtherLog { .. })) => {
                        JobEnd::FeedFailed(FeedTrouble::Disorder(error))
                    }
                }
            }
        }
    }

    async fn apply(&self, slice: Slice, by_bus: bool) -> JobEnd {
        let from = slice.after;
        match self.sink.apply(slice).await {
            Ok(SliceOutcome::Applied(to)) => JobEnd::Applied { to, by_bus, events: to.seq - from.seq },
            Ok(SliceOutcome::Moved) => JobEnd::Moved,
            Err(error) => JobEnd::SinkFailed(error),
        }
    }
}
