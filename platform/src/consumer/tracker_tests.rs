use super::*;
use contracts::EventId;
use proptest::prelude::*;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use uuid::Uuid;

const PRODUCER: Producer = Producer::OrderCore;
const SILENCE: Duration = Duration::from_secs(2);

fn partition() -> Partition {
    Partition::new(5).unwrap()
}

fn id(history: u64, seq: i64) -> Option<EventId> {
    (seq > 0).then(|| EventId::new(Uuid::from_u64_pair(history, seq.unsigned_abs())))
}

fn position(history: u64, seq: i64) -> Position {
    Position { seq, event_id: id(history, seq) }
}

fn event(history: u64, seq: i64) -> Envelope {
    Envelope {
        id: id(history, seq).unwrap(),
        producer: PRODUCER,
        partition: partition(),
        seq,
        prev_id: id(history, seq - 1),
        kind: "test".to_owned(),
        version: 1,
        account_id: None,
        order_id: None,
        at: OffsetDateTime::UNIX_EPOCH,
        traceparent: None,
        payload: RawValue::from_string("{}".to_owned()).unwrap(),
    }
}

fn on_bus(seqs: impl IntoIterator<Item = i64>) -> Vec<BusEntry> {
    seqs.into_iter().map(|seq| BusEntry::Event(event(1, seq))).collect()
}

fn tracker(applied: i64) -> Tracker {
    Tracker::new(PRODUCER, partition(), position(1, applied))
}

fn seqs(step: &Step) -> Vec<i64> {
    match step {
        Step::Apply(slice) => slice.events.iter().map(|e| e.seq).collect(),
        Step::Rest | Step::Feed(_) => Vec::new(),
    }
}

fn feed_reason(step: &Step) -> Option<FeedReason> {
    match step {
        Step::Feed(reason) => Some(*reason),
        Step::Rest | Step::Apply(_) => None,
    }
}

#[test]
fn events_that_follow_are_applied_up_to_the_first_hole() {
    let step = tracker(3).offer_bus(on_bus([2, 3, 4, 5, 7]), Instant::now(), SILENCE);
    assert_eq!(seqs(&step), [4, 5]);
}

#[test]
fn a_hole_before_the_first_event_sends_to_the_feed() {
    let step = tracker(3).offer_bus(on_bus([5, 6]), Instant::now(), SILENCE);
    assert_eq!(feed_reason(&step), Some(FeedReason::Gap));
}

#[test]
fn another_history_on_the_bus_is_never_applied_and_never_stops() {
    let other = vec![BusEntry::Event(event(2, 4))];
    let step = tracker(3).offer_bus(other, Instant::now(), SILENCE);
    assert_eq!(feed_reason(&step), Some(FeedReason::Mismatch));
}

#[test]
fn an_unreadable_entry_sends_to_the_feed_once_it_is_next() {
    let entries = vec![BusEntry::Event(event(1, 4)), BusEntry::Unreadable];
    assert_eq!(seqs(&tracker(3).offer_bus(entries.clone(), Instant::now(), SILENCE)), [4]);
    let step = tracker(4).offer_bus(entries, Instant::now(), SILENCE);
    assert_eq!(feed_reason(&step), Some(FeedReason::Unreadable));
}

#[test]
fn the_very_first_event_comes_from_the_feed_since_nothing_vouches_for_it() {
    let step = tracker(0).offer_bus(on_bus([1, 2]), Instant::now(), SILENCE);
    assert_eq!(feed_reason(&step), Some(FeedReason::Start));
}

#[test]
fn silence_counts_from_the_first_announced_head_and_starts_again_with_the_bus() {
    let start = Instant::now();
    let mut t = tracker(3);
    t.saw_head(5, start);
    t.saw_head(5, start + SILENCE / 2);
    assert!(matches!(t.offer_bus(Vec::new(), start + SILENCE / 2, SILENCE), Step::Rest));
    assert_eq!(feed_reason(&t.offer_bus(Vec::new(), start + SILENCE, SILENCE)), Some(FeedReason::Silence));
    t.moved_to(position(1, 4), true, start + SILENCE);
    assert!(matches!(t.offer_bus(Vec::new(), start + SILENCE, SILENCE), Step::Rest));
}

#[test]
fn a_long_silence_is_filled_in_one_go() {
    let start = Instant::now();
    let mut t = tracker(3);
    t.saw_head(900, start);
    t.moved_to(position(1, 503), false, start + SILENCE);
    assert_eq!(feed_reason(&t.offer_bus(Vec::new(), start + SILENCE, SILENCE)), Some(FeedReason::Silence));
    t.moved_to(position(1, 900), false, start + SILENCE);
    assert!(matches!(t.offer_bus(Vec::new(), start + SILENCE * 2, SILENCE), Step::Rest));
}

