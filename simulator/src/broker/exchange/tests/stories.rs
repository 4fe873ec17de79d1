//! Whole runs: told again, and interrupted.

use std::path::PathBuf;

use super::*;
use crate::broker::exchange::OpenError;
use crate::broker::journal::JournalError;

pub(super) const EVERYTHING: &str = r#"{
    "partial_probability": "0.5", "partial_gap_ms": 5, "cancel_delay_ms": 5,
    "submit": {"drop_before_receipt": 0.05, "drop_reply": 0.05, "record_late": 0.05, "arrive_late": 0.05,
               "error_before_effect": 0.05, "error_after_effect": 0.05, "slow_reply": 0.05, "rate_limited": 0.02,
               "nonsense": 0.02, "html": 0.02, "half_body": 0.02, "never_answer": 0.02, "reject": 0.02,
               "duplicate_fill": 0.1, "fill_before_ack": 0.1, "identical_partials": 0.1, "reorder_events": 0.1,
               "reject_late": 0.05, "foreign_order": 0.05, "lost_event": 0.05, "maintenance": 0.02,
               "unauthorized": 0.02, "partial_fills": 0.1, "backfill": 0.05},
    "cancel": {"drop_reply": 0.1, "fill_after_cancel": 0.3, "cancel_refused": 0.1, "cancel_rejected_late": 0.1},
    "lookup": {"error_before_effect": 0.1}, "stream": {"stream_reset": 0.05, "drop_message": 0.05}}"#;

pub(super) fn order_of(n: usize) -> Value {
    let symbol = ["AAPL", "KO", "F", "TSLA"][n % 4];
    let key = format!("key-{n}");
    if n.is_multiple_of(3) { limit(&key, symbol, "4.5", "12.10") } else { market(&key, symbol, "7") }
}

/// Some hundred orders, cancels and ticks in a fixed sequence.
fn play(exchange: &mut Exchange, steps: std::ops::Range<usize>) -> Vec<Reply> {
    let mut replies = Vec::new();
    for n in steps {
        exchange.advance(NOON + Duration::milliseconds(10) * i32::try_from(n).unwrap());
        replies.push(submit(exchange, &order_of(n)));
        exchange.tick();
        if n.is_multiple_of(5) {
            replies.push(exchange.order_by_key(ACCOUNT, &format!("key-{}", n / 2)));
            if let Some(order) = exchange.orders().get(n / 3).map(|order| order.terms.id) {
                replies.push(exchange.cancel(ACCOUNT, order));
            }
        }
    }
    settle(exchange);
    replies
}

fn eventful(seed: u64) -> Exchange {
    let mut exchange = exchange(seed);
    exchange.configure(serde_json::from_str(EVERYTHING).unwrap()).unwrap();
    exchange
}

/// Lets everything happen that is on its way.
pub(super) fn settle(exchange: &mut Exchange) {
    while exchange.unsettled_len() > 0 {
        exchange.advance(exchange.clock + Duration::seconds(1));
    }
}

#[test]
fn one_seed_tells_one_story() {
    let (mut one, mut same, mut other) = (eventful(42), eventful(42), eventful(43));
    assert!(play(&mut one, 0..400) == play(&mut same, 0..400));
    play(&mut other, 0..400);
    assert!(events(&one) == events(&same));
    assert_eq!(one.fault_tallies(), same.fault_tallies());
    assert_ne!(one.fault_tallies(), other.fault_tallies());
    assert!(one.fault_tallies().len() > 18, "{:?}", one.fault_tallies());
}

#[test]
fn what_happens_to_an_order_does_not_depend_on_the_others() {
    let story = |ns: &[usize]| {
        let mut exchange = eventful(7);
        for n in ns {
            submit(&mut exchange, &order_of(*n));
        }
        settle(&mut exchange);
        let mut told: Vec<_> = exchange
            .orders()
            .iter()
            .map(|order| (order.terms.client_order_id.clone(), order.terms.id, order.executions.clone()))
            .collect();
        for (_, _, executions) in &mut told {
            executions.sort_by_key(|execution| execution.execution_id);
        }
        told.sort_by_key(|(key, ..)| key.clone());
        told
    };
    let forward: Vec<usize> = (0..100).collect();
    let backward: Vec<usize> = (0..100).rev().collect();
    assert_eq!(story(&forward), story(&backward));
}

/// Everything that struck, whenever: which fault, which attempt of which order.
fn schedule(exchange: &Exchange) -> Vec<crate::broker::fault::Strike> {
    let (_, mut strikes) = exchange.strikes(0, usize::MAX);
    strikes.sort();
    strikes
}

