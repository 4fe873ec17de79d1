//! Nothing new of an account is sent before its orders in doubt were looked into.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order, PATIENCE, settings};
use contracts::event::Producer;
use platform::testing::eventually;

async fn take_in(gateway: &Gateway, orders: &[&Order]) {
    let events = orders.iter().map(|order| (order.account, order.id, order.submit())).collect();
    gateway.take_in(Producer::OrderCore, events).await;
}

/// A doubt that a dead process looked into long ago, with the next question far away.
async fn plant_old_doubt(gateway: &Gateway, order: &Order) {
    gateway.submit(order).await;
    gateway.plant_open_attempt(order, 60_000).await;
    sqlx::query("update attempts set outcome = 'unknown', ended_at = give_up_at where order_id = $1")
        .bind(order.id.as_uuid())
        .execute(&gateway.database.pool)
        .await
        .unwrap();
    sqlx::query(
        "update requests set state = 'doubt', state_since = now() - interval '50 seconds', asked = 1,
             asked_at = now() - interval '40 seconds', none_at = now() - interval '40 seconds',
             due_at = now() + interval '1 hour', due_rank = 1, version = version + 1 where order_id = $1",
    )
    .bind(order.id.as_uuid())
    .execute(&gateway.database.pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn after_a_crash_an_open_attempt_is_looked_into_before_anything_new_of_its_account_is_sent() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let doubtful = Order::new();
    let (new, other) = (Order::of(doubtful.account), Order::new());
    gateway.submit(&doubtful).await;
    // Claimed by a process that then died; its owner could still bring a result for a second.
    gateway.plant_open_attempt(&doubtful, 100).await;
    take_in(&gateway, &[&new, &other]).await;
    // A second copy starts as well: the rule is in the claim, not in one process's memory.
    let lanes = [gateway.start_anew().await, gateway.start_anew().await];
    for order in [&new, &other, &doubtful] {
        gateway.until_told(order, "gateway.acknowledged").await;
    }
    for lane in lanes {
        lane.stop().await;
    }
    let keys =
        [("doubtful", doubtful.key().to_string()), ("new", new.key().to_string()), ("other", other.key().to_string())];
    let calls = broker.calls_about(&keys);
    let place =
        |wanted| calls.iter().position(|call| *call == wanted).unwrap_or_else(|| panic!("{wanted:?}: {calls:?}"));
    assert!(place(("ask", "doubtful")) < place(("create", "new")), "{calls:?}");
    assert!(place(("create", "other")) < place(("ask", "doubtful")), "other accounts wait for nobody: {calls:?}");
}

#[tokio::test]
async fn a_start_looks_into_doubts_that_an_earlier_process_had_looked_into() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let doubtful = Order::new();
    let new = Order::of(doubtful.account);
    plant_old_doubt(&gateway, &doubtful).await;
    take_in(&gateway, &[&new]).await;
    let lane = gateway.start_anew().await;
    gateway.until_told(&new, "gateway.acknowledged").await;
    lane.stop().await;
    let keys = [("doubtful", doubtful.key().to_string()), ("new", new.key().to_string())];
    let calls = broker.calls_about(&keys);
    assert_eq!(calls.first(), Some(&("ask", "doubtful")), "{calls:?}");
}

#[tokio::test]
async fn a_doubt_that_was_looked_into_holds_nothing_back() {
    let broker = TestBroker::start().await;
    let mut settings = settings(&broker.url());
    settings.retry.review_hold_max_ms = 3_600_000;
    let gateway = Gateway::new(settings).await;
    let doubtful = Order::new();
    let new = Order::of(doubtful.account);
    plant_old_doubt(&gateway, &doubtful).await;
    take_in(&gateway, &[&new]).await;
    // Not a new process: the lookup counts, and the next one is an hour away.
    let lane = gateway.start();
    gateway.until_told(&new, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.asks(), 0);
}

#[tokio::test]
async fn a_broker_that_cannot_answer_lookups_holds_an_account_back_for_a_bounded_time_and_others_not_at_all() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::EffectThenClose]);
    broker.script("ask", vec![Act::Answer(500, "{}".to_owned()); 10_000]);
    let mut settings = settings(&broker.url());
    settings.retry.review_hold_max_ms = 1_500;
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start_anew().await;
    let doubtful = Order::new();
    let (new, other) = (Order::of(doubtful.account), Order::new());
    take_in(&gateway, &[&doubtful]).await;
    assert!(eventually(PATIENCE, || async { broker.asks() > 0 }).await);
    take_in(&gateway, &[&new, &other]).await;
    gateway.until_told(&other, "gateway.acknowledged").await;
    gateway.until_told(&new, "gateway.acknowledged").await;
    lane.stop().await;
    let story = gateway.story(&doubtful).await;
    assert_eq!(story.request.state, "doubt", "silence ended nothing");
    let began = story.transitions.iter().find(|t| t.to == "doubt").unwrap().at;
    let sent = gateway.story(&new).await.attempts[0].claimed_at;
    assert!(sent >= began + time::Duration::milliseconds(1_500), "held back from {began} on, sent at {sent}");
}

#[tokio::test]
async fn a_further_attempt_of_a_doubt_waits_for_no_other_doubt_of_its_account() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::CloseUnread]);
    let mut settings = settings(&broker.url());
    settings.retry.review_hold_max_ms = 3_600_000;
    // Time to plant the other doubt before the ladder's first step.
    settings.retry.minute_ms = 2_000;
    let gateway = Gateway::new(settings).await;
    let lost = Order::new();
    let (other, new) = (Order::of(lost.account), Order::of(lost.account));
    plant_old_doubt(&gateway, &other).await;
    let lane = gateway.start();
    gateway.submit(&lost).await;
    gateway.until_told(&lost, "gateway.in_doubt").await;
    // From now on it counts as never looked into, and holds back what is new for an hour.
    sqlx::query("update requests set none_at = null, state_since = now() where order_id = $1")
        .bind(other.id.as_uuid())
        .execute(&gateway.database.pool)
        .await
        .unwrap();
    take_in(&gateway, &[&new]).await;
    gateway.until_told(&lost, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!((broker.creates().len(), broker.orders_len()), (2, 1), "the new order is held back, the old one is not");
}
