//! Slices of several partitions that wait at the same time take effect together: one transaction
//! costs about as much as another, however much it carries.

use platform::consumer::{SinkError, Slice, SliceOutcome};
use platform::pace::Pace;
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Most events of one transaction, unless a single slice has more.
const EVENTS_MAX: usize = 1_024;

/// What becomes of a slice.
pub(super) type Answer = Result<SliceOutcome, SinkError>;

/// A slice and who waits for it.
pub(super) struct Waiting {
    /// The slice.
    pub(super) slice: Slice,
    /// Where its outcome goes.
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Slices of one log that wait for the next transaction. A consumer has at most one a partition
/// under way, which bounds them.
pub(super) struct Gather {
    waiting: Mutex<VecDeque<Waiting>>,
    turn: tokio::sync::Mutex<Pace>,
}

impl Gather {
    /// Of a log whose transactions of many events begin at least `interval` apart.
    pub(super) fn new(interval: Duration) -> Self {
        Self { waiting: Mutex::default(), turn: tokio::sync::Mutex::new(Pace::new(interval, EVENTS_MAX / 2)) }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a slice wait.
    pub(super) fn join(&self, slice: Slice) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        self.waiting().push_back(Waiting { slice, answer });
        receiver
    }

    /// The right to take what waits. Whoever has it works for all.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, Pace> {
        self.turn.lock().await
    }

    /// Takes the oldest slices, of each partition at most one, without those that nobody waits for.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        let (mut taken, mut partitions, mut events) = (Vec::new(), BTreeSet::new(), 0_usize);
        while let Some(next) = waiting.pop_front() {
            if next.answer.is_closed() {
                continue;
            }
            events = events.saturating_add(next.slice.events.len());
            if (!taken.is_empty() && events > EVENTS_MAX) || !partitions.insert(next.slice.partition) {
                waiting.push_front(next);
                break;
            }
            taken.push(next);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::event::{Envelope, Producer};
    use contracts::{EventId, Partition};
    use platform::eventlog::Position;
    use serde_json::value::RawValue;
    use time::OffsetDateTime;
    use uuid::Uuid;

    fn slice(partition: i16, events: i64) -> Slice {
        let (producer, partition) = (Producer::OrderCore, Partition::new(partition).unwrap());
        let id = |seq: i64| EventId::new(Uuid::from_u128(u128::from(seq.unsigned_abs())));
        let envelope = |seq: i64| Envelope {
            id: id(seq),
            producer,
            partition,
            seq,
            prev_id: (seq > 1).then(|| id(seq - 1)),
            kind: "x".to_owned(),
            version: 1,
            account_id: None,
            order_id: None,
            at: OffsetDateTime::UNIX_EPOCH,
            traceparent: None,
            payload: RawValue::from_string("{}".to_owned()).unwrap(),
        };
        Slice::new(producer, partition, Position::default(), (1..=events).map(envelope).collect()).unwrap()
    }

    fn partitions(taken: &[Waiting]) -> Vec<i16> {
        taken.iter().map(|waiting| waiting.slice.partition.number()).collect()
    }

    #[test]
    fn a_partition_is_in_a_transaction_once() {
        let gather = Gather::new(Duration::ZERO);
        let _waiting: Vec<_> = [3, 1, 3, 2].map(|partition| gather.join(slice(partition, 1))).into_iter().collect();
        assert_eq!(partitions(&gather.take()), [3, 1]);
        assert_eq!(partitions(&gather.take()), [3, 2]);
        assert!(gather.take().is_empty());
    }

    #[test]
    fn a_transaction_is_bounded_but_takes_one_slice_of_any_size() {
        let gather = Gather::new(Duration::ZERO);
        let large = i64::try_from(EVENTS_MAX).unwrap() + 1;
        let _waiting: Vec<_> = [(1, large), (2, 5)].map(|(p, events)| gather.join(slice(p, events))).into();
        assert_eq!(partitions(&gather.take()), [1]);
        assert_eq!(partitions(&gather.take()), [2]);
    }

    #[test]
    fn a_slice_that_nobody_waits_for_is_left_to_be_offered_again() {
        let gather = Gather::new(Duration::ZERO);
        drop(gather.join(slice(1, 1)));
        let _kept = gather.join(slice(2, 1));
        assert_eq!(partitions(&gather.take()), [2]);
    }
}