#[test]
fn one_seed_gives_one_fault_schedule_whatever_the_order_of_arrival() {
    // Three attempts an order, and a cancel of what can be seen; in between the others come and go.
    let run = |ns: &[usize], gap_ms: i64| {
        let mut exchange = eventful(11);
        for attempt in 0..3 {
            for n in ns {
                exchange.advance(exchange.clock + Duration::milliseconds(gap_ms));
                submit(&mut exchange, &order_of(*n));
                exchange.order_by_key(ACCOUNT, &format!("key-{n}"));
                assert!(attempt < 3);
            }
            settle(&mut exchange);
        }
        schedule(&exchange)
    };
    let forward: Vec<usize> = (0..120).collect();
    let mut shuffled = forward.clone();
    shuffled.reverse();
    shuffled.rotate_left(37);
    let told = run(&forward, 3);
    assert_eq!(told, run(&shuffled, 40));
    assert!(told.iter().any(|strike| strike.attempt == 3) && told.len() > 200, "{}", told.len());
}

#[test]
fn events_agree_with_the_oracle_whatever_goes_wrong() {
    let mut exchange = eventful(42);
    play(&mut exchange, 0..400);
    for order in exchange.orders() {
        let told = events_of(&exchange, &order.terms.client_order_id);
        let mut seen = std::collections::HashMap::new();
        for event in told.iter().filter(|event| event.qty.is_some()) {
            let terms = (event.qty, event.price);
            let known = *seen.entry(event.execution_id.clone().unwrap()).or_insert(terms);
            assert_eq!(known, terms, "an execution keeps its terms");
        }
        assert_eq!(seen.len(), order.executions.len());
        let filled: Decimal = seen.values().filter_map(|(qty, _)| *qty).sum();
        assert_eq!(filled, order.now.filled_qty);
        assert!(filled <= order.terms.qty);
    }
}

#[test]
fn cursors_only_go_up_and_replay_misses_nothing() {
    let mut exchange = eventful(42);
    play(&mut exchange, 0..200);
    let all = events(&exchange);
    assert!(all.is_sorted_by(|a, b| a.event_id < b.event_id));
    for (n, event) in all.iter().enumerate() {
        let id = event.event_id.parse().unwrap();
        let position = exchange.events_after(id).unwrap();
        assert_eq!(usize::try_from(position).unwrap(), n + 1);
        let since = exchange.events_since(event.at.unwrap()).unwrap();
        assert!(usize::try_from(since).unwrap() <= n);
    }
}

#[test]
fn replay_from_before_what_is_kept_is_refused() {
    let mut settings = settings(1);
    settings.events_retained_max = 10;
    let mut exchange = Exchange::open(&settings, NOON).unwrap();
    exchange.advance(NOON);
    submit(&mut exchange, &market("k0", "AAPL", "1"));
    let first = events(&exchange)[0].clone();
    for n in 1..20 {
        submit(&mut exchange, &market(&format!("k{n}"), "AAPL", "1"));
    }
    assert!(exchange.events_after(first.event_id.parse().unwrap()).is_err());
    assert!(exchange.events_since(first.at.unwrap()).is_err());
    let oldest_kept = exchange.read_events(0, 1)[0].event_id;
    assert!(exchange.events_after(oldest_kept).is_ok());
}

pub(super) struct StateFile(pub(super) PathBuf);

