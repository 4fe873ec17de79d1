//! The exchange under a clock of the test's own.

mod afterwards;
mod faults;
mod promises;
mod replacing;
mod restarts;
mod stories;

use contracts::alpaca::{ApiError, OrderEntity, OrderStatus, TradeEvent, TradeEventKind};
use contracts::calendar::{MarketHours, Pace};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Exchange, ExchangeSettings};
use crate::broker::bars::Bars;
use crate::broker::fault::{Call, FaultKind, FaultRule, FaultSpec};
use crate::broker::profile::Profile;
use crate::broker::reply::Reply;

const ACCOUNT: &str = "a7e7c1f2-0000-4000-8000-000000000001";
/// A Wednesday at noon in New York.
const NOON: OffsetDateTime = datetime!(2026-07-01 12:00 -4);

fn settings(seed: u64) -> ExchangeSettings {
    ExchangeSettings {
        seed,
        profile: Profile::Full,
        key_window_ms: 600_000,
        account_ids: vec![ACCOUNT.to_owned()],
        cash: Decimal::from(1_000_000),
        checks_funds: false,
        market_hours: MarketHours::Always,
        pace: Pace::real(),
        bars: Bars::default(),
        events_retained_max: 10_000,
        state_file: None,
    }
}

/// An exchange whose orders fill in one part.
fn exchange(seed: u64) -> Exchange {
    let mut exchange = Exchange::open(&settings(seed), NOON).unwrap();
    exchange.advance(NOON);
    exchange.configure(json!({"partial_probability": "0", "cancel_delay_ms": 0})).unwrap();
    exchange
}

fn market(key: &str, symbol: &str, qty: &str) -> Value {
    json!({"symbol": symbol, "qty": qty, "side": "buy", "type": "market", "time_in_force": "day",
           "client_order_id": key})
}

fn limit(key: &str, symbol: &str, qty: &str, price: &str) -> Value {
    json!({"symbol": symbol, "qty": qty, "side": "buy", "type": "limit", "time_in_force": "day",
           "limit_price": price, "client_order_id": key})
}

fn submit(exchange: &mut Exchange, order: &Value) -> Reply {
    exchange.submit(ACCOUNT, order.to_string().as_bytes())
}

fn entity(reply: &Reply) -> OrderEntity {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    serde_json::from_slice(&reply.body).unwrap()
}

fn refusal(reply: &Reply) -> (u16, u32, String) {
    let error: ApiError = serde_json::from_slice(&reply.body).unwrap();
    (reply.status, error.code, error.message)
}

fn lookup(exchange: &mut Exchange, key: &str) -> OrderEntity {
    let reply = exchange.order_by_key(ACCOUNT, key);
    entity(&reply)
}

fn events(exchange: &Exchange) -> Vec<TradeEvent> {
    exchange.read_events(0, usize::MAX).iter().map(|event| event.entity()).collect()
}

fn events_of(exchange: &Exchange, key: &str) -> Vec<TradeEvent> {
    events(exchange).into_iter().filter(|event| event.order.client_order_id == key).collect()
}

fn kinds(events: &[TradeEvent]) -> Vec<&str> {
    // Acknowledgements come in three forms; only the last word matters here.
    let dull = ["pending_new", "accepted"];
    events.iter().map(|event| event.event.as_str()).filter(|kind| !dull.contains(kind)).collect()
}

fn fault(exchange: &mut Exchange, key: &str, kind: FaultKind, on: Call, delay_ms: u64) {
    exchange.add_fault(FaultRule::once(key, on, FaultSpec::new(kind, delay_ms, true))).unwrap();
}

fn hits(exchange: &Exchange, kind: FaultKind) -> u64 {
    exchange.fault_tallies().get(&kind).map_or(0, |tally| tally.hits)
}

#[test]
fn market_order_is_acknowledged_as_new_and_filled_at_once() {
    let mut exchange = exchange(1);
    let reply = submit(&mut exchange, &market("k1", "AAPL", "3"));
    assert_eq!(entity(&reply).status, OrderStatus::New);
    assert_eq!(entity(&reply).filled_qty, Decimal::ZERO);
    let order = lookup(&mut exchange, "k1");
    assert_eq!((order.status, order.filled_qty), (OrderStatus::Filled, Decimal::from(3)));
    assert_eq!(order.filled_avg_price, Some(Decimal::new(18_712, 2)));
    let told = events_of(&exchange, "k1");
    assert_eq!(kinds(&told), ["new", "fill"]);
    let fill = told.last().unwrap();
    assert_eq!((fill.qty, fill.price), (Some(Decimal::from(3)), Some(Decimal::new(18_712, 2))));
    assert_eq!(fill.order.filled_qty, Decimal::from(3));
    assert_eq!(fill.position_qty, Some(Decimal::from(3)));
}

