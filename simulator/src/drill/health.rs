//! What the processes of a stack say about themselves, as far as drills look at it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use crate::stack::{ProcessName, describe_error};

const LOOK_PAUSE: Duration = Duration::from_millis(20);
const LOOK_LIMIT: Duration = Duration::from_secs(2);

/// A process's own report.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// The logs that it reads.
    #[serde(default)]
    pub consumers: Vec<Consumer>,
    /// The broker's stream, at the fill receiver.
    pub stream_status: Option<Stream>,
}

/// A log that is read.
#[derive(Clone, Debug, Deserialize)]
pub struct Consumer {
    /// `bus` or `polling`.
    pub mode: String,
    /// Events that are known and have not taken effect.
    pub lag_events: i64,
    /// Each partition.
    pub partitions: BTreeMap<String, Partition>,
}

/// A partition of a log.
#[derive(Clone, Debug, Deserialize)]
pub struct Partition {
    /// Whether this copy reads it.
    pub ours: bool,
}

/// The broker's stream.
#[derive(Clone, Debug, Deserialize)]
pub struct Stream {
    /// `connected` while it is read.
    pub state: String,
}

impl Report {
    /// Whether it reads all partitions of all its logs, or the broker's stream.
    #[must_use]
    pub fn does_everything(&self) -> bool {
        let reads = |consumer: &Consumer| consumer.partitions.values().all(|partition| partition.ours);
        self.stream_status.as_ref().is_none_or(|stream| stream.state == "connected") && self.consumers.iter().all(reads)
    }

    /// Whether there is anything that only one copy does.
    #[must_use]
    pub fn does_anything(&self) -> bool {
        let reads = |consumer: &Consumer| consumer.partitions.values().any(|partition| partition.ours);
        self.stream_status.as_ref().is_some_and(|stream| stream.state == "connected")
            || self.consumers.iter().any(reads)
    }

    /// Whether all logs are read that way.
    #[must_use]
    pub fn reads_by(&self, mode: &str) -> bool {
        self.consumers.iter().all(|consumer| consumer.mode == mode)
    }

    /// Events that are known and have not taken effect, of all logs.
    #[must_use]
    pub fn lag_events(&self) -> i64 {
        self.consumers.iter().map(|consumer| consumer.lag_events).sum()
    }
}

/// What a process says about itself now.
///
/// # Errors
/// When it does not answer, for people.
pub async fn report(exercise: &Exercise, name: ProcessName) -> Result<Report, String> {
    let copies = exercise.stack.copies();
    let addresses = copies.get(usize::from(name.copy()).saturating_sub(1)).ok_or("there is no such copy")?;
    let base = match name.first() {
        ProcessName::OrderServer => &addresses.ops,
        ProcessName::BrokerGateway => &addresses.gateway_ops,
        ProcessName::FillReceiver => &addresses.receiver_ops,
        other => return Err(format!("{other} makes no report")),
    };
    let request = exercise.stack.http().get(format!("{base}/ops/v1/health")).timeout(LOOK_LIMIT);
    let answer = request.send().await.map_err(|error| describe_error(&error))?;
    answer.json().await.map_err(|error| describe_error(&error))
}

/// How long it takes from `since` until each of the processes reports what is wanted; none when that is not before
/// the limit.
pub async fn time_until(
    exercise: &Exercise,
    names: &[ProcessName],
    since: Instant,
    limit: Duration,
    wanted: impl Fn(&Report) -> bool,
) -> Option<Duration> {
    let until = since + limit;
    for name in names {
        loop {
            if report(exercise, *name).await.is_ok_and(|report| wanted(&report)) {
                break;
            }
            if Instant::now() >= until {
                return None;
            }
            sleep(LOOK_PAUSE).await;
        }
    }
    Some(since.elapsed())
}
