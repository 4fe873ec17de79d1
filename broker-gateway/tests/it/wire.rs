//! What goes over the wire is what the attempt log says: nothing behind its back.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order, kinds, settings};
use contracts::AccountId;
use contracts::event::{EvidenceSource, GatewayEvent};
use uuid::Uuid;

#[tokio::test]
async fn an_order_is_sent_once_and_acknowledged_from_the_reply() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    let lane = gateway.start();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.acknowledged"]);
    let GatewayEvent::Acknowledged { observed, source, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!(*source, EvidenceSource::Reply);
    let at_broker = broker.order(&order.key().to_string()).unwrap();
    assert_eq!(observed.broker_order_id.as_str(), at_broker.id.to_string());
    assert_eq!(broker.creates().len(), 1);
    assert_eq!(at_broker.entity["qty"], "2");
}

#[tokio::test]
async fn requests_on_the_wire_equal_attempts_whatever_the_broker_does() {
    let broker = TestBroker::start().await;
    let half = Act::EffectThenAnswer(200, "{\"id\":\"6".to_owned());
    let acts = [
        Act::Redirect,
        Act::CloseUnread,
        Act::Answer(200, "<html>hello</html>".to_owned()),
        Act::Answer(503, String::new()),
        Act::Answer(408, String::new()),
        Act::Answer(308, String::new()),
        Act::EffectThenClose,
        Act::EffectThenHalf,
        half,
        Act::Hang,
        Act::Answer(429, String::new()),
    ];
    broker.script("create", acts);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let orders: Vec<Order> = (0..11).map(|_| Order::new()).collect();
    for order in &orders {
        gateway.submit(order).await;
    }
    let mut attempts = 0;
    for order in &orders {
        gateway.until_told(order, "gateway.acknowledged").await;
        attempts += gateway.story(order).await.attempts.len();
    }
    lane.stop().await;
    assert_eq!(broker.creates().len(), attempts, "{:#?}", broker.creates());
    assert_eq!(broker.orders_len(), 11);
}

#[tokio::test]
async fn a_kept_connection_that_the_broker_closes_never_doubles_a_request() {
    let broker = TestBroker::start().await;
    broker.script("create", vec![Act::ProperThenClose; 60]);
    let mut settings = settings(&broker.url());
    settings.lane.concurrency_max = 2;
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start();
    let account = AccountId::new(Uuid::new_v4());
    let orders: Vec<Order> = (0..60).map(|_| Order::of(account)).collect();
    for order in &orders {
        gateway.submit(order).await;
    }
    let mut attempts = 0;
    for order in &orders {
        gateway.until_told(order, "gateway.acknowledged").await;
        attempts +=
            gateway.story(order).await.attempts.iter().filter(|a| a.outcome.as_deref() != Some("not_sent")).count();
    }
    lane.stop().await;
    assert_eq!(broker.creates().len(), attempts);
    assert_eq!(broker.orders_len(), 60);
}

#[tokio::test]
async fn every_attempt_carries_the_same_bytes() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::CloseUnread, Act::CloseUnread]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    let creates = broker.creates();
    assert_eq!(creates.len(), 3);
    assert!(creates.iter().all(|seen| seen.body == creates[0].body && seen.body.contains("valid_until")));
    let story = gateway.story(&order).await;
    assert!(story.attempts.iter().all(|attempt| attempt.bytes_sha256 == story.attempts[0].bytes_sha256));
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_proof_that_nothing_left() {
    let broker = TestBroker::start().await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut gateway = Gateway::new(settings(&format!("http://{closed}"))).await;
    let order = Order::new();
    let lane = gateway.start();
    gateway.submit(&order).await;
    let tried = platform::testing::eventually(crate::harness::PATIENCE, || async {
        gateway.story(&order).await.attempts.iter().any(|a| a.outcome.as_deref() == Some("not_sent"))
    })
    .await;
    assert!(tried);
    lane.stop().await;
    assert_eq!(gateway.state(&order).await, "queued");
    assert_eq!(kinds(&gateway.told(&order).await), Vec::<&str>::new(), "no doubt arises from it");
    gateway.settings.broker.base_url = broker.url();
    let lane = gateway.start();
    gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 1);
}

#[tokio::test]
async fn a_429_pauses_the_lane_and_loses_nothing() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::Answer(429, String::new())]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.acknowledged"]);
    let outcomes: Vec<_> = gateway.story(&order).await.attempts.into_iter().map(|a| a.outcome.unwrap()).collect();
    assert_eq!(outcomes, ["rate_limited", "accepted"]);
}
