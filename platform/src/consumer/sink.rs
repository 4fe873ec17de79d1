//! What a process does with the events that it consumes.

use super::slice::Slice;
use crate::eventlog::Position;
use contracts::Partition;
use contracts::event::Producer;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceOutcome {
    /// It took effect up to here (which may be before its end), in one transaction with the
    /// applied position.
    Applied(Position),
    /// Nothing took effect: another copy holds the position or has moved it.
    Moved,
}

/// An infrastructure error: the slice is offered again, for ever, with a delay.
///
/// Events that cannot be understood are not errors here: they go to the deferred table and the
/// slice counts as applied.
pub struct SinkError(Box<dyn Error + Send + Sync>);

impl SinkError {
    /// Wraps what went wrong.
    #[must_use]
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

impl fmt::Debug for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events could not be applied")
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}

/// Takes events into a process's own database.
pub trait Sink: Send + Sync + 'static {
    /// How far each partition of a producer's log has taken effect here.
    fn positions(
        &self,
        producer: Producer,
    ) -> impl Future<Output = Result<BTreeMap<Partition, Position>, SinkError>> + Send;

    /// Lets a slice take effect, in a transaction that starts by claiming the applied position and
    /// ends by advancing it. Slices of different partitions run at the same time; of one partition
    /// one after another. Must be bounded in time (statement and lock timeouts).
    fn apply(&self, slice: Slice) -> impl Future<Output = Result<SliceOutcome, SinkError>> + Send;
}
