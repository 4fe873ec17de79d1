//! Every kind of reply lands in its class, and nothing that is not the broker's own word counts.

use super::*;
use crate::application::wire::{WireFailure, WireReply};
use crate::domain::order::tests::terms;
use crate::domain::outcome::Refusal;
use contracts::{OrderId, Partition};
use time::macros::datetime;
use uuid::Uuid;

fn key() -> BrokerKey {
    BrokerKey::new(Partition::new(7).unwrap(), OrderId::new(Uuid::from_u128(7)))
}

fn alpaca() -> Alpaca {
    Alpaca::new("acct-1", true)
}

fn reply(status: u16, body: &str) -> WireResult {
    Ok(WireReply { status, retry_after: None, body: body.as_bytes().to_vec() })
}

fn order(key: &str) -> String {
    format!(
        r#"{{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","client_order_id":"{key}","symbol":"AAPL","qty":"2",
        "filled_qty":"0.5","type":"limit","side":"buy","time_in_force":"day","limit_price":"10.5","status":"partially_filled"}}"#
    )
}

#[test]
fn equal_orders_are_equal_bytes_and_carry_key_and_validity() {
    let terms = terms();
    let order = CreateOrder { key: key(), terms: &terms, valid_until: Some(datetime!(2026-07-01 14:30:00 UTC)) };
    let request = alpaca().create(order).unwrap();
    assert_eq!(request, alpaca().create(order).unwrap());
    assert_eq!(request.target, "/v1/trading/accounts/acct-1/orders");
    assert_eq!(
        request.body.as_deref().unwrap(),
        format!(
            r#"{{"symbol":"AAPL","qty":"2","side":"buy","type":"limit","time_in_force":"day","limit_price":"10.5","client_order_id":"{}","extended_hours":false,"valid_until":"2026-07-01T14:30:00Z"}}"#,
            key()
        )
    );
    let later = CreateOrder { valid_until: Some(datetime!(2026-07-01 14:30:01 UTC)), ..order };
    assert_ne!(request.hash(), alpaca().create(later).unwrap().hash());
}

#[test]
fn an_id_from_a_broker_cannot_change_the_path() {
    let id = BrokerOrderId::new("a/../b?c#d e").unwrap();
    assert_eq!(alpaca().cancel(&id).target, "/v1/trading/accounts/acct-1/orders/a%2F..%2Fb%3Fc%23d%20e");
}

#[test]
fn an_order_in_the_reply_is_accepted() {
    let CreateOutcome::Accepted(seen) = alpaca().read_create(key(), &reply(200, &order(&key().to_string()))) else {
        panic!("not accepted")
    };
    assert_eq!(seen.difference(&terms()), None);
    assert_eq!(seen.status, "partially_filled");
    assert!(!seen.is_terminal);
}

