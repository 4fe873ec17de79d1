//! A broker that dies at any moment never contradicts what it told before.

use std::collections::HashMap;
use std::ops::Range;

use super::stories::{EVERYTHING, StateFile, order_of, settle};
use super::*;
use crate::broker::order::ExecutionKind;

/// What goes wrong more often than in a story: everything that is told late, twice or in another order.
const LATE: &str = r#"{"partial_probability": "0.7", "cancel_delay_ms": 25,
    "submit": {"record_late": 0.1, "arrive_late": 0.05, "drop_reply": 0.1, "duplicate_fill": 0.1,
               "duplicate_fill_new_id": 0.1, "identical_partials": 0.4, "reorder_events": 0.3, "backfill": 0.4,
               "bust": 0.15, "correct": 0.15, "fill_before_ack": 0.1, "reject_late": 0.05, "lost_event": 0.1,
               "foreign_order": 0.05, "partial_fills": 0.3},
    "cancel": {"fill_after_cancel": 0.3, "cancel_rejected_late": 0.2},
    "replace": {"fill_before_replace": 0.2, "replace_rejected_late": 0.2}}"#;

/// Stories of the many deaths, and the one that is cut at every record.
const SEEDS: Range<u64> = 42..46;

fn begin(file: &StateFile, seed: u64) -> Exchange {
    let mut exchange = file.open(NOON);
    exchange.advance(NOON);
    exchange.configure(serde_json::from_str(EVERYTHING).unwrap()).unwrap();
    exchange.configure(serde_json::from_str(LATE).unwrap()).unwrap();
    exchange.configure(json!({"seed": seed})).unwrap();
    exchange.commit().unwrap();
    exchange
}

/// Orders, cancels, replacements and prices that move; `told` is called at every moment at which all that
/// there is can have been seen.
fn live(exchange: &mut Exchange, steps: Range<usize>, mut told: impl FnMut(&Exchange)) {
    for n in steps {
        for moment in 0..3 {
            exchange.advance(exchange.clock + Duration::milliseconds(7));
            exchange.tick();
            if moment == 0 {
                submit(exchange, &order_of(n));
            }
            let one_before = exchange.orders().get(exchange.orders_len().saturating_sub(2)).map(|order| order.terms.id);
            if moment == 1
                && let Some(id) = one_before
            {
                match n % 4 {
                    0 => drop(exchange.cancel(ACCOUNT, id)),
                    2 => drop(exchange.replace(ACCOUNT, id, json!({"qty": 9}).to_string().as_bytes())),
                    _ => {}
                }
            }
            exchange.commit().unwrap();
            told(exchange);
        }
    }
}

/// One id, one execution; no more than was ordered; everything that happened is told.
fn assert_consistent(exchange: &Exchange, context: &str) {
    let told = events(exchange);
    let mut by_id = HashMap::new();
    for event in told.iter().filter(|event| event.qty.is_some()) {
        let terms = (event.order.id, event.qty, event.price, event.timestamp, event.previous_execution_id.clone());
        let first = by_id.entry(event.execution_id.clone().unwrap()).or_insert_with(|| terms.clone());
        assert_eq!(*first, terms, "{context}: an execution keeps its terms");
    }
    for order in exchange.orders() {
        let key = &order.terms.client_order_id;
        let trades = || order.executions.iter().filter(|execution| execution.kind == ExecutionKind::Trade);
        let traded: Decimal = trades().map(|execution| execution.qty).sum();
        assert!(traded <= order.terms.qty, "{context}: {key} has {traded} of {}", order.terms.qty);
        assert_eq!((traded, trades().count()), (order.traded, order.trades), "{context}: {key}");
        for execution in &order.executions {
            let id = execution.execution_id.to_string();
            let shown = by_id.get(&id).map(|(order, qty, price, ..)| (*order, *qty, *price));
            assert_eq!(shown, Some((order.terms.id, Some(execution.qty), Some(execution.price))), "{context}: {key}");
        }
        let rests = order.terms.limit_price.is_some();
        assert!(order.visible && order.untold.is_none() && order.held.is_none(), "{context}: {key}");
        assert!(rests || !order.is_open(), "{context}: {key} never ended: {:?}", order.now);
        let old = order.terms.replaces.and_then(|id| exchange.orders().iter().find(|old| old.terms.id == id));
        let took_over = old.is_none_or(|old| old.now.replaced_by == Some(order.terms.id));
        assert!(took_over || traded.is_zero(), "{context}: {key} traded beside the order that it was to replace");
    }
}

