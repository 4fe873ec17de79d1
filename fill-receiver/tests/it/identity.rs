//! Facts are logged once, whatever comes twice.

use crate::broker::{Event, broker_order, key, position};
use crate::harness::{World, eventually};
use contracts::event::BrokerFact;
use contracts::{BrokerId, BrokerOrderId, Partition};
use serde_json::{Value, json};

#[tokio::test]
async fn events_are_logged_in_their_orders_partition_and_the_cursor_follows() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let last = position(500, 3);
    world.broker.publish_all(&[
        Event::new("new", 7, position(1000, 1)),
        Event::fill(7, "e-1", position(700, 2)),
        Event::new("canceled", 7, last),
    ]);
    let log = world.logged(3).await;
    assert!(log.iter().all(|e| e.partition.number() == 7 && e.order_id == Some(key(7).order_id())));
    assert_eq!(
        log.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(),
        ["broker.live", "broker.fill", "broker.canceled"]
    );
    assert_eq!(world.cursor().await, last.to_string());
    assert_eq!(world.count("select count(*) from broker_events where length(body) > 100").await, 3);
    receiver.stop().await;
}

#[tokio::test]
async fn a_fill_repeated_under_another_cursor_id_is_logged_once() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    // In one batch with itself, and alone; with other bytes, and as another word.
    let again = Event::fill(1, "e-1", position(900, 2)).with("qty", json!(1.0));
    world.broker.publish_all(&[again.clone(), Event { position: position(800, 3), ..again }]);
    world.broker.publish(&Event::fill(1, "e-1", position(700, 4)).with("event", json!("fill")));
    let last = position(600, 5);
    world.broker.publish(&Event::fill(1, "e-2", last));
    world.logged(2).await;
    assert_eq!(world.cursor().await, last.to_string());
    assert_eq!(world.count("select count(*) from suspects").await, 0);
    receiver.stop().await;
}

#[tokio::test]
async fn other_terms_under_a_known_identity_are_suspect_and_change_nothing() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(1, "e-1", position(1000, 1)));
    world.logged(1).await;
    world.broker.publish_all(&[
        Event::fill(1, "e-1", position(900, 2)).with("price", json!("187.13")),
        Event::fill(1, "e-2", position(800, 3)),
    ]);
    world.logged(2).await;
    let (status, body) = receiver.get("/ops/v1/suspects").await;
    assert_eq!(status, 200);
    let suspect = &body["suspects"][0];
    assert_eq!(suspect["reason"], "terms_differ");
    assert!(suspect["known"].as_str().unwrap().contains("187.12"), "{suspect}");
    assert!(suspect["seen"].as_str().unwrap().contains("187.13"), "{suspect}");
    // A replay brings the same contradiction again, and counts it once.
    world.broker.reset();
    receiver.connections(2).await;
    world.broker.publish(&Event::fill(1, "e-3", position(100, 4)));
    world.logged(3).await;
    assert_eq!(world.count("select count(*) from suspects").await, 1);
    receiver.stop().await;
}

#[tokio::test]
async fn a_bust_and_a_correction_of_an_unseen_execution_are_logged_like_any_fact() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    let bust = Event::fill(2, "e-2", position(900, 1))
        .with("event", json!("trade_bust"))
        .with("qty", json!("-1"))
        .with("previous_execution_id", json!("e-0"));
    let correct = Event::fill(2, "e-3", position(800, 2))
        .with("event", json!("trade_correct"))
        .with("previous_execution_id", json!("e-1"));
    world.broker.publish_all(&[bust, correct]);
    world.logged(2).await;
    let facts: Vec<BrokerFact> = world.events().await.into_iter().map(|event| event.fact).collect();
    assert!(
        matches!(&facts[0], BrokerFact::Bust { previous_execution_id, .. } if previous_execution_id.as_str() == "e-0")
    );
    assert!(
        matches!(&facts[1], BrokerFact::Correct { previous_execution_id, .. } if previous_execution_id.as_str() == "e-1")
    );
    receiver.stop().await;
}

#[tokio::test]
async fn an_order_that_is_not_ours_is_logged_by_its_hash() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::fill(3, "e-1", position(900, 1)).named(json!("somebody-else")));
    let log = world.logged(1).await;
    let by_hash =
        Partition::of_broker_order(&BrokerId::new("sim").unwrap(), &BrokerOrderId::new(broker_order(3)).unwrap());
    assert_eq!((log[0].order_id, log[0].partition), (None, by_hash));
    receiver.stop().await;
}

#[tokio::test]
async fn what_was_logged_of_an_orphan_is_logged_again_once_its_order_is_known() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish_all(&[
        Event::fill(5, "e-1", position(900, 1)).named(Value::Null),
        Event::fill(5, "e-2", position(800, 2)).named(json!("")),
    ]);
    assert!(world.logged(2).await.iter().all(|envelope| envelope.order_id.is_none()));
    // A repeat of the first fill that carries more identity.
    world.broker.publish(&Event::fill(5, "e-1", position(700, 3)));
    world.logged(4).await;
    let ours: Vec<_> = world.log().await.into_iter().filter(|e| e.order_id == Some(key(5).order_id())).collect();
    assert_eq!(ours.len(), 2);
    assert!(ours.iter().all(|envelope| envelope.partition.number() == 5));
    let executions: Vec<BrokerFact> =
        world.events().await.into_iter().filter(|e| e.order_id.is_some()).map(|e| e.fact).collect();
    assert_ne!(executions[0], executions[1], "each of the two fills once, in their order");
    assert!(matches!(&executions[0], BrokerFact::Fill { execution_id, .. } if execution_id.as_str() == "e-1"));
    // From now on an event without the name belongs to the order too.
    world.broker.publish(&Event::fill(5, "e-3", position(600, 4)).named(Value::Null));
    let log = world.logged(5).await;
    assert_eq!(log.iter().filter(|e| e.order_id == Some(key(5).order_id())).count(), 3);
    receiver.stop().await;
}

#[tokio::test]
async fn a_second_broker_order_of_one_order_is_logged_and_alarms() {
    let world = World::new().await;
    let receiver = world.receiver().await;
    world.broker.publish(&Event::new("new", 6, position(900, 1)));
    world.logged(1).await;
    world.broker.publish(&Event::new("new", 60, position(800, 2)).named(json!(key(6).to_string())));
    world.logged(2).await;
    eventually("a suspect", || async {
        world.count("select count(*) from suspects where reason = 'second_broker_order'").await == 1
    })
    .await;
    receiver.stop().await;
}
