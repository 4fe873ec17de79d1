//! All partitions of one consumed log: their trackers, and which of them are at work or waiting.

use super::bus_reader::BusAnswer;
use super::config::ConsumerConfig;
use super::status::ConsumerStatus;
use super::tracker::Tracker;
use crate::eventlog::Position;
use crate::reconnect::ReconnectDelay;
use contracts::Partition;
use contracts::event::Producer;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One partition at work.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) tracker: Tracker,
    /// Whether a job is under way; one at a time.
    pub(super) busy: bool,
    /// Whether this copy is the one to read it on. Another copy's partition stands still here.
    ours: bool,
    /// Not before then, after trouble.
    retry_at: Option<Instant>,
    delay: ReconnectDelay,
    /// Since when nothing can be read or applied, or the partition is stopped.
    trouble_since: Option<Instant>,
}

impl Lane {
    fn is_idle(&self, now: Instant) -> bool {
        !self.busy && self.is_live() && self.retry_at.is_none_or(|at| at <= now)
    }

    fn is_live(&self) -> bool {
        self.ours && self.tracker.stopped().is_none()
    }

    /// Since when this copy fails at it. A stopped one stays so in whosever hands it is: this copy
    /// would not read it on if it were given back.
    fn fails_since(&self) -> Option<Instant> {
        let fails = self.tracker.stopped().is_some() || (self.ours && self.tracker.is_behind());
        self.trouble_since.filter(|_| fails)
    }
}

#[derive(Debug)]
pub(super) struct Partitions {
    consumer: &'static str,
    producer: Producer,
    lanes: BTreeMap<Partition, Lane>,
    status: ConsumerStatus,
    retry_min: Duration,
    retry_max: Duration,
    silence: Duration,
}

impl Partitions {
    pub(super) fn new(
        consumer: &'static str,
        producer: Producer,
        config: &ConsumerConfig,
        status: ConsumerStatus,
    ) -> Self {
        Self {
            consumer,
            producer,
            lanes: BTreeMap::new(),
            status,
            retry_min: Duration::from_millis(config.retry_ms_min),
            retry_max: Duration::from_millis(config.retry_ms_max),
            silence: config.silence(),
        }
    }

    /// Takes the first positions; a partition that the sink does not name is at its start.
    pub(super) fn start(&mut self, positions: &BTreeMap<Partition, Position>) {
        for partition in Partition::all() {
            let applied = positions.get(&partition).copied().unwrap_or_default();
            let tracker = Tracker::new(self.producer, partition, applied);
            let delay = ReconnectDelay::new(self.retry_min, self.retry_max);
            self.lanes.insert(
                partition,
                Lane { tracker, busy: false, ours: true, retry_at: None, delay, trouble_since: None },
            );
        }
        self.status.update(|status| status.started = true);
        for partition in Partition::all() {
            self.show(partition);
        }
        self.show_stopped();
    }

    /// Partitions that a job may start on.
    pub(super) fn idle(&mut self, now: Instant) -> impl Iterator<Item = (Partition, &mut Lane)> {
        self.lanes.iter_mut().filter(move |(_, lane)| lane.is_idle(now)).map(|(partition, lane)| (*partition, lane))
    }

    /// Where to read the bus on for partitions that a job may start on.
    pub(super) fn readable(&self, now: Instant) -> BTreeMap<Partition, Position> {
        self.positions(|lane| lane.is_idle(now))
    }

    /// Every partition of ours that is not stopped.
    pub(super) fn live(&self) -> BTreeMap<Partition, Position> {
        self.positions(Lane::is_live)
    }

    /// Takes in which partitions are ours from now on. Answers whether there are new ones: another
    /// copy has moved their positions meanwhile.
    pub(super) fn prefer(&mut self, prefers: impl Fn(Partition) -> bool, now: Instant) -> bool {
        let mut gained = false;
        let mut changed = Vec::new();
        for (partition, lane) in &mut self.lanes {
            let ours = prefers(*partition);
            if ours == lane.ours {
                continue;
            }
            lane.ours = ours;
            changed.push(*partition);
            if ours {
                gained = true;
                lane.retry_at = None;
                lane.delay.reset();
            } else {
                // What another copy reads is not behind here.
                let applied = lane.tracker.applied().seq;
                lane.tracker.saw_head(applied, now);
                if lane.tracker.stopped().is_none() {
                    lane.trouble_since = None;
                }
            }
        }
        for partition in changed {
            self.show(partition);
        }
        gained
    }

    /// Since when a partition makes no progress because something fails.
    pub(super) fn trouble_since(&self) -> Option<Instant> {
        self.lanes.values().filter_map(Lane::fails_since).min()
    }

    pub(super) fn has_any(&self) -> bool {
        self.lanes.values().any(|lane| lane.ours)
    }

    pub(super) fn none_readable(&self, now: Instant) -> bool {
        !self.lanes.values().any(|lane| lane.is_idle(now))
    }

    /// How far our partitions are, for the producer; of the others their own copies tell.
    pub(super) fn applied(&self) -> BTreeMap<Partition, i64> {
        let ours = self.lanes.iter().filter(|(_, lane)| lane.ours);
        ours.map(|(partition, lane)| (*partition, lane.tracker.applied().seq)).collect()
    }

    /// Whether a partition has been silent for so long that the feed must be read now.
    pub(super) fn any_due_for_feed(&self, now: Instant) -> bool {
        self.lanes
            .values()
            .any(|lane| lane.is_idle(now) && lane.tracker.silent_at(self.silence).is_some_and(|at| at <= now))
    }

