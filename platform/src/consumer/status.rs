//! What a consumer says about itself, for health and for tests.

use super::mode::Mode;
use contracts::Partition;
use contracts::event::Producer;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One partition of a consumed log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    /// Whether this copy reads it; another copy's figures here are old.
    pub ours: bool,
    /// How far it has taken effect here.
    pub applied: i64,
    /// The newest event that is known to exist.
    pub head: i64,
    /// Why the partition stands still for ever, if it does. Only a person ends this.
    pub stopped: Option<String>,
}

/// A consumer at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ConsumerSnapshot {
    /// Whose log it reads.
    pub producer: Producer,
    /// Where it reads.
    pub mode: Mode,
    /// Whether the applied positions have been read since the start.
    pub started: bool,
    /// Events that are known to exist and have not taken effect, of the partitions that this copy reads.
    pub lag_events: i64,
    /// Whether the feed answered the last time that it was asked.
    pub feed_reachable: bool,
    /// The last trouble, as a sentence.
    pub last_error: Option<String>,
    /// Every partition.
    pub partitions: BTreeMap<Partition, PartitionStatus>,
}

impl ConsumerSnapshot {
    /// Whether a history mismatch has stopped any partition.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.partitions.values().any(|partition| partition.stopped.is_some())
    }
}

/// A shared view of a running consumer.
#[derive(Debug, Clone)]
pub struct ConsumerStatus(Arc<Mutex<ConsumerSnapshot>>);

impl ConsumerStatus {
    /// The status of a consumer that has not started.
    #[must_use]
    pub fn new(producer: Producer) -> Self {
        Self(Arc::new(Mutex::new(ConsumerSnapshot {
            producer,
            mode: Mode::Bus,
            started: false,
            lag_events: 0,
            feed_reachable: true,
            last_error: None,
            partitions: Partition::all().map(|p| (p, PartitionStatus::default())).collect(),
        })))
    }

    /// The consumer now.
    #[must_use]
    pub fn snapshot(&self) -> ConsumerSnapshot {
        self.lock().clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut ConsumerSnapshot)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, ConsumerSnapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