#[test]
fn parts_add_up_and_every_event_carries_the_cumulative_quantity() {
    let mut exchange = exchange(1);
    exchange.configure(json!({"partial_probability": "1", "partial_gap_ms": 20})).unwrap();
    for qty in ["7", "2.123456789", "0.000000002"] {
        submit(&mut exchange, &market(qty, "KO", qty));
        for _ in 0..4 {
            exchange.advance(exchange.clock + Duration::seconds(1));
        }
        let fills: Vec<_> = events_of(&exchange, qty).into_iter().filter(|event| event.qty.is_some()).collect();
        assert!((2..=4).contains(&fills.len()) || qty == "2.123456789" && !fills.is_empty(), "{}", fills.len());
        let mut cumulative = Decimal::ZERO;
        for fill in &fills {
            cumulative += fill.qty.unwrap();
            assert_eq!(fill.order.filled_qty, cumulative);
            let last = cumulative == qty.parse::<Decimal>().unwrap();
            assert_eq!(fill.event == TradeEventKind::Fill, last);
        }
        assert_eq!(lookup(&mut exchange, qty).status, OrderStatus::Filled);
    }
}

#[test]
fn limit_order_rests_until_the_path_crosses_and_never_fills_beyond_its_limit() {
    let mut exchange = exchange(3);
    submit(&mut exchange, &limit("k1", "TSLA", "5", "248.00"));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::New);
    for _ in 0..200_000 {
        exchange.tick();
        if exchange.open_len() == 0 {
            break;
        }
    }
    let order = lookup(&mut exchange, "k1");
    assert_eq!(order.status, OrderStatus::Filled);
    assert!(order.filled_avg_price.unwrap() <= Decimal::from(248));
}

#[test]
fn client_order_id_is_taken_for_ever() {
    let mut exchange = exchange(1);
    submit(&mut exchange, &limit("k1", "AAPL", "1", "1.00"));
    let first = lookup(&mut exchange, "k1").id;
    let duplicate = (422, 40_010_001, "client_order_id must be unique".to_owned());
    assert_eq!(refusal(&submit(&mut exchange, &limit("k1", "AAPL", "1", "1.00"))), duplicate);
    assert_eq!(exchange.cancel(ACCOUNT, first).status, 204);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Canceled);
    assert_eq!(refusal(&submit(&mut exchange, &market("k1", "KO", "2"))), duplicate);
    assert_eq!(exchange.orders_len(), 1);
}

#[test]
fn cancel_ends_open_orders_only() {
    let mut exchange = exchange(1);
    exchange.configure(json!({"cancel_delay_ms": 10})).unwrap();
    let id = entity(&submit(&mut exchange, &limit("k1", "AAPL", "1", "1.00"))).id;
    assert_eq!(exchange.cancel(ACCOUNT, id).status, 204);
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::PendingCancel);
    assert_eq!(refusal(&exchange.cancel(ACCOUNT, id)).0, 422);
    exchange.advance(NOON + Duration::milliseconds(10));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Canceled);
    assert_eq!(kinds(&events_of(&exchange, "k1")), ["new", "canceled"]);
    let refused = exchange.cancel(ACCOUNT, id);
    assert_eq!(refusal(&refused), (422, 42_210_000, "order is already in \"canceled\" state".to_owned()));
    assert_eq!(refusal(&exchange.cancel(ACCOUNT, Uuid::nil())).1, 40_410_000);
}

#[test]
fn day_order_expires_at_the_close_and_gtc_does_not() {
    let mut exchange = exchange(1);
    submit(&mut exchange, &limit("day", "AAPL", "1", "1.00"));
    let mut gtc = limit("gtc", "AAPL", "1", "1.00");
    gtc["time_in_force"] = json!("gtc");
    submit(&mut exchange, &gtc);
    exchange.advance(NOON + Duration::hours(12) - Duration::seconds(1));
    assert_eq!(lookup(&mut exchange, "day").status, OrderStatus::New);
    exchange.advance(NOON + Duration::hours(12));
    assert_eq!(lookup(&mut exchange, "day").status, OrderStatus::Expired);
    assert_eq!(lookup(&mut exchange, "gtc").status, OrderStatus::New);
    assert_eq!(kinds(&events_of(&exchange, "day")), ["new", "expired"]);
    exchange.advance(NOON + Duration::days(100));
    assert_eq!(lookup(&mut exchange, "gtc").status, OrderStatus::Expired);
}