    /// When the next partition that waits after trouble may go on.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Instant> {
        let waiting = |lane: &&Lane| !lane.busy && lane.is_live();
        self.lanes.values().filter(waiting).filter_map(|lane| lane.retry_at).filter(|at| *at > now).min()
    }

    /// Whether everything that is still needed stands on the bus.
    pub(super) fn bus_is_whole(&self, answer: &BusAnswer, announced: &BTreeMap<Partition, i64>) -> bool {
        answer.asked.iter().all(|(partition, asked)| {
            let entries = answer.entries.get(partition).map(Vec::as_slice).unwrap_or_default();
            let head = announced.get(partition).copied().unwrap_or_default();
            self.lanes.get(partition).is_some_and(|lane| lane.tracker.is_whole(*asked, entries, head))
        })
    }

    pub(super) fn saw_heads(&mut self, heads: &BTreeMap<Partition, i64>, now: Instant) {
        for (partition, head) in heads {
            self.saw_head(*partition, *head, now);
        }
    }

    pub(super) fn saw_head(&mut self, partition: Partition, head: i64, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.ours) {
            lane.tracker.saw_head(head, now);
            self.show(partition);
        }
    }

    /// A slice took effect.
    pub(super) fn moved_to(&mut self, partition: Partition, to: Position, by_bus: bool, events: i64, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.busy = false;
        if to == lane.tracker.applied() {
            // No progress: not to be tried in a tight loop.
            lane.retry_at = Some(now + lane.delay.next_delay());
        } else {
            lane.retry_at = None;
            lane.delay.reset();
            lane.trouble_since = None;
        }
        lane.tracker.moved_to(to, by_bus, now);
        metrics::counter!(
            "consumer_events_applied_total",
            "consumer" => self.consumer,
            "producer" => self.producer.as_str(),
            "source" => if by_bus { "bus" } else { "feed" }
        )
        .increment(events.unsigned_abs());
        self.show(partition);
    }

    /// Something fails, here or at the producer.
    pub(super) fn failed(&mut self, partition: Partition, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.trouble_since.get_or_insert(now);
        }
        self.retry_later(partition, now);
    }

    /// Not before a delay that grows.
    pub(super) fn retry_later(&mut self, partition: Partition, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.busy = false;
            lane.retry_at = Some(now + lane.delay.next_delay());
        }
    }

    /// The feed has nothing after our position: what said otherwise was wrong.
    pub(super) fn nothing_there(&mut self, partition: Partition, now: Instant) {
        self.retry_later(partition, now);
        if let Some(lane) = self.lanes.get_mut(&partition) {
            let applied = lane.tracker.applied().seq;
            lane.tracker.saw_head(applied, now);
            lane.trouble_since = None;
        }
        self.show(partition);
    }

    /// Stands still until a person has looked.
    pub(super) fn stop(&mut self, partition: Partition, reason: String, now: Instant) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        lane.busy = false;
        if lane.tracker.stopped().is_none() {
            tracing::error!(
                consumer = self.consumer,
                producer = self.producer.as_str(),
                partition = partition.number(),
                applied = lane.tracker.applied().seq,
                reason,
                "partition stopped: the producer's history is not the one that was applied"
            );
            lane.tracker.stop(reason);
            lane.trouble_since = Some(now);
            self.show_stopped();
        }
        self.show(partition);
    }

    /// Takes positions as the database has them now, except where a job may be moving them.
    pub(super) fn reread(&mut self, positions: &BTreeMap<Partition, Position>, now: Instant) {
        for (partition, position) in positions {
            let Some(lane) = self.lanes.get_mut(partition) else { continue };
            if lane.busy || lane.tracker.applied() == *position {
                continue;
            }
            lane.tracker.moved_to(*position, false, now);
            lane.retry_at = None;
            lane.delay.reset();
            if lane.tracker.stopped().is_none() {
                lane.trouble_since = None;
            }
            self.show(*partition);
        }
    }

    fn positions(&self, wanted: impl Fn(&Lane) -> bool) -> BTreeMap<Partition, Position> {
        let lanes = self.lanes.iter().filter(|(_, lane)| wanted(lane));
        lanes.map(|(partition, lane)| (*partition, lane.tracker.applied())).collect()
    }

    fn show(&self, partition: Partition) {
        let Some(lane) = self.lanes.get(&partition) else { return };
        let (applied, head) = (lane.tracker.applied().seq, lane.tracker.head());
        let stopped = lane.tracker.stopped().map(str::to_owned);
        let ours = self.lanes.values().filter(|lane| lane.ours);
        let lag: i64 = ours.map(|l| l.tracker.head() - l.tracker.applied().seq).sum();
        let is_ours = lane.ours;
        self.status.update(|status| {
            status.lag_events = lag;
            let shown = status.partitions.entry(partition).or_default();
            (shown.applied, shown.head, shown.stopped) = (applied, head, stopped);
            shown.ours = is_ours;
        });
        let (consumer, producer) = (self.consumer, self.producer.as_str());
        metrics::gauge!("consumer_lag_events", "consumer" => consumer, "producer" => producer).set(lag as f64);
        metrics::gauge!(
            "consumer_applied_seq",
            "consumer" => consumer, "producer" => producer, "partition" => partition.to_string()
        )
        .set(applied as f64);
        metrics::gauge!(
            "consumer_head_seq",
            "consumer" => consumer, "producer" => producer, "partition" => partition.to_string()
        )
        .set(head as f64);
    }

    fn show_stopped(&self) {
        let stopped = self.lanes.values().filter(|lane| lane.tracker.stopped().is_some()).count();
        metrics::gauge!(
            "consumer_stopped_partitions", "consumer" => self.consumer, "producer" => self.producer.as_str()
        )
        .set(stopped as f64);
    }
}