#[test]
fn death_at_any_record_contradicts_nothing_that_was_told() {
    let file = StateFile::new();
    let mut before = begin(&file, SEEDS.start);
    let len_of = |file: &StateFile| usize::try_from(std::fs::metadata(&file.0).unwrap().len()).unwrap();
    // How long the file was when how many events could be seen.
    let mut moments = vec![(len_of(&file), 0)];
    live(&mut before, 0..30, |exchange| moments.push((len_of(&file), events(exchange).len())));
    let (state, told, died_at) = (std::fs::read(&file.0).unwrap(), events(&before), before.clock);
    let start = moments.first().unwrap().0;
    let ends = (start..=state.len()).filter(|end| state[..*end].ends_with(b"\n"));
    for end in ends {
        std::fs::write(&file.0, &state[..end]).unwrap();
        let mut after = file.open(died_at);
        let seen = moments.iter().rev().find(|(len, _)| *len <= end).unwrap().1;
        assert!(events(&after)[..seen] == told[..seen], "cut at {end}");
        live(&mut after, 40..43, |_| {});
        settle(&mut after);
        assert!(events(&after)[..seen] == told[..seen], "cut at {end}");
        assert_consistent(&after, &format!("cut at {end}"));
    }
}

#[test]
fn many_deaths_of_one_broker_contradict_nothing_that_was_told() {
    for seed in SEEDS {
        let file = StateFile::new();
        let mut exchange = begin(&file, seed);
        for life in 0..40 {
            live(&mut exchange, life * 3..life * 3 + 3, |_| {});
            let told = events(&exchange);
            exchange = file.open(exchange.clock);
            assert!(events(&exchange)[..told.len()] == told, "seed {seed}, life {life}");
        }
        settle(&mut exchange);
        assert_consistent(&exchange, &format!("seed {seed}"));
        for kind in [FaultKind::Backfill, FaultKind::IdenticalPartials, FaultKind::ReorderEvents] {
            assert!(hits(&exchange, kind) > 5, "{kind:?}");
        }
    }
}

#[test]
fn a_trade_that_was_kept_back_is_told_after_a_restart_and_is_not_made_again() {
    let file = StateFile::new();
    let mut before = file.open(NOON);
    before.advance(NOON);
    before.configure(json!({"partial_gap_ms": 1_000})).unwrap();
    fault(&mut before, "k1", FaultKind::Backfill, Call::Submit, 5_000);
    fault(&mut before, "k1", FaultKind::IdenticalPartials, Call::Submit, 0);
    submit(&mut before, &market("k1", "AAPL", "4"));
    before.commit().unwrap();
    let (kept_back, told) = (before.orders()[0].untold.clone().unwrap(), events(&before));

    let mut after = file.open(NOON);
    assert_eq!(after.orders()[0].untold.as_ref(), Some(&kept_back));
    for _ in 0..200 {
        after.tick();
    }
    for second in 0..10 {
        after.advance(NOON + Duration::seconds(second));
    }
    let again = events(&after);
    assert!(again[..told.len()] == told);
    let id = kept_back.execution_id.to_string();
    let late: Vec<_> = again.iter().filter(|event| event.execution_id.as_ref() == Some(&id)).collect();
    assert_eq!(late.len(), 1);
    assert_eq!((late[0].price, late[0].timestamp), (Some(kept_back.price), Some(kept_back.at)));
    assert_consistent(&after, "after the restart");
    assert_eq!(lookup(&mut after, "k1").status, OrderStatus::Filled);
}

#[test]
fn a_replacement_under_way_is_rejected_after_a_restart_and_the_old_order_works_on() {
    let file = StateFile::new();
    let mut before = file.open(NOON);
    before.advance(NOON);
    let old = entity(&submit(&mut before, &limit("k1", "AAPL", "4", "1.00"))).id;
    let body = json!({"qty": 6, "limit_price": "999.00", "client_order_id": "k2"}).to_string();
    let made = entity(&before.replace(ACCOUNT, old, body.as_bytes()));
    before.commit().unwrap();

    let mut after = file.open(NOON);
    settle(&mut after);
    assert_eq!(entity(&after.order_by_id(ACCOUNT, made.id)).status, OrderStatus::Rejected);
    assert_eq!(lookup(&mut after, "k1").status, OrderStatus::New);
    assert!(after.executions().is_empty());
}
