//! Replacing an order's terms.

use super::*;

const SECOND: Duration = Duration::SECOND;

fn replace(exchange: &mut Exchange, id: Uuid, body: &Value) -> Reply {
    exchange.replace(ACCOUNT, id, body.to_string().as_bytes())
}

#[test]
fn a_new_order_takes_the_place_of_the_old_one() {
    let mut exchange = exchange(1);
    let old = entity(&submit(&mut exchange, &limit("k1", "AAPL", "4", "1.00"))).id;
    let made = entity(&replace(&mut exchange, old, &json!({"qty": 6, "limit_price": "2.00", "client_order_id": "k2"})));
    assert_ne!(made.id, old);
    assert_eq!((made.replaces, made.qty, made.limit_price), (Some(old), Some(Decimal::from(6)), Some(Decimal::TWO)));
    let before = lookup(&mut exchange, "k1");
    assert_eq!((before.status, before.replaced_by), (OrderStatus::Replaced, Some(made.id)));
    assert_eq!(lookup(&mut exchange, "k2").status, OrderStatus::New);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new", "replaced"]);
    assert_eq!(exchange.open_len(), 1);
    let refused = replace(&mut exchange, old, &json!({"qty": 7}));
    assert_eq!(refusal(&refused).1, 42_210_000, "an order that was replaced cannot be replaced again");
}

#[test]
fn a_replacement_is_for_what_is_not_filled_of_the_new_total() {
    let mut exchange = exchange(1);
    let old = entity(&submit(&mut exchange, &limit("k1", "AAPL", "10", "1.00"))).id;
    exchange.backfill("k1", Some(Decimal::from(4)), Some(Decimal::ONE), NOON).unwrap();
    assert_eq!(refusal(&replace(&mut exchange, old, &json!({"qty": "4"}))).0, 422);
    let made = entity(&replace(&mut exchange, old, &json!({"qty": "7"})));
    assert_eq!(made.qty, Some(Decimal::from(3)));
    assert_eq!(lookup(&mut exchange, "k1").filled_qty, Decimal::from(4));
}

#[test]
fn an_old_order_that_fills_first_gets_the_new_one_rejected() {
    for (kind, end) in
        [(FaultKind::FillBeforeReplace, OrderStatus::Filled), (FaultKind::ReplaceRejectedLate, OrderStatus::New)]
    {
        let mut exchange = exchange(1);
        let old = entity(&submit(&mut exchange, &limit("k1", "AAPL", "4", "1.00"))).id;
        fault(&mut exchange, "k1", kind, Call::Replace, 100);
        let made = replace(&mut exchange, old, &json!({"qty": 6, "client_order_id": "k2"}));
        assert_eq!(made.status, 200, "the answer is no proof");
        assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::PendingReplace);
        exchange.advance(NOON + SECOND);
        assert_eq!(lookup(&mut exchange, "k1").status, end);
        assert_eq!(lookup(&mut exchange, "k2").status, OrderStatus::Rejected);
        assert_eq!(events_of(&exchange, "k1").last().unwrap().event, TradeEventKind::OrderReplaceRejected);
        assert_eq!(hits(&exchange, kind), 1);
    }
}

#[test]
fn a_replacement_shares_the_keys_and_can_lose_its_reply() {
    let mut exchange = exchange(1);
    let old = entity(&submit(&mut exchange, &limit("k1", "AAPL", "4", "1.00"))).id;
    submit(&mut exchange, &limit("taken", "AAPL", "4", "1.00"));
    let refused = replace(&mut exchange, old, &json!({"client_order_id": "taken", "qty": 5}));
    assert_eq!(refusal(&refused).1, 40_010_001);
    fault(&mut exchange, "k1", FaultKind::DropReply, Call::Replace, 0);
    let lost = replace(&mut exchange, old, &json!({"client_order_id": "k2", "qty": 5}));
    assert_eq!(lost.delivery, crate::broker::reply::Delivery::HangUp);
    assert_eq!(lookup(&mut exchange, "k2").replaces, Some(old));
}

#[test]
fn a_replacement_that_is_cancelled_under_way_stays_cancelled_and_the_old_order_works_on() {
    let mut exchange = exchange(1);
    let old = entity(&submit(&mut exchange, &limit("k1", "AAPL", "4", "1.00"))).id;
    exchange.configure(json!({"cancel_delay_ms": 500})).unwrap();
    let made = entity(&replace(&mut exchange, old, &json!({"limit_price": "999.00", "client_order_id": "k2"}))).id;
    exchange.configure(json!({"cancel_delay_ms": 0})).unwrap();
    assert_eq!(exchange.cancel(ACCOUNT, made).status, 204);
    exchange.advance(NOON + SECOND);
    assert_eq!(lookup(&mut exchange, "k2").status, OrderStatus::Canceled);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::New);
    assert!(exchange.executions().is_empty());
}
