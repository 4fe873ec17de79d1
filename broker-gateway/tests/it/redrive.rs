//! Events that could not take effect when they came.

use crate::broker::TestBroker;
use crate::harness::{Gateway, Order};
use contracts::Partition;
use contracts::event::{Envelope, OrdersEvent, Producer};
use serde_json::value::RawValue;

const NONSENSE: &str = "{\"what\":\"nonsense\"}";

/// An order whose submit cannot be read, with its cancel behind it, and a neighbour.
async fn with_poison(gateway: &Gateway) -> Order {
    let bad = Order::new();
    let cancel = serde_json::to_string(&OrdersEvent::Cancel { order_id: bad.id, request: 1 }).unwrap();
    let slice = gateway.raw_slice(
        Producer::OrderCore,
        Partition::of_account(bad.account),
        vec![
            (bad.account, bad.id, "order.submit".to_owned(), NONSENSE.to_owned()),
            (bad.account, bad.id, "order.cancel".to_owned(), cancel),
        ],
    );
    gateway.apply(slice).await;
    bad
}

async fn reasons(gateway: &Gateway) -> Vec<(i64, String)> {
    let read = sqlx::query_as("select seq, reason from deferred order by seq").fetch_all(&gateway.database.pool);
    read.await.unwrap()
}

/// What a later version of this program does: it can read the event.
async fn make_readable(gateway: &Gateway, order: &Order) {
    let pool = &gateway.database.pool;
    let text: String = sqlx::query_scalar("select envelope from deferred where seq = 1").fetch_one(pool).await.unwrap();
    let mut envelope: Envelope = serde_json::from_str(&text).unwrap();
    envelope.payload = RawValue::from_string(serde_json::to_string(&order.submit()).unwrap()).unwrap();
    let text = serde_json::to_string(&envelope).unwrap();
    sqlx::query("update deferred set envelope = $1 where seq = 1").bind(text).execute(pool).await.unwrap();
}

#[tokio::test]
async fn poison_waits_for_an_operator_and_then_takes_effect_before_what_waits_behind_it() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let bad = with_poison(&gateway).await;
    let partition = Partition::of_account(bad.account);
    make_readable(&gateway, &bad).await;
    assert_eq!(gateway.redrive(bad.account).await, 0, "nobody asked yet");
    assert_eq!(reasons(&gateway).await, [(1, "poison".to_owned()), (2, "behind".to_owned())]);

    assert!(gateway.store.retry_deferred(Producer::OrderCore, partition, 1, "kim").await.unwrap());
    assert_eq!(gateway.redrive(bad.account).await, 2);
    // Submitted, then cancelled before it was sent: in the other order the cancel would find nothing.
    assert_eq!(gateway.state(&bad).await, "not_sent");
    assert!(reasons(&gateway).await.is_empty());
    assert_eq!(gateway.redrive(bad.account).await, 0, "once");
    assert!(!gateway.store.retry_deferred(Producer::OrderCore, partition, 1, "kim").await.unwrap());
    let done = gateway.store.actions(10).await.unwrap();
    let told: Vec<_> = done.iter().map(|done| (done.operator.as_str(), done.action.as_str(), &done.subject)).collect();
    assert_eq!(told, [("kim", "redrive", &format!("order-core/{partition}/1"))], "what was done, and only that");
}

#[tokio::test]
async fn an_event_that_still_cannot_be_read_is_poison_again_and_nothing_overtakes_it() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let bad = with_poison(&gateway).await;
    let partition = Partition::of_account(bad.account);
    assert!(gateway.store.retry_deferred(Producer::OrderCore, partition, 1, "kim").await.unwrap());
    assert_eq!(gateway.redrive(bad.account).await, 0);
    assert_eq!(reasons(&gateway).await, [(1, "poison".to_owned()), (2, "behind".to_owned())]);
    // A new event of the order waits as well, a neighbour's does not.
    gateway.cancel(&bad, 2).await;
    let neighbour = Order::of(bad.account);
    gateway.submit(&neighbour).await;
    assert_eq!(gateway.state(&neighbour).await, "queued");
    assert_eq!(reasons(&gateway).await.len(), 3);
}

#[tokio::test]
async fn waiting_events_are_tried_by_one_copy_at_a_time() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let bad = with_poison(&gateway).await;
    let partition = Partition::of_account(bad.account);
    make_readable(&gateway, &bad).await;
    assert!(gateway.store.retry_deferred(Producer::OrderCore, partition, 1, "kim").await.unwrap());
    let held = gateway.store.begin_waiting(Producer::OrderCore, partition, 1).await.unwrap().unwrap();
    assert_eq!(held.1.first().map(|event| event.seq), Some(1));
    assert_eq!(gateway.redrive(bad.account).await, 0, "another copy has the first and nobody the second");
    drop(held);
    assert_eq!(gateway.redrive(bad.account).await, 2);
}
