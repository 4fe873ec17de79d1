//! Planted violations are seen by the looks at some requests.

use crate::broker::{Act, TestBroker};
use crate::harness::{Gateway, Order};
use broker_gateway::adapters::db::RequestInspector;
use platform::invariants::{Inspector, Turn};
use std::sync::Arc;
use uuid::Uuid;

async fn seen(gateway: &Gateway, keys_are_enforced: bool, turn: Turn) -> Vec<&'static str> {
    let inspector = RequestInspector { store: Arc::clone(&gateway.store), keys_are_enforced };
    let round = inspector.inspect(turn, 10).await.unwrap();
    assert!(!round.examined.is_empty());
    round.findings.iter().map(|finding| finding.check.name).collect()
}

/// One order that a lost answer sent twice under one key, acknowledged.
async fn world() -> (TestBroker, Gateway) {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    broker.script("create", [Act::Answer(500, "{}".to_owned())]);
    let order = Order::new();
    gateway.submit(&order).await;
    let lane = gateway.start();
    gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    (broker, gateway)
}

#[tokio::test]
async fn each_planted_violation_is_found_by_its_check() {
    let (_broker, gateway) = world().await;
    for turn in [Turn::Recent, Turn::After(Uuid::nil())] {
        assert_eq!(seen(&gateway, true, turn).await, Vec::<&str>::new());
    }
    let again = "insert into attempts (order_id, n, broker_key, bytes_hash, claimed_at, send_before, give_up_at,
                                       outcome, ended_at)
                 select order_id, n + 1, broker_key, bytes_hash, now(), now(), now(), 'unknown', now()
                 from attempts order by n desc limit 1";
    let filled = "insert into evidence (event_id, order_id, broker, broker_order_id, event, order_status, cumulative,
                                        at, recorded_at, effect)
                  select gen_random_uuid(), order_id, broker, broker_order_id, 'fill', 'filled', 1, now(), now(), ''
                  from requests";
    for (name, keys_are_enforced, sql) in [
        ("sent_again_only_under_enforced_key", false, vec![again]),
        (
            "doubt_ends_by_evidence",
            true,
            vec!["delete from lookups", "update requests set state = 'absent', due_at = null"],
        ),
        ("ended_without_life_never_filled", true, vec![filled]),
        ("request_has_one_broker_order", true, vec!["update evidence set broker_order_id = 'another'"]),
        (
            "nothing_is_poison",
            true,
            vec![
                "insert into deferred (producer, partition, seq, reason, envelope, deferred_at)
            values ('fill-receiver', 0, 1, 'poison', '{}', now())",
            ],
        ),
        ("log_is_gapless", true, vec!["delete from event_log where seq = 1"]),
    ] {
        for sql in sql {
            sqlx::query(sql).execute(&gateway.database.pool).await.unwrap();
        }
        for turn in [Turn::Recent, Turn::After(Uuid::nil())] {
            let seen = seen(&gateway, keys_are_enforced, turn).await;
            assert!(seen.contains(&name), "{name} by {turn:?}: {seen:?}");
        }
    }
}
