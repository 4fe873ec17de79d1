//! An unknown outcome ends only by evidence.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order, kinds, settings};
use broker_gateway::config::EnforcementWord;
use contracts::event::{BrokerEvent, BrokerFact, EvidenceSource, GatewayEvent, NotSentReason};
use contracts::{BrokerId, BrokerOrderId, ExecutionId, Price, Quantity, Side, Symbol};
use rust_decimal::Decimal;
use serde_json::json;
use time::OffsetDateTime;

pub(crate) fn fill(order: &Order, broker_order_id: &str) -> BrokerEvent {
    BrokerEvent {
        broker: BrokerId::new("sim").unwrap(),
        broker_order_id: BrokerOrderId::new(broker_order_id).unwrap(),
        order_id: Some(order.id),
        broker_client_order_id: Some(order.key().to_string()),
        event: "partial_fill".to_owned(),
        order_status: "partially_filled".to_owned(),
        symbol: Symbol::new("AAPL").unwrap(),
        side: Side::Buy,
        cumulative_quantity: Some(Decimal::ONE),
        at: OffsetDateTime::now_utc(),
        fact: BrokerFact::Fill {
            execution_id: ExecutionId::new("e-1").unwrap(),
            quantity: Quantity::parse("1").unwrap(),
            price: Price::parse("10.5").unwrap(),
        },
    }
}

#[tokio::test]
async fn a_broker_that_answers_nonsense_is_asked_and_the_lookup_ends_the_doubt() {
    for act in [
        Act::EffectThenAnswer(200, "<html>hello</html>".to_owned()),
        Act::EffectThenAnswer(200, "{\"id\":".to_owned()),
        Act::EffectThenAnswer(502, "bad gateway".to_owned()),
        Act::EffectThenHalf,
        Act::EffectThenClose,
        Act::EffectThenHang,
    ] {
        let broker = TestBroker::start().await;
        broker.script("create", [act.clone()]);
        let gateway = Gateway::with(&broker).await;
        let lane = gateway.start();
        let order = Order::new();
        gateway.submit(&order).await;
        let told = gateway.until_told(&order, "gateway.acknowledged").await;
        lane.stop().await;
        assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.acknowledged"], "{act:?}");
        let GatewayEvent::Acknowledged { source, .. } = &told[1] else { panic!("{told:?}") };
        assert_eq!(*source, EvidenceSource::Lookup);
        assert_eq!(broker.creates().len(), 1, "{act:?}");
        let story = gateway.story(&order).await;
        let exit = story.transitions.last().unwrap();
        assert_eq!((exit.from.as_str(), exit.to.as_str()), ("doubt", "live"));
        assert_eq!(exit.cause, "lookup: new");
    }
}

#[tokio::test]
async fn a_lost_request_is_sent_again_under_the_same_key() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::CloseUnread]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.acknowledged"]);
    assert!(broker.asks() >= 1, "asked before it was sent again");
    assert_eq!((broker.creates().len(), broker.orders_len()), (2, 1));
}

#[tokio::test]
async fn an_order_that_is_recorded_late_is_never_doubled_and_never_called_gone() {
    let broker = TestBroker::start().await;
    // The first is taken and hidden from the first six lookups; a further attempt is a duplicate.
    broker.script("create", [Act::EffectHidden(6)]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.orders_len(), 1);
    assert!(!kinds(&told).contains(&"gateway.not_sent"), "{told:?}");
    assert!(!kinds(&told).contains(&"gateway.refused"), "{told:?}");
}

