//! A cancel is a wish: it ends an order only where nothing was ever tried.

use crate::broker::{Act, TestBroker};
use crate::doubt::fill;
use crate::harness::{Gateway, Order, PATIENCE, kinds};
use contracts::event::{BrokerEvent, BrokerFact, GatewayEvent, NotSentReason, OrdersEvent, Producer};
use platform::testing::eventually;

#[tokio::test]
async fn a_cancel_before_any_attempt_withdraws_the_order() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.cancel(&order, 1).await;
    let told = gateway.told(&order).await;
    let withdrawn = GatewayEvent::NotSent { order_id: order.id, reason: NotSentReason::CancelRequested };
    assert_eq!(told, [withdrawn]);
    let lane = gateway.start();
    let other = Order::new();
    gateway.submit(&other).await;
    gateway.until_told(&other, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 1, "only the other order went out");
}

#[tokio::test]
async fn submit_and_cancel_in_one_slice_send_nothing() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    let cancel = OrdersEvent::Cancel { order_id: order.id, request: 1 };
    gateway
        .take_in(
            Producer::OrderCore,
            vec![(order.account, order.id, order.submit()), (order.account, order.id, cancel)],
        )
        .await;
    gateway.until_told(&order, "gateway.not_sent").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 0);
}

#[tokio::test]
async fn a_cancel_of_a_living_order_is_passed_on_and_ends_nothing_by_itself() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    gateway.cancel(&order, 1).await;
    assert!(eventually(PATIENCE, || async { gateway.story(&order).await.request.cancel_answered == 1 }).await);
    assert_eq!(broker.cancels(), 1);
    assert_eq!(gateway.state(&order).await, "live");
    assert_eq!(kinds(&gateway.told(&order).await), ["gateway.acknowledged"]);
    let id = broker.order(&order.key().to_string()).unwrap().id.to_string();
    let canceled = BrokerEvent {
        fact: BrokerFact::Canceled,
        order_status: "canceled".to_owned(),
        event: "canceled".to_owned(),
        ..fill(&order, &id)
    };
    gateway.evidence(&order, canceled).await;
    assert_eq!(gateway.state(&order).await, "closed");
    lane.stop().await;
    let story = gateway.story(&order).await;
    assert_eq!(story.cancels.len(), 1);
    assert_eq!(story.cancels[0].outcome.as_deref(), Some("requested"));
}

#[tokio::test]
async fn a_cancel_waits_for_the_outcome_of_the_create() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::EffectThenHang]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    assert!(eventually(PATIENCE, || async { broker.creates().len() == 1 }).await);
    gateway.cancel(&order, 1).await;
    assert_eq!(gateway.state(&order).await, "sending");
    assert_eq!(broker.cancels(), 0);
    gateway.until_told(&order, "gateway.acknowledged").await;
    assert!(eventually(PATIENCE, || async { broker.cancels() == 1 }).await);
    lane.stop().await;
    assert!(!kinds(&gateway.told(&order).await).contains(&"gateway.not_sent"));
}

#[tokio::test]
async fn a_cancel_stops_resends_but_not_lookups_and_none_is_believed_only_when_final() {
    let broker = TestBroker::start().await;
    broker.script("create", vec![Act::CloseUnread; 10]);
    let mut gateway = Gateway::with(&broker).await;
    gateway.settings.retry.valid_for_minutes = 15;
    let gateway = Gateway::new(gateway.settings.clone()).await;
    let order = Order::new();
    let lane = gateway.start();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.in_doubt").await;
    gateway.cancel(&order, 1).await;
    let sent = broker.creates().len();
    let told = gateway.until_told(&order, "gateway.not_sent").await;
    lane.stop().await;
    let GatewayEvent::NotSent { reason, .. } = told.last().unwrap() else { panic!("{told:?}") };
    assert_eq!(*reason, NotSentReason::CancelRequested);
    assert!(broker.creates().len() <= sent + 1, "an attempt under way at most");
    let story = gateway.story(&order).await;
    assert!(story.lookups.iter().any(|l| l.began_at > story.request.valid_until.unwrap()));
}

#[tokio::test]
async fn a_refused_cancel_is_told_with_the_brokers_words() {
    let broker = TestBroker::start().await;
    broker.script("cancel", [Act::Answer(422, r#"{"code":42210000,"message":"order is filled"}"#.to_owned())]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    gateway.cancel(&order, 3).await;
    let told = gateway.until_told(&order, "gateway.cancel_refused").await;
    lane.stop().await;
    let refused = GatewayEvent::CancelRefused {
        order_id: order.id,
        request: 3,
        code: 42_210_000,
        message: "order is filled".to_owned(),
    };
    assert_eq!(told.last(), Some(&refused));
    assert_eq!(gateway.state(&order).await, "live");
}

#[tokio::test]
async fn a_cancel_that_gets_no_usable_answer_is_tried_boundedly() {
    let broker = TestBroker::start().await;
    let not_found = Act::Answer(404, r#"{"code":40410000,"message":"order not found"}"#.to_owned());
    broker.script(
        "cancel",
        [not_found, Act::CloseUnread, Act::Hang, Act::Answer(500, String::new()), Act::Answer(200, "x".to_owned())],
    );
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    gateway.cancel(&order, 1).await;
    assert!(eventually(PATIENCE, || async { gateway.story(&order).await.request.cancel_answered == 1 }).await);
    assert_eq!(broker.cancels(), 5);
    broker.script("cancel", vec![Act::Answer(500, String::new()); 10]);
    gateway.cancel(&order, 2).await;
    let told = gateway.until_told(&order, "gateway.cancel_refused").await;
    lane.stop().await;
    assert!(matches!(told.last(), Some(GatewayEvent::CancelRefused { request: 2, code: 0, .. })), "{told:?}");
    assert_eq!(broker.cancels(), 10, "five tries and no more");
    assert_eq!(gateway.state(&order).await, "live");
}

#[tokio::test]
async fn a_lookup_by_the_order_server_is_answered_with_an_observation() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    broker.set_status(&order.key().to_string(), "filled", "2");
    broker.script("observe", [Act::Answer(500, String::new()), Act::CloseUnread]);
    gateway.lookup(&order).await;
    let told = gateway.until_told(&order, "gateway.observed").await;
    lane.stop().await;
    let GatewayEvent::Observed { observed, .. } = told.last().unwrap() else { panic!("{told:?}") };
    assert_eq!(observed.status, "filled");
    assert_eq!(observed.cumulative_quantity.unwrap().to_string(), "2");
    assert_eq!(gateway.state(&order).await, "closed");
}
