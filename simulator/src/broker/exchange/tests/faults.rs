//! One guarantee a kind of fault.

use std::collections::HashSet;

use super::*;
use crate::broker::fact::Shown;
use crate::broker::reply::Delivery;

const SECOND: Duration = Duration::seconds(1);

#[test]
fn drop_before_receipt_has_no_effect() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::DropBeforeReceipt, Call::Submit, 0);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).delivery, Delivery::HangUp);
    assert_eq!((exchange.orders_len(), events(&exchange).len()), (0, 0));
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).status, 200);
    assert_eq!(hits(&exchange, FaultKind::DropBeforeReceipt), 1);
}

#[test]
fn drop_reply_takes_the_order() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::DropReply, Call::Submit, 0);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).delivery, Delivery::HangUp);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Filled);
}

#[test]
fn recorded_late_takes_the_key_but_hides_the_order_meanwhile() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::RecordLate, Call::Submit, 500);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).delivery, Delivery::HangUp);
    assert_eq!(refusal(&exchange.order_by_key(ACCOUNT, "k1")).1, 40_410_000);
    let (status, _, message) = refusal(&submit(&mut exchange, &market("k1", "AAPL", "1")));
    assert_eq!((status, message.as_str()), (422, "client_order_id must be unique"));
    assert!(events(&exchange).is_empty());
    exchange.advance(NOON + Duration::milliseconds(499));
    assert_eq!(exchange.order_by_key(ACCOUNT, "k1").status, 404);
    exchange.advance(NOON + Duration::milliseconds(500));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Filled);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new", "fill"]);
}

#[test]
fn arriving_late_leaves_the_key_free_until_then() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::ArriveLate, Call::Submit, 500);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "1")).delivery, Delivery::HangUp);
    assert_eq!(exchange.orders_len(), 0);
    exchange.advance(NOON + SECOND);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Filled);

    fault(&mut exchange, "k2", FaultKind::ArriveLate, Call::Submit, 500);
    submit(&mut exchange, &market("k2", "AAPL", "1"));
    assert_eq!(submit(&mut exchange, &market("k2", "AAPL", "1")).status, 200);
    exchange.advance(NOON + SECOND * 3);
    assert_eq!(exchange.orders_len(), 2, "the late one is a duplicate");
}

#[test]
fn arriving_after_valid_until_makes_no_order() {
    let mut exchange = exchange(1);
    let mut order = market("k1", "AAPL", "1");
    order["valid_until"] = json!("2026-07-01T12:00:00.400-04:00");
    fault(&mut exchange, "k1", FaultKind::ArriveLate, Call::Submit, 500);
    submit(&mut exchange, &order);
    exchange.advance(NOON + SECOND);
    assert_eq!(exchange.orders_len(), 0);
}

#[test]
fn server_errors_come_before_or_after_the_effect() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::ErrorBeforeEffect, Call::Submit, 2);
    let reply = submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!((reply.status, exchange.orders_len()), (503, 0));
    fault(&mut exchange, "k1", FaultKind::ErrorAfterEffect, Call::Submit, 3);
    let reply = submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!((reply.status, exchange.orders_len()), (504, 1));
}

#[test]
fn refusals_have_no_effect() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::RateLimited, Call::Submit, 0);
    assert_eq!(refusal(&submit(&mut exchange, &market("k1", "AAPL", "1"))).0, 429);
    fault(&mut exchange, "k1", FaultKind::Reject, Call::Submit, 0);
    let (status, code, _) = refusal(&submit(&mut exchange, &market("k1", "AAPL", "1")));
    assert_eq!((status, code), (403, 40_310_000));
    assert_eq!(exchange.orders_len(), 0);
}

#[test]
fn garbled_replies_carry_the_request_out_where_asked_to() {
    let mut exchange = exchange(1);
    let cases = [
        (FaultKind::Nonsense, Delivery::Send),
        (FaultKind::Html, Delivery::Html),
        (FaultKind::HalfBody, Delivery::HalfBody),
        (FaultKind::NeverAnswer, Delivery::NeverAnswer(60_000)),
    ];
    for (kind, delivery) in cases {
        let key = kind.as_str();
        fault(&mut exchange, key, kind, Call::Submit, 0);
        let reply = submit(&mut exchange, &market(key, "AAPL", "1"));
        assert_eq!(reply.delivery, delivery, "{key}");
        assert!(serde_json::from_slice::<OrderEntity>(&reply.body).is_err() || kind != FaultKind::Nonsense);
        assert_eq!(lookup(&mut exchange, key).status, OrderStatus::Filled);
    }
}

#[test]
fn slow_reply_is_carried_out_at_once() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::SlowReply, Call::Submit, 700);
    let reply = submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!((reply.delivery, reply.status), (Delivery::SendAfter(700), 200));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Filled);
}

#[test]
fn duplicate_fill_repeats_the_execution_under_a_new_cursor() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::DuplicateFill, Call::Submit, 100);
    submit(&mut exchange, &market("k1", "AAPL", "4"));
    exchange.advance(NOON + SECOND);
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "fill", "fill"]);
    let [.., first, second] = told.as_slice() else { panic!("two fills") };
    assert!(second.event_id > first.event_id);
    let same = TradeEvent { event_id: first.event_id.clone(), at: first.at, ..second.clone() };
    assert_eq!(*first, same, "only the cursor differs");
    assert_eq!(exchange.executions().len(), 1);
}

