use super::*;
use crate::domain::cumulative::ExecutionsShown;
use crate::domain::cursor::ReaderPosition;
use crate::domain::identity::ExecutionScope;
use crate::domain::reading::{BrokerProfile, RawFrame, read_frame};
use contracts::ids::BrokerId;
use proptest::prelude::*;
use std::collections::BTreeSet;
use time::{Duration, OffsetDateTime};

const NOW: OffsetDateTime = time::macros::datetime!(2026-04-12 13:30:00 UTC);
const LIMITS: BatchLimits = BatchLimits { events_max: 3, bytes_max: 1 << 20 };

fn frame(position: Cursor) -> Vec<u8> {
    format!(r#"{{"event_id":"{position}"}}"#).into_bytes()
}

fn reading(position: Cursor) -> Reading {
    let profile = BrokerProfile {
        broker: BrokerId::new("alpaca").unwrap(),
        execution_scope: ExecutionScope::Broker,
        executions: ExecutionsShown::Single,
    };
    read_frame(&profile, RawFrame::new(frame(position)))
}

#[test]
fn a_batch_is_full_at_its_count_or_its_bytes() {
    let position = Cursor::at(NOW);
    let mut batch = Batch::new(LIMITS);
    for _ in 0..3 {
        assert!(!batch.is_full());
        batch.push(reading(position));
    }
    assert!(batch.is_full());
    let mut batch = Batch::new(BatchLimits { events_max: 100, bytes_max: 1 });
    batch.push(reading(position));
    assert!(batch.is_full());
}

#[test]
fn nothing_that_came_before_a_hole_was_noticed_is_stored() {
    for reason in [StopReason::Dropped, StopReason::ServerError, StopReason::BadFraming] {
        let mut batch = Batch::new(LIMITS);
        batch.push(reading(Cursor::at(NOW)));
        batch.stop(reason);
        assert_eq!((batch.positions().count(), batch.is_alive(), batch.is_full()), (0, false, true));
    }
    let mut batch = Batch::new(LIMITS);
    batch.push(reading(Cursor::at(NOW)));
    batch.stop(StopReason::Ended);
    assert_eq!(batch.into_readings().len(), 1);
}

/// One step of a broker that loses messages, says so late, and closes at any time.
#[derive(Debug, Clone, Copy)]
enum Step {
    Deliver,
    Lose,
    Close,
}

/// How many deliveries after a loss the broker takes, at most, to say so.
const NOTICE_LAG_MAX: usize = 5;

proptest! {
    /// Whatever is lost on the way, once a connection lives long enough everything is stored, and
    /// at no time does the cursor stand beyond something unseen by more than the overlap.
    #[test]
    fn the_cursor_never_passes_a_hole_by_more_than_the_overlap(
        count in 1usize..60,
        steps in prop::collection::vec(prop_oneof![8 => Just(Step::Deliver), 1 => Just(Step::Lose), 1 => Just(Step::Close)], 0..150),
        notice_lag in 0usize..NOTICE_LAG_MAX,
    ) {
        let start = Cursor::at(NOW - Duration::hours(1));
        let history: Vec<Cursor> =
            (0..count).map(|n| Cursor::at(NOW - Duration::hours(1) + Duration::seconds(n as i64))).collect();
        let overlap_ms = (NOTICE_LAG_MAX as u64 + LIMITS.events_max as u64 + 1) * 1000;
        let mut stored: BTreeSet<Cursor> = BTreeSet::new();
        let mut cursor = start;
        let mut steps = steps.into_iter();
        loop {
            let mut reader = ReaderPosition::start(cursor);
            let resume = cursor.rewound(overlap_ms);
            let mut pending = history.iter().filter(|position| **position > resume);
            let mut batch = Batch::new(LIMITS);
            let mut notice: Option<usize> = None;
            let mut clean = true;
            loop {
                let step = steps.next().unwrap_or(Step::Deliver);
                let next = pending.next();
                match (step, next) {
                    (Step::Deliver, Some(position)) => batch.push(reading(*position)),
                    (Step::Lose, Some(_)) => { notice.get_or_insert(notice_lag); }
                    (Step::Close, _) => { clean = false; batch.stop(StopReason::Ended); }
                    (_, None) if notice.is_some() => notice = Some(0),
                    (_, None) => batch.stop(StopReason::Ended),
                }
                if let Some(left) = notice {
                    clean = false;
                    if left == 0 { batch.stop(StopReason::Dropped); }
                    notice = Some(left.saturating_sub(1));
                }
                if batch.is_full() {
                    let stop = batch.stopped();
                    let moved = reader.plan(batch.positions(), NOW, 1000).unwrap();
                    let full = std::mem::replace(&mut batch, Batch::new(LIMITS));
                    stored.extend(full.into_readings().into_iter().filter_map(|r| r.position));
                    reader.committed(moved);
                    cursor = moved.to;
                    let horizon = cursor.rewound(overlap_ms);
                    for position in history.iter().filter(|position| **position <= horizon) {
                        prop_assert!(stored.contains(position));
                    }
                    if stop.is_some() { break; }
                }
            }
            if clean { break; }
        }
        prop_assert_eq!(stored.len(), history.len());
    }
}
