//! The consumers of a story: production trackers over a bus that loses entries and a feed that does not.

use super::World;
use super::core::CommitFault;
use super::plot::Mutation;
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use order_core::application::facts::FactSlice;
use platform::consumer::Slice;
use platform::consumer::tracker::{BusEntry, Step, Tracker};
use platform::eventlog::Position;
use rand::Rng;
use std::time::Duration;

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    /// The order server.
    Core,
    /// The gateway.
    Gateway,
}

const SLICE_LEN_MAX: usize = 4;
const SILENCE: Duration = Duration::from_secs(3);

impl World {
    /// The logs that there are, with their readers.
    pub(super) fn logs(&self) -> Vec<(Reader, Producer, Partition)> {
        let replies = self.gateway.log.keys().map(|partition| (Reader::Core, Producer::BrokerGateway, *partition));
        let facts = self.receiver.log.keys().map(|partition| (Reader::Core, Producer::FillReceiver, *partition));
        let orders = self.core.db.log.keys().map(|partition| (Reader::Gateway, Producer::OrderCore, *partition));
        let evidence = self.receiver.log.keys().map(|partition| (Reader::Gateway, Producer::FillReceiver, *partition));
        replies.chain(facts).chain(orders).chain(evidence).collect()
    }

    fn log(&self, producer: Producer, partition: Partition) -> &[Envelope] {
        let logs = match producer {
            Producer::OrderCore => &self.core.db.log,
            Producer::BrokerGateway => &self.gateway.log,
            Producer::FillReceiver => &self.receiver.log,
        };
        logs.get(&partition).map_or(&[], Vec::as_slice)
    }

    fn applied(&self, reader: Reader, producer: Producer, partition: Partition) -> Position {
        match reader {
            Reader::Core => {
                let at = self.core.applied(producer, partition);
                Position { seq: at.seq, event_id: at.event_id }
            }
            Reader::Gateway => self.gateway.applied.get(&(producer, partition)).copied().unwrap_or_default(),
        }
    }

    /// Whether a reader has not applied everything.
    pub(super) fn is_behind(&self, (reader, producer, partition): (Reader, Producer, Partition)) -> bool {
        let head = self.log(producer, partition).last().map_or(0, |last| last.seq);
        self.applied(reader, producer, partition).seq < head
    }

    /// A reader looks at its bus, which has lost some entries, and applies what comes, or reads the feed.
    pub(super) fn consume(
        &mut self,
        (reader, producer, partition): (Reader, Producer, Partition),
        lossy: bool,
        fault: Option<CommitFault>,
    ) {
        let applied = self.applied(reader, producer, partition);
        let instant = self.instant();
        let key = (reader, producer, partition);
        let mut tracker = self.trackers.remove(&key).unwrap_or_else(|| Tracker::new(producer, partition, applied));
        tracker.moved_to(applied, false, instant);
        let after = usize::try_from(applied.seq).unwrap_or(0);
        let rest: Vec<Envelope> =
            self.log(producer, partition).iter().skip(after).take(SLICE_LEN_MAX).cloned().collect();
        tracker.saw_head(applied.seq.saturating_add(i64::try_from(rest.len()).unwrap_or(0)), instant);
        let mut bus = rest.clone();
        if lossy {
            bus.retain(|_| self.rng.random_range(0..3) > 0);
        }
        if self.plot.mutation == Mutation::IgnoreSequenceGap && reader == Reader::Core && !bus.is_empty() {
            let after = self.core.applied(producer, partition);
            self.core.apply_unchecked(FactSlice { producer, partition, after, events: bus }, self.now, fault);
            return;
        }
        let entries = bus.into_iter().map(BusEntry::Event).collect();
        let slice = match tracker.offer_bus(entries, instant, SILENCE) {
            Step::Apply(slice) => Some(slice),
            // The bus lacks something, or has nothing: the feed is the truth.
            Step::Feed(_) | Step::Rest => Slice::new(producer, partition, applied, rest).ok(),
        };
        if let Some(slice) = slice {
            self.take(reader, &slice, fault);
        }
        if fault.is_some_and(CommitFault::is_death) {
            self.trackers.retain(|(of, ..), _| *of != reader);
        } else {
            let now_applied = self.applied(reader, producer, partition);
            tracker.moved_to(now_applied, true, instant);
            self.trackers.insert(key, tracker);
        }
    }

    fn take(&mut self, reader: Reader, slice: &Slice, fault: Option<CommitFault>) {
        match (reader, slice.producer, fault) {
            (Reader::Core, ..) => self.core.apply(slice, self.now, fault),
            // The transaction is lost whole, or its end is not heard; the position says which.
            (Reader::Gateway, _, Some(CommitFault::DiesBefore | CommitFault::LostUnconfirmed)) => {}
            (Reader::Gateway, Producer::OrderCore, _) => self.gateway.take_orders(&slice.events, self.now),
            (Reader::Gateway, ..) => self.gateway.take_evidence(&slice.events, self.now),
        }
        if reader == Reader::Gateway && fault.is_some_and(CommitFault::is_death) {
            self.gateway.die(self.now);
        }
    }
}