#[test]
fn whatever_is_no_answer_is_an_unknown_outcome() {
    let whole = order(&key().to_string());
    let half = whole.get(..whole.len() / 2).unwrap();
    let error = r#"{"code":40010001,"message":"qty is required"}"#;
    let cases = [
        reply(200, "<html><body>welcome</body></html>"),
        reply(200, ""),
        reply(200, "{}"),
        reply(200, half),
        reply(200, &order("r07-somebody-else")),
        reply(204, ""),
        reply(301, ""),
        reply(307, &whole),
        reply(308, ""),
        reply(408, error),
        reply(500, error),
        reply(502, "<html>bad gateway</html>"),
        reply(503, r#"{"code":50310000,"message":"x"}"#),
        reply(504, ""),
        reply(404, r#"{"code":40410000,"message":"account not found"}"#),
        reply(409, r#"{"code":40910000,"message":"x"}"#),
        // Not the broker's own words.
        reply(401, r#"{"message":"forbidden."}"#),
        reply(403, "<html>forbidden</html>"),
        reply(403, r#"{"code":403,"message":"Forbidden"}"#),
        reply(422, r#"{"message":"no code"}"#),
        reply(422, r#"{"code":50010000,"message":"code of another family"}"#),
        Err(WireFailure::Broken { reason: "timeout".to_owned() }),
    ];
    for case in cases {
        let outcome = alpaca().read_create(key(), &case);
        assert!(matches!(outcome, CreateOutcome::Unknown { .. }), "{case:?} became {outcome:?}");
    }
}

#[test]
fn the_brokers_own_refusals_are_rejections() {
    for (status, code) in [(403, 40_310_000), (422, 42_210_000), (422, 40_010_001), (400, 40_010_001)] {
        let body = format!(r#"{{"code":{code},"message":"no"}}"#);
        let outcome = alpaca().read_create(key(), &reply(status, &body));
        let refusal = Refusal { code: i64::from(code), message: "no".to_owned() };
        assert_eq!(outcome, CreateOutcome::Rejected(refusal), "{status}");
    }
}

#[test]
fn a_key_that_is_not_taken_refuses_no_order() {
    let outcome = alpaca().read_create(key(), &reply(401, r#"{"code":40110000,"message":"no"}"#));
    assert!(matches!(outcome, CreateOutcome::NotSent { .. }), "{outcome:?}");
}

#[test]
fn a_brokers_endless_message_is_cut_and_loses_its_control_characters() {
    let body = format!(r#"{{"code":42210000,"message":"a\u0000{}"}}"#, "x".repeat(70_000));
    let CreateOutcome::Rejected(refusal) = alpaca().read_create(key(), &reply(422, &body)) else {
        panic!("not a rejection");
    };
    assert!(refusal.message.starts_with("a x") && refusal.message.len() <= 500);
}

#[test]
fn an_answer_about_another_order_is_unknown_unless_the_broker_takes_no_key() {
    let other = reply(200, &order("another"));
    let outcome = alpaca().read_create(key(), &other);
    assert!(matches!(outcome, CreateOutcome::Unknown { .. }), "{outcome:?}");
    let outcome = alpaca().without_keys().read_create(key(), &other);
    assert!(matches!(outcome, CreateOutcome::Accepted(_)), "{outcome:?}");
}

#[test]
fn a_duplicate_is_told_by_code_and_message() {
    let body = r#"{"code":40010001,"message":"client_order_id must be unique"}"#;
    assert_eq!(alpaca().read_create(key(), &reply(422, body)), CreateOutcome::Duplicate);
}

#[test]
fn only_a_connection_that_was_never_made_is_proof_that_nothing_left() {
    let refused = Err(WireFailure::NotConnected { reason: "connection refused".to_owned() });
    assert!(matches!(alpaca().read_create(key(), &refused), CreateOutcome::NotSent { .. }));
}

#[test]
fn a_429_is_unprocessed_only_where_the_broker_says_so() {
    assert!(matches!(alpaca().read_create(key(), &reply(429, "")), CreateOutcome::RateLimited { .. }));
    let undocumented = Alpaca::new("acct-1", false);
    assert!(matches!(undocumented.read_create(key(), &reply(429, "")), CreateOutcome::Unknown { .. }));
}

#[test]
fn none_is_only_a_404_with_the_brokers_own_code() {
    let own = reply(404, r#"{"code":40410000,"message":"order not found"}"#);
    assert_eq!(alpaca().read_lookup(key(), &own), LookupOutcome::None);
    for body in ["", "<html>404</html>", r#"{"message":"not found"}"#, r#"{"code":404,"message":"no route"}"#] {
        let outcome = alpaca().read_lookup(key(), &reply(404, body));
        assert!(matches!(outcome, LookupOutcome::Unknown { .. }), "{body:?} became {outcome:?}");
    }
    let found = alpaca().read_lookup(key(), &reply(200, &order(&key().to_string())));
    assert!(matches!(found, LookupOutcome::Found(_)));
    let other = alpaca().read_lookup(key(), &reply(200, &order("r07-x")));
    assert!(matches!(other, LookupOutcome::Unknown { .. }));
}

#[test]
fn a_cancel_reply_is_an_answer_to_the_request_only() {
    assert_eq!(alpaca().read_cancel(&reply(204, "")), CancelOutcome::Requested);
    let refused = alpaca().read_cancel(&reply(422, r#"{"code":42210000,"message":"not cancelable"}"#));
    assert!(matches!(refused, CancelOutcome::Refused(Refusal { code: 42_210_000, .. })));
    let gone = alpaca().read_cancel(&reply(404, r#"{"code":40410000,"message":"order not found"}"#));
    assert_eq!(gone, CancelOutcome::NotFound);
    for (status, body) in [(404, "<html>"), (500, ""), (422, "")] {
        let outcome = alpaca().read_cancel(&reply(status, body));
        assert!(matches!(outcome, CancelOutcome::Unknown { .. }), "{status} became {outcome:?}");
    }
}

#[test]
fn any_bytes_are_classified_without_a_panic() {
    proptest::proptest!(|(status in 100u16..600, body in proptest::collection::vec(proptest::num::u8::ANY, 0..200))| {
        let result = Ok(WireReply { status, retry_after: None, body });
        let _ = alpaca().read_create(key(), &result);
        let _ = alpaca().read_lookup(key(), &result);
        let _ = alpaca().read_cancel(&result);
    });
}