#[test]
fn fill_before_ack_tells_the_fill_before_the_reply_goes_out() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::FillBeforeAck, Call::Submit, 300);
    let reply = submit(&mut exchange, &limit("k1", "AAPL", "4", "100.00"));
    assert_eq!(reply.delivery, Delivery::SendAfter(300));
    assert_eq!(entity(&reply).filled_qty, Decimal::ZERO);
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "fill"]);
    assert_eq!(told.last().unwrap().price, Some(Decimal::from(100)));
}

#[test]
fn identical_partials_are_two_executions() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::IdenticalPartials, Call::Submit, 0);
    submit(&mut exchange, &market("k1", "AAPL", "4"));
    let fills: Vec<_> = events_of(&exchange, "k1").into_iter().filter(|event| event.qty.is_some()).collect();
    let [first, second] = fills.as_slice() else { panic!("two fills") };
    assert_eq!((first.qty, first.price, first.timestamp), (second.qty, second.price, second.timestamp));
    assert_ne!(first.execution_id, second.execution_id);
    assert_eq!(hits(&exchange, FaultKind::IdenticalPartials), 1);
}

#[test]
fn reordered_events_come_after_the_one_that_followed() {
    let mut exchange = exchange(1);
    let key = (0..).map(|n| format!("k{n}")).find(|key| {
        let mut probe = super::exchange(1);
        submit(&mut probe, &market(key, "AAPL", "1"));
        events(&probe).len() == 2
    });
    let key = key.unwrap();
    fault(&mut exchange, &key, FaultKind::ReorderEvents, Call::Submit, 200);
    submit(&mut exchange, &market(&key, "AAPL", "1"));
    let told = events_of(&exchange, &key);
    assert_eq!(kinds(&told), ["fill", "new"]);
    assert_eq!(told[1].order.filled_qty, Decimal::ZERO, "the older state comes later");
    exchange.advance(NOON + SECOND);
    assert_eq!(events_of(&exchange, &key).len(), 2);
    assert_eq!(hits(&exchange, FaultKind::ReorderEvents), 1);
}

#[test]
fn held_event_with_no_successor_is_told_after_a_while() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::ReorderEvents, Call::Submit, 200);
    submit(&mut exchange, &limit("k1", "AAPL", "1", "1.00"));
    exchange.advance(NOON + SECOND);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new"]);
}

#[test]
fn fill_after_cancel_is_followed_by_canceled_with_the_cumulative_quantity() {
    let mut exchange = exchange(1);
    let id = entity(&submit(&mut exchange, &limit("k1", "AAPL", "10", "1.00"))).id;
    fault(&mut exchange, "k1", FaultKind::FillAfterCancel, Call::Cancel, 100);
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
    exchange.advance(NOON + SECOND);
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "partial_fill", "canceled"]);
    assert_eq!(told.last().unwrap().order.filled_qty, Decimal::from(5));
    assert_eq!(told.last().unwrap().order.status, OrderStatus::Canceled);
}

#[test]
fn refused_cancel_leaves_the_order_open() {
    let mut exchange = exchange(1);
    let id = entity(&submit(&mut exchange, &limit("k1", "AAPL", "10", "1.00"))).id;
    fault(&mut exchange, "k1", FaultKind::CancelRefused, Call::Cancel, 0);
    assert_eq!(refusal(&exchange.cancel(ACCOUNT, id)).1, 42_210_000);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::New);
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
}

#[test]
fn late_rejection_follows_an_acceptance() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::RejectLate, Call::Submit, 100);
    assert_eq!(submit(&mut exchange, &market("k1", "AAPL", "10")).status, 200);
    exchange.advance(NOON + SECOND);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new", "rejected"]);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Rejected);
}

#[test]
fn foreign_order_appears_beside_ours() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::ForeignOrder, Call::Submit, 0);
    submit(&mut exchange, &market("k1", "AAPL", "10"));
    let keys: HashSet<String> = events(&exchange).into_iter().map(|event| event.order.client_order_id).collect();
    assert_eq!((keys.len(), exchange.orders_len()), (2, 2));
    assert!(exchange.orders()[1].terms.foreign);
}

#[test]
fn lost_and_dropped_events_are_only_in_replays() {
    let mut exchange = exchange(1);
    fault(&mut exchange, "k1", FaultKind::LostEvent, Call::Submit, 0);
    submit(&mut exchange, &market("k1", "AAPL", "1"));
    exchange.drop_from_streams(1);
    submit(&mut exchange, &limit("k2", "AAPL", "1", "1.00"));
    let shown: Vec<_> = exchange.read_events(0, 100).iter().map(|event| event.fact.shown).collect();
    assert_eq!(shown.iter().filter(|shown| **shown == Shown::LostLive).count(), 1);
    assert_eq!(shown.iter().filter(|shown| **shown == Shown::DroppedLive).count(), 1);
}

#[test]
fn lookups_and_cancels_fail_like_orders_do() {
    let mut exchange = exchange(1);
    let id = entity(&submit(&mut exchange, &limit("k1", "AAPL", "10", "1.00"))).id;
    fault(&mut exchange, "k1", FaultKind::ErrorBeforeEffect, Call::Lookup, 0);
    assert_eq!(exchange.order_by_key(ACCOUNT, "k1").status, 500);
    fault(&mut exchange, "k1", FaultKind::DropReply, Call::Cancel, 0);
    assert_eq!(exchange.cancel(ACCOUNT, id).delivery, Delivery::HangUp);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Canceled);
}

#[test]
fn stream_reset_is_drawn_once_an_event() {
    let mut exchange = exchange(1);
    exchange.configure(json!({"stream": {"stream_reset": 1}})).unwrap();
    submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!(exchange.resets(), exchange.head());
}