#[test]
fn an_announced_head_below_the_position_is_no_news() {
    let mut t = tracker(7);
    t.saw_head(2, Instant::now());
    assert!(!t.is_behind());
    assert_eq!(t.head(), 7);
}

#[test]
fn a_stopped_partition_applies_nothing_and_reads_nothing() {
    let mut t = tracker(3);
    t.saw_head(9, Instant::now());
    t.stop("first".to_owned());
    t.stop("second".to_owned());
    assert!(matches!(t.offer_bus(on_bus([4, 5]), Instant::now() + SILENCE * 2, SILENCE), Step::Rest));
    assert!(matches!(t.poll(), Step::Rest));
    assert_eq!(t.stopped(), Some("first"));
}

#[test]
fn a_feed_that_ends_before_the_position_or_has_another_event_there_is_a_fault() {
    assert!(history_fault(position(1, 5), position(1, 4)).is_some());
    assert!(history_fault(position(1, 5), position(2, 5)).is_some());
    assert!(history_fault(position(1, 5), position(1, 5)).is_none());
    assert!(history_fault(position(1, 5), position(2, 6)).is_none(), "seen when the next event is read");
    assert!(history_fault(Position::default(), Position::default()).is_none());
}

#[test]
fn the_bus_is_whole_when_the_next_event_stands_there_or_none_is_announced() {
    let t = tracker(3);
    let asked = position(1, 3);
    assert!(t.is_whole(asked, &[], 3));
    assert!(!t.is_whole(asked, &[], 4));
    assert!(t.is_whole(asked, &on_bus([4, 5]), 9));
    assert!(!t.is_whole(asked, &on_bus([5]), 9));
    assert!(!t.is_whole(asked, &[BusEntry::Event(event(2, 4))], 4));
    assert!(!t.is_whole(asked, &[BusEntry::Unreadable], 4));
}

proptest! {
    /// A bus that loses, repeats and garbles at will, with a feed behind it: every event is applied
    /// once and in order.
    #[test]
    fn whatever_the_bus_loses_each_event_is_applied_once_in_order(
        last in 1_i64..60,
        lost in prop::collection::btree_set(1_i64..60, 0..40),
        garbled in prop::collection::btree_set(1_i64..60, 0..5),
        foreign in prop::collection::btree_set(1_i64..60, 0..5),
        feed_limit in 1_i64..10,
    ) {
        let bus: Vec<(i64, BusEntry)> = (1..=last)
            .filter(|seq| !lost.contains(seq))
            .map(|seq| {
                let entry = if garbled.contains(&seq) {
                    BusEntry::Unreadable
                } else {
                    BusEntry::Event(event(if foreign.contains(&seq) { 2 } else { 1 }, seq))
                };
                (seq, entry)
            })
            .collect();
        let now = Instant::now();
        let mut t = tracker(0);
        t.saw_head(last, now);
        let mut applied = Vec::new();
        for _ in 0..=last * 2 {
            let after = t.applied().seq;
            let seen = bus.iter().filter(|(seq, _)| *seq > after).map(|(_, entry)| entry.clone()).collect();
            let (slice, by_bus) = match t.offer_bus(seen, now + SILENCE, SILENCE) {
                Step::Rest => break,
                Step::Apply(slice) => (slice, true),
                Step::Feed(_) => {
                    let events = (after + 1..=last).take(usize::try_from(feed_limit).unwrap());
                    let events = events.map(|seq| event(1, seq)).collect();
                    (Slice::new(PRODUCER, partition(), t.applied(), events).unwrap(), false)
                }
            };
            applied.extend(slice.events.iter().map(|e| e.seq));
            t.moved_to(slice.end(), by_bus, now);
        }
        prop_assert_eq!(applied, (1..=last).collect::<Vec<_>>());
        prop_assert!(!t.is_behind());
    }

    #[test]
    fn a_slice_never_holds_a_hole_or_a_foreign_event(
        applied in 0_i64..10,
        mut stream in prop::collection::vec((0_u64..3, 1_i64..20), 0..20),
    ) {
        stream.sort_by_key(|(_, seq)| *seq);
        let entries = stream.iter().map(|(history, seq)| match history {
            0 => BusEntry::Unreadable,
            history => BusEntry::Event(event(*history, *seq)),
        }).collect();
        if let Step::Apply(slice) = tracker(applied).offer_bus(entries, Instant::now(), SILENCE) {
            let expected: Vec<_> = (applied + 1..).take(slice.events.len()).map(|seq| event(1, seq).id).collect();
            let actual: Vec<_> = slice.events.iter().map(|e| e.id).collect();
            prop_assert_eq!(actual, expected);
        }
    }
}
