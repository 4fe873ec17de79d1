//! Whose work a request is: one task's, once, also over crashes and copies.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order, PATIENCE, kinds, settings};
use contracts::AccountId;
use contracts::event::{OrdersEvent, Producer};
use platform::testing::eventually;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn two_gateways_claim_each_request_once() {
    let broker = TestBroker::start().await;
    let mut settings = settings(&broker.url());
    settings.lane.claim_len_max = 7;
    let gateway = Gateway::new(settings).await;
    let lanes = [gateway.start(), gateway.start()];
    let accounts: Vec<AccountId> = (0..20).map(|_| AccountId::new(Uuid::new_v4())).collect();
    let orders: Vec<Order> = (0..300).map(|n| Order::of(accounts[n % 20])).collect();
    let events: Vec<_> = orders.iter().map(|order| (order.account, order.id, order.submit())).collect();
    gateway.take_in(Producer::OrderCore, events).await;
    for order in &orders {
        gateway.until_told(order, "gateway.acknowledged").await;
    }
    for lane in lanes {
        lane.stop().await;
    }
    let mut by_key: HashMap<String, u32> = HashMap::new();
    for seen in broker.creates() {
        *by_key.entry(seen.body).or_default() += 1;
    }
    assert_eq!(by_key.len(), 300);
    assert!(by_key.values().all(|times| *times == 1), "a request went out twice");
    for order in &orders {
        assert_eq!(kinds(&gateway.told(order).await), ["gateway.acknowledged"]);
    }
}

#[tokio::test]
async fn a_crash_between_attempt_and_socket_never_sends_again_blindly() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.plant_open_attempt(&order, 200).await;
    let lane = gateway.start();
    // The attempt's owner could still bring a result: nobody touches it.
    assert_eq!(broker.asks() + broker.creates().len(), 0);
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.acknowledged"]);
    let story = gateway.story(&order).await;
    assert_eq!(story.attempts[0].outcome.as_deref(), Some("unknown"));
    assert!(story.attempts[0].ended_at.unwrap() >= story.attempts[0].give_up_at);
    assert!(!story.lookups.is_empty(), "asked first");
    assert_eq!((broker.creates().len(), broker.orders_len()), (1, 1));
}

#[tokio::test]
async fn a_crash_after_the_socket_finds_the_order_by_its_key() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.plant_open_attempt(&order, 5000).await;
    let body = serde_json::json!({"symbol": "AAPL", "qty": "2", "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "10.5"});
    broker.plant(&order.key().to_string(), &body);
    let lane = gateway.start();
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.acknowledged"]);
    assert_eq!(broker.creates().len(), 0);
}

#[tokio::test]
async fn further_attempts_with_other_bytes_are_never_sent() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.plant_open_attempt(&order, 5000).await;
    sqlx::query("update attempts set bytes_hash = sha256('other'::bytea)")
        .execute(&gateway.database.pool)
        .await
        .unwrap();
    let lane = gateway.start();
    gateway.until_told(&order, "gateway.manual").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 0);
}

#[tokio::test]
async fn a_stop_waits_for_calls_under_way_and_records_them() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::EffectThenHang]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    assert!(eventually(PATIENCE, || async { broker.creates().len() == 1 }).await);
    lane.stop().await;
    let story = gateway.story(&order).await;
    assert_eq!(story.attempts[0].outcome.as_deref(), Some("unknown"));
    assert_eq!(kinds(&gateway.told(&order).await), ["gateway.in_doubt"]);
}

#[tokio::test]
async fn a_rate_of_zero_sends_nothing_until_it_is_raised() {
    let broker = TestBroker::start().await;
    let mut settings = settings(&broker.url());
    settings.lane.rate_per_s = 0;
    let looks = Duration::from_millis(settings.lane.poll_interval_ms * 4);
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start();
    let account = AccountId::new(Uuid::new_v4());
    let orders = [Order::of(account), Order::of(account), Order::of(account)];
    let events: Vec<(AccountId, _, OrdersEvent)> = orders.iter().map(|o| (o.account, o.id, o.submit())).collect();
    gateway.take_in(Producer::OrderCore, events).await;
    assert!(!eventually(looks, || async { !broker.creates().is_empty() }).await, "sent without a rate");
    lane.control.set_rate(1000);
    for order in &orders {
        gateway.until_told(order, "gateway.acknowledged").await;
    }
    lane.stop().await;
}