#[tokio::test]
async fn a_refusal_of_the_second_attempt_does_not_end_the_doubt_about_the_first() {
    let broker = TestBroker::start().await;
    let refusal = r#"{"code":40310000,"message":"insufficient buying power"}"#.to_owned();
    broker.script("create", [Act::EffectHidden(5), Act::Answer(403, refusal)]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert!(!kinds(&told).contains(&"gateway.refused"), "{told:?}");
    let outcomes: Vec<_> = gateway.story(&order).await.attempts.into_iter().map(|a| a.outcome.unwrap()).collect();
    assert_eq!(outcomes, ["unknown", "rejected"]);
}

#[tokio::test]
async fn a_refusal_of_the_only_attempt_is_final_with_the_brokers_code() {
    let broker = TestBroker::start().await;
    broker.script(
        "create",
        [Act::Answer(403, r#"{"code":40310000,"message":"insufficient\u0000 buying power"}"#.to_owned())],
    );
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.refused").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.refused"]);
    let GatewayEvent::Refused { code, .. } = told[0] else { panic!("{told:?}") };
    assert_eq!(code, 40_310_000);
}

#[tokio::test]
async fn none_becomes_final_only_after_expiry_and_names_its_evidence() {
    let broker = TestBroker::start().await;
    broker.script("create", vec![Act::CloseUnread; 10]);
    let mut settings = settings(&broker.url());
    settings.retry.ladder_minutes = vec![1];
    settings.retry.valid_for_minutes = 15;
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.not_sent").await;
    lane.stop().await;
    let GatewayEvent::NotSent { reason, .. } = told.last().unwrap() else { panic!("{told:?}") };
    assert_eq!(*reason, NotSentReason::Expired);
    assert!(broker.creates().len() <= 2, "one attempt and at most one step of the ladder");
    let story = gateway.story(&order).await;
    assert!(story.request.cause.contains("FinalNone"), "{}", story.request.cause);
    let last = story.lookups.iter().max_by_key(|lookup| lookup.began_at).unwrap();
    assert!(last.began_at > story.request.valid_until.unwrap() + time::Duration::milliseconds(400));
}

#[tokio::test]
async fn an_answer_that_is_not_the_brokers_own_none_changes_nothing() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::EffectThenClose]);
    broker.script("ask", vec![Act::Answer(404, "<html>not found</html>".to_owned()); 12]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 1, "it was not sent again on the word of a web server");
    assert!(broker.asks() > 12);
}

#[tokio::test]
async fn a_fill_ends_the_doubt_at_once_and_nothing_is_sent_again() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::EffectThenClose]);
    broker.script("ask", vec![Act::Answer(500, String::new()); 1000]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.in_doubt").await;
    let id = broker.order(&order.key().to_string()).unwrap().id.to_string();
    gateway.evidence(&order, fill(&order, &id)).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    let GatewayEvent::Acknowledged { source, observed, .. } = told.last().unwrap() else { panic!("{told:?}") };
    assert_eq!(*source, EvidenceSource::Stream);
    assert_eq!(observed.cumulative_quantity, Some(Decimal::ONE));
    let story = gateway.story(&order).await;
    assert_eq!(story.request.state, "live");
    assert_eq!(story.request.due_at, None, "the pending retry is gone");
    assert_eq!(story.evidence.len(), 1);
    lane.stop().await;
    assert_eq!(broker.creates().len(), 1);
}

#[tokio::test]
async fn an_original_with_other_terms_goes_to_persons() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    let body = json!({"symbol": "AAPL", "qty": "7", "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "10.5"});
    broker.plant(&order.key().to_string(), &body);
    let lane = gateway.start();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.manual").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.manual"]);
    assert_eq!(gateway.story(&order).await.request.contradiction.as_deref(), Some("quantity"));
    assert_eq!(broker.creates().len(), 1);
}

#[tokio::test]
async fn a_reply_with_other_terms_goes_to_persons_too() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::OtherTerms]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.manual").await;
    lane.stop().await;
}

#[tokio::test]
async fn an_original_that_is_ours_is_a_success() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    let body = json!({"symbol": "AAPL", "qty": "2.0", "side": "buy", "type": "limit", "time_in_force": "day", "limit_price": "10.5"});
    broker.plant(&order.key().to_string(), &body);
    let lane = gateway.start();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!((broker.creates().len(), broker.orders_len()), (1, 1));
}

#[tokio::test]
async fn where_the_key_is_not_enforced_there_is_one_attempt_and_then_a_person() {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::CloseUnread]);
    let mut settings = settings(&broker.url());
    settings.profile.key_enforcement = EnforcementWord::Never;
    settings.profile.honours_valid_until = false;
    settings.retry.doubt_max_minutes = 8;
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.manual").await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.manual"]);
    assert_eq!(broker.creates().len(), 1);
    assert!(!broker.creates()[0].body.contains("valid_until"), "the broker would not look at it");
    // A fill settles it after all.
    gateway.evidence(&order, fill(&order, "b-77")).await;
    gateway.until_told(&order, "gateway.acknowledged").await;
    assert_eq!(gateway.state(&order).await, "live");
    lane.stop().await;
}

#[tokio::test]
async fn wrong_credentials_refuse_no_order_and_it_goes_out_once_they_are_right() {
    let broker = TestBroker::start().await;
    let bare = r#"{"message":"forbidden."}"#.to_owned();
    broker.script("create", [Act::Answer(401, bare.clone())]);
    broker.script("ask", [Act::Answer(401, bare)]);
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert!(!kinds(&told).contains(&"gateway.refused"), "{told:?}");
    assert_eq!(broker.orders_len(), 1);
}
