//! What the four profiles promise, and keep.

use super::*;
use crate::broker::fact::Detail;

fn broker_of(profile: Profile) -> Exchange {
    let mut exchange = Exchange::open(&ExchangeSettings { profile, ..settings(1) }, NOON).unwrap();
    exchange.advance(NOON);
    exchange.configure(json!({"partial_probability": "0", "key_window_ms": 60_000})).unwrap();
    exchange
}

fn is_duplicate(reply: &Reply) -> bool {
    serde_json::from_slice::<ApiError>(&reply.body).is_ok_and(|error| error.is_duplicate_client_order_id())
}

#[test]
fn a_windowed_key_is_a_new_order_from_the_end_of_its_window_on() {
    let mut exchange = broker_of(Profile::Windowed);
    let first = entity(&submit(&mut exchange, &market("k1", "AAPL", "1"))).id;
    exchange.advance(NOON + Duration::milliseconds(59_999));
    assert!(is_duplicate(&submit(&mut exchange, &market("k1", "AAPL", "1"))));
    exchange.advance(NOON + Duration::minutes(1));
    let second = entity(&submit(&mut exchange, &market("k1", "AAPL", "1"))).id;
    assert_ne!(first, second);
    assert_eq!(exchange.orders_len(), 2);
    assert_eq!(lookup(&mut exchange, "k1").id, second);
    // The second use opens a window of its own.
    exchange.advance(NOON + Duration::seconds(119));
    assert!(is_duplicate(&submit(&mut exchange, &market("k1", "AAPL", "1"))));
    let told = events_of(&exchange, "k1");
    let ids: std::collections::HashSet<_> = told.iter().map(|event| event.execution_id.clone()).collect();
    assert_eq!(ids.len(), told.len(), "two orders under one key share no execution and no event");
}

#[test]
fn a_windowed_key_is_refused_while_its_order_is_not_recorded_yet() {
    let mut exchange = broker_of(Profile::Windowed);
    fault(&mut exchange, "k1", FaultKind::RecordLate, Call::Submit, 500);
    submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!(exchange.order_by_key(ACCOUNT, "k1").status, 404);
    assert!(is_duplicate(&submit(&mut exchange, &market("k1", "AAPL", "1"))));
}

#[test]
fn lookup_only_finds_a_key_and_makes_another_order_under_it() {
    let mut exchange = broker_of(Profile::LookupOnly);
    let first = entity(&submit(&mut exchange, &market("k1", "AAPL", "1"))).id;
    assert_eq!(lookup(&mut exchange, "k1").id, first);
    let second = entity(&submit(&mut exchange, &market("k1", "AAPL", "1"))).id;
    assert_ne!(first, second);
    assert_eq!(lookup(&mut exchange, "k1").id, second);
}

#[test]
fn a_blind_broker_knows_no_key_and_shows_only_what_is_filled_in_all() {
    let mut exchange = broker_of(Profile::Blind);
    let first = entity(&submit(&mut exchange, &market("k1", "AAPL", "3")));
    assert_ne!(first.client_order_id, "k1");
    let second = entity(&submit(&mut exchange, &market("k1", "AAPL", "3")));
    assert_ne!((first.id, &first.client_order_id), (second.id, &second.client_order_id));
    assert_eq!(exchange.order_by_key(ACCOUNT, "k1").status, 501);
    assert_eq!(exchange.order_by_key(ACCOUNT, &first.client_order_id).status, 501);
    assert_eq!(entity(&exchange.order_by_id(ACCOUNT, first.id)).filled_qty, Decimal::from(3));
    for event in events(&exchange) {
        let shown = (event.execution_id, event.qty, event.price, event.position_qty, event.previous_execution_id);
        assert_eq!(shown, (None, None, None, None, None));
    }
    let fill = events(&exchange).into_iter().find(|event| event.event == TradeEventKind::Fill).unwrap();
    assert_eq!((fill.order.filled_qty, fill.order.filled_avg_price), (Decimal::from(3), Some(Decimal::new(18_712, 2))));
    // The oracle still knows which of the client's orders it was.
    assert!(exchange.orders().iter().all(|order| order.terms.key() == "k1"));
}

#[test]
fn a_blind_broker_does_not_look_at_valid_until() {
    let mut order = market("k1", "AAPL", "1");
    order["valid_until"] = json!("2026-07-01T11:59:59-04:00");
    assert_eq!(submit(&mut broker_of(Profile::Blind), &order).status, 200);
    assert_eq!(submit(&mut broker_of(Profile::LookupOnly), &order).status, 422);
}

#[test]
fn a_promise_can_be_broken_for_one_order() {
    let mut exchange = broker_of(Profile::Full);
    submit(&mut exchange, &market("k1", "AAPL", "1"));
    fault(&mut exchange, "k1", FaultKind::ForgetKey, Call::Submit, 0);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).status, 200);
    assert!(is_duplicate(&submit(&mut exchange, &market("k1", "AAPL", "1"))));
    assert_eq!((exchange.orders_len(), hits(&exchange, FaultKind::ForgetKey)), (2, 1));

    let mut late = market("k2", "AAPL", "1");
    late["valid_until"] = json!("2026-07-01T12:00:00.400-04:00");
    fault(&mut exchange, "k2", FaultKind::ArriveLate, Call::Submit, 500);
    fault(&mut exchange, "k2", FaultKind::IgnoreValidUntil, Call::Submit, 0);
    submit(&mut exchange, &late);
    exchange.advance(NOON + Duration::SECOND);
    assert_eq!(lookup(&mut exchange, "k2").status, OrderStatus::Filled);
    assert_eq!(hits(&exchange, FaultKind::IgnoreValidUntil), 1);
}

#[test]
fn a_promise_that_is_not_tested_is_not_broken() {
    let mut exchange = broker_of(Profile::Full);
    fault(&mut exchange, "k1", FaultKind::ForgetKey, Call::Submit, 0);
    submit(&mut exchange, &market("k1", "AAPL", "1"));
    let tally = exchange.fault_tallies().get(&FaultKind::ForgetKey).copied().unwrap();
    assert_eq!((tally.armed, tally.hits), (1, 0), "a drill sees that its fault never struck");
}

#[test]
fn a_fill_comes_again_under_another_id_or_none() {
    for (kind, detail) in [(FaultKind::DuplicateFillNewId, true), (FaultKind::DuplicateFillNoId, false)] {
        let mut exchange = broker_of(Profile::Full);
        fault(&mut exchange, "k1", kind, Call::Submit, 100);
        submit(&mut exchange, &market("k1", "AAPL", "4"));
        exchange.advance(NOON + Duration::SECOND);
        let told = events_of(&exchange, "k1");
        let [.., first, second] = told.as_slice() else { panic!("two fills") };
        assert_eq!(second.execution_id.is_some(), detail);
        assert_ne!(first.execution_id, second.execution_id);
        assert_eq!((first.qty, first.price), (second.qty, second.price));
        assert_eq!(first.order.filled_qty, second.order.filled_qty, "the cumulative quantity tells the truth");
        assert_eq!((exchange.executions().len(), hits(&exchange, kind)), (1, 1));
        let stored = exchange.read_events(0, usize::MAX);
        assert!(stored.iter().any(|event| event.fact.detail != Detail::Whole));
    }
}