impl StateFile {
    pub(super) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("broker-sim-state-{}", Uuid::new_v4())))
    }

    pub(super) fn open(&self, now: OffsetDateTime) -> Exchange {
        let settings = ExchangeSettings { state_file: Some(self.0.clone()), ..settings(42) };
        Exchange::open(&settings, now).unwrap()
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

#[test]
fn restart_forgets_nothing_that_was_told() {
    let file = StateFile::new();
    let mut before = file.open(NOON);
    before.advance(NOON);
    before.configure(serde_json::from_str(EVERYTHING).unwrap()).unwrap();
    play(&mut before, 0..150);
    // What changes afterwards, and faults that still wait.
    before.bust(&crate::broker::exchange::BustFilter { symbol: Some("KO".to_owned()), ..Default::default() });
    before.split("AAPL", 2, 1).unwrap();
    let standing = before.executions().iter().map(|(order, place)| &before.orders()[*order].executions[*place]);
    let ids: Vec<Uuid> = standing.map(|execution| execution.execution_id).collect();
    assert!(ids.into_iter().any(|id| before.correct(id, None, Some(Decimal::ONE)).is_ok()));
    fault(&mut before, "key-2000", FaultKind::Reject, Call::Submit, 0);
    fault(&mut before, "key-2000", FaultKind::DropReply, Call::Submit, 0);
    submit(&mut before, &order_of(2_000));
    submit(&mut before, &order_of(1_000));
    before.commit().unwrap();
    let mut after = file.open(before.clock);
    assert!(events(&after) == events(&before));
    assert_eq!(after.executions(), before.executions());
    assert_eq!(after.fault_tallies(), before.fault_tallies());
    assert_eq!(after.config(), before.config());
    assert_eq!(after.open_len(), before.open_len());
    assert_eq!(after.pending_faults(10), before.pending_faults(10));
    assert_eq!(after.fault_rules(0, 10), before.fault_rules(0, 10));
    let worth = |exchange: &Exchange| {
        let account = exchange.accounts.first().unwrap();
        let quantities: std::collections::BTreeMap<_, _> =
            account.positions.iter().map(|(instrument, position)| (*instrument, position.qty)).collect();
        (account.cash, quantities)
    };
    assert_eq!(worth(&after), worth(&before));
    for (one, other) in before.orders().iter().zip(after.orders()) {
        assert_eq!((&one.terms, &one.now, &one.executions), (&other.terms, &other.now, &other.executions));
    }
    after.configure(json!({"submit": {"drop_before_receipt": 0, "arrive_late": 0}})).unwrap();
    let taken = before.orders()[0].terms.client_order_id.clone();
    let reply = submit(&mut after, &market(&taken, "AAPL", "1"));
    assert_eq!(after.orders_len(), before.orders_len(), "{reply:?}");
    let last = events(&before).last().unwrap().event_id.clone();
    play(&mut after, 150..200);
    assert!(events(&after)[events(&before).len()..].iter().all(|event| event.event_id > last));
}

#[test]
fn restart_in_the_middle_goes_on_where_it_was() {
    let file = StateFile::new();
    let mut before = file.open(NOON);
    before.advance(NOON);
    before.configure(json!({"partial_probability": "1", "partial_gap_ms": 1000, "cancel_delay_ms": 1000})).unwrap();
    submit(&mut before, &market("parts", "AAPL", "9"));
    let id = entity(&submit(&mut before, &limit("cancel", "AAPL", "9", "1.00"))).id;
    before.cancel(ACCOUNT, id);
    submit(&mut before, &limit("rest", "AAPL", "9", "1.00"));
    fault(&mut before, "late", FaultKind::RecordLate, Call::Submit, 5_000);
    submit(&mut before, &market("late", "AAPL", "9"));
    before.commit().unwrap();
    drop(before);

    let mut after = file.open(NOON);
    after.advance(NOON);
    assert_eq!(after.order_by_key(ACCOUNT, "late").status, 404);
    for second in 1..10 {
        after.advance(NOON + Duration::seconds(second));
    }
    assert_eq!(lookup(&mut after, "parts").status, OrderStatus::Filled);
    assert_eq!(lookup(&mut after, "cancel").status, OrderStatus::Canceled);
    assert_eq!(lookup(&mut after, "rest").status, OrderStatus::New);
    assert_eq!(lookup(&mut after, "late").status, OrderStatus::Filled);
    let reply = submit(&mut after, &market("late", "AAPL", "9"));
    assert_eq!(refusal(&reply).2, "client_order_id must be unique");
}

#[test]
fn a_restart_does_not_begin_the_schedule_of_an_order_anew() {
    let story = |restart: bool| {
        let file = StateFile::new();
        let mut exchange = file.open(NOON);
        exchange.advance(NOON);
        let faults = json!({"submit": {"drop_before_receipt": 0.4, "error_before_effect": 0.4}});
        exchange.configure(faults).unwrap();
        for attempt in 0..6 {
            if restart && attempt == 3 {
                exchange.commit().unwrap();
                exchange = file.open(NOON);
                exchange.advance(NOON);
            }
            for n in 0..20 {
                submit(&mut exchange, &order_of(n));
            }
        }
        schedule(&exchange)
    };
    assert_eq!(story(true), story(false));
}

#[test]
fn damaged_state_file_is_refused() {
    let file = StateFile::new();
    std::fs::write(&file.0, "{\"order\":{}}\n").unwrap();
    let settings = ExchangeSettings { state_file: Some(file.0.clone()), ..settings(1) };
    let opened = Exchange::open(&settings, NOON);
    assert!(matches!(opened, Err(OpenError::Journal(JournalError::Damaged { line: 1 }))));
}