#[test]
fn order_out_of_hours_is_accepted_and_trades_from_the_opening() {
    let evening = datetime!(2026-07-02 18:00 -4);
    let monday = datetime!(2026-07-06 9:30 -4);
    let mut settings = settings(1);
    settings.market_hours = MarketHours::Real;
    let mut exchange = Exchange::open(&settings, evening).unwrap();
    exchange.advance(evening);
    let reply = submit(&mut exchange, &market("k1", "AAPL", "1"));
    assert_eq!(entity(&reply).status, OrderStatus::Accepted);
    assert_eq!(entity(&reply).expires_at, Some(datetime!(2026-07-06 16:00 -4)));
    exchange.tick();
    exchange.advance(monday - Duration::seconds(1));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Accepted);
    exchange.advance(monday);
    exchange.advance(monday + Duration::seconds(1));
    assert_eq!(lookup(&mut exchange, "k1").status, OrderStatus::Filled);
}

#[test]
fn what_breaks_a_rule_is_refused_and_leaves_the_key_free() {
    let mut exchange = exchange(1);
    let good = limit("k1", "AAPL", "1", "10.00");
    let cases = [
        ("qty", json!("0"), 40_010_001),
        ("qty", json!("-1"), 40_010_001),
        ("qty", json!("1.0000000001"), 40_010_001),
        ("qty", json!("1000000000"), 40_010_001),
        ("qty", json!("NaN"), 40_010_001),
        ("qty", json!(null), 40_010_001),
        ("side", json!("hold"), 40_010_001),
        ("type", json!("stop"), 40_010_001),
        ("type", json!("market"), 40_010_001),
        ("time_in_force", json!("fok"), 40_010_001),
        ("limit_price", json!(null), 40_010_001),
        ("limit_price", json!("0"), 40_010_001),
        ("limit_price", json!("10.001"), 42_210_000),
        ("limit_price", json!("0.12345"), 42_210_000),
        ("symbol", json!("NONE"), 42_210_000),
        ("client_order_id", json!("x".repeat(129)), 40_010_001),
    ];
    for (field, value, code) in cases {
        let mut order = good.clone();
        order[field] = value;
        let (status, told, message) = refusal(&submit(&mut exchange, &order));
        assert_eq!((status, told), (422, code), "{order} {message}");
    }
    assert_eq!(refusal(&exchange.submit(ACCOUNT, b"{")).0, 422);
    assert_eq!(refusal(&exchange.submit("other", good.to_string().as_bytes())).0, 403);
    assert_eq!(exchange.order_by_key(ACCOUNT, "k1").status, 404);
    assert_eq!(submit(&mut exchange, &good).status, 200);
}

#[test]
fn request_without_a_key_gets_one() {
    let mut exchange = exchange(1);
    let first = entity(&submit(&mut exchange, &market("", "AAPL", "1")));
    let second = entity(&submit(&mut exchange, &market("", "AAPL", "1")));
    assert_ne!(first.client_order_id, second.client_order_id);
    assert!(!first.client_order_id.is_empty());
}

#[test]
fn request_after_valid_until_is_refused_where_the_broker_honours_it() {
    let mut exchange = exchange(1);
    let mut order = market("k1", "AAPL", "1");
    order["valid_until"] = json!("2026-07-01T11:59:59-04:00");
    assert_eq!(refusal(&submit(&mut exchange, &order)).1, 42_210_000);
    exchange.configure(json!({"honours_valid_until": false})).unwrap();
    assert_eq!(submit(&mut exchange, &order).status, 200);
}

#[test]
fn lists_show_what_was_asked_for() {
    use super::{ListFilter, ListStatus};
    let mut exchange = exchange(1);
    for n in 0..6 {
        submit(&mut exchange, &limit(&format!("o{n}"), if n % 2 == 0 { "AAPL" } else { "KO" }, "1", "1.00"));
        exchange.advance(exchange.clock + Duration::seconds(1));
    }
    submit(&mut exchange, &market("done", "F", "1"));
    let mut keys = |filter: &ListFilter| -> Vec<String> {
        let orders: Vec<OrderEntity> = serde_json::from_slice(&exchange.list(ACCOUNT, filter).body).unwrap();
        orders.into_iter().map(|order| order.client_order_id).collect()
    };
    let filter = ListFilter { limit: 2, ..ListFilter::default() };
    assert_eq!(keys(&filter), ["o5", "o4"]);
    let filter = ListFilter { limit: 50, ascending: true, symbols: vec!["KO".to_owned()], ..ListFilter::default() };
    assert_eq!(keys(&filter), ["o1", "o3", "o5"]);
    let filter = ListFilter { limit: 50, status: ListStatus::Closed, ..ListFilter::default() };
    assert_eq!(keys(&filter), ["done"]);
    let after = Some(NOON + Duration::seconds(3));
    let filter = ListFilter { limit: 50, after, status: ListStatus::All, ..ListFilter::default() };
    assert_eq!(keys(&filter), ["done", "o5", "o4"]);
}
