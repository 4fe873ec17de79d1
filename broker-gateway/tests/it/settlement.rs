//! Two persons, one decision, the same evidence.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order, RunningLane, kinds, settings};
use broker_gateway::application::dossier::DossierStore;
use broker_gateway::application::settlement::{Decision, Settled, SettlementError, decide};
use broker_gateway::config::EnforcementWord;
use contracts::BrokerOrderId;
use contracts::event::{EvidenceSource, GatewayEvent};

/// A gateway with an order that only persons can settle.
async fn manual() -> (TestBroker, Gateway, Order, RunningLane) {
    let broker = TestBroker::start().await;
    broker.script("create", [Act::CloseUnread]);
    let mut settings = settings(&broker.url());
    settings.profile.key_enforcement = EnforcementWord::Never;
    settings.profile.key_looked_up = false;
    settings.profile.honours_valid_until = false;
    let gateway = Gateway::new(settings).await;
    let lane = gateway.start();
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.until_told(&order, "gateway.manual").await;
    (broker, gateway, order, lane)
}

fn decision(person: &str, digest: &str, bound: Option<&str>) -> Decision {
    Decision {
        person: person.to_owned(),
        evidence_digest: digest.to_owned(),
        broker_order_id: bound.map(|id| BrokerOrderId::new(id).unwrap()),
    }
}

#[tokio::test]
async fn it_takes_two_different_persons_on_the_same_evidence() {
    let (_broker, gateway, order, lane) = manual().await;
    let digest = gateway.story(&order).await.evidence_digest;
    let settle = |person: &'static str, digest: String| {
        let (store, rules) = (&gateway.store, &gateway.rules);
        async move { decide(&**store, rules, order.id, decision(person, &digest, None)).await }
    };
    assert!(matches!(settle("kim", "stale".to_owned()).await, Err(SettlementError::EvidenceChanged { .. })));
    assert!(matches!(settle("kim", digest.clone()).await, Ok(Settled::Waiting { .. })));
    assert!(matches!(settle("kim", digest.clone()).await, Ok(Settled::Waiting { .. })), "the same person twice");
    assert!(matches!(settle("", digest.clone()).await, Err(SettlementError::Person)));
    let done = settle("lee", digest.clone()).await.unwrap();
    assert_eq!(done, Settled::Done { by: vec!["kim".to_owned(), "lee".to_owned()] });
    assert!(matches!(settle("park", digest.clone()).await, Err(SettlementError::NotManual { state: "absent" })));
    lane.stop().await;
    let told = gateway.told(&order).await;
    let settled = GatewayEvent::SettledAbsent {
        order_id: order.id,
        by: vec!["kim".to_owned(), "lee".to_owned()],
        evidence: digest,
    };
    assert_eq!(told.last(), Some(&settled));
}

#[tokio::test]
async fn new_evidence_voids_an_approval() {
    let (_broker, gateway, order, lane) = manual().await;
    let digest = gateway.story(&order).await.evidence_digest;
    let (store, rules) = (&*gateway.store, &*gateway.rules);
    decide(store, rules, order.id, decision("kim", &digest, None)).await.unwrap();
    gateway.cancel(&order, 1).await;
    let changed = decide(store, rules, order.id, decision("lee", &digest, None)).await;
    assert!(matches!(changed, Err(SettlementError::EvidenceChanged { .. })), "{changed:?}");
    let digest = gateway.story(&order).await.evidence_digest;
    let waiting = decide(store, rules, order.id, decision("lee", &digest, None)).await.unwrap();
    assert_eq!(waiting, Settled::Waiting { approved_by: vec!["lee".to_owned()] });
    lane.stop().await;
}

#[tokio::test]
async fn different_decisions_do_not_add_up_and_a_person_cannot_hold_two() {
    let (_broker, gateway, order, lane) = manual().await;
    let digest = gateway.story(&order).await.evidence_digest;
    let (store, rules) = (&*gateway.store, &*gateway.rules);
    decide(store, rules, order.id, decision("kim", &digest, None)).await.unwrap();
    let other = decide(store, rules, order.id, decision("lee", &digest, Some("b-9"))).await.unwrap();
    assert!(matches!(other, Settled::Waiting { .. }));
    let twice = decide(store, rules, order.id, decision("kim", &digest, Some("b-9"))).await;
    assert!(matches!(twice, Err(SettlementError::Contradicts { .. })), "{twice:?}");
    lane.stop().await;
}

#[tokio::test]
async fn an_order_can_be_bound_to_the_brokers() {
    let (_broker, gateway, order, lane) = manual().await;
    assert_eq!(gateway.store.unsettled(10).await.unwrap().len(), 1);
    let digest = gateway.story(&order).await.evidence_digest;
    let (store, rules) = (&*gateway.store, &*gateway.rules);
    for person in ["kim", "lee"] {
        decide(store, rules, order.id, decision(person, &digest, Some("b-9"))).await.unwrap();
    }
    lane.stop().await;
    let told = gateway.told(&order).await;
    assert_eq!(kinds(&told), ["gateway.in_doubt", "gateway.manual", "gateway.acknowledged"]);
    let GatewayEvent::Acknowledged { source, observed, .. } = told.last().unwrap() else { panic!("{told:?}") };
    assert_eq!(*source, EvidenceSource::Settlement);
    assert_eq!(observed.broker_order_id.as_str(), "b-9");
    assert!(gateway.store.unsettled(10).await.unwrap().is_empty());
}
