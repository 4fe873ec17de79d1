//! What comes in takes effect once, in one transaction with its position.

use crate::broker::TestBroker;
use crate::doubt::fill;
use crate::harness::{Gateway, Order, kinds, terms};
use contracts::Partition;
use contracts::event::{EvidenceSource, GatewayEvent, OrdersEvent, Producer};
use futures_util::future::join_all;
use platform::consumer::SliceOutcome;
use std::collections::BTreeMap;

#[tokio::test]
async fn a_slice_that_was_applied_by_another_copy_changes_nothing() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    let partition = Partition::of_account(order.account);
    let slice = gateway.slice(Producer::OrderCore, partition, vec![(order.account, order.id, order.submit())]);
    gateway.apply(slice.clone()).await;
    let cancelled = gateway.story(&order).await.request.cancel_requested;
    assert_eq!(gateway.try_apply(slice).await, SliceOutcome::Moved);
    assert_eq!(gateway.story(&order).await.request.cancel_requested, cancelled);
}

#[tokio::test]
async fn slices_that_wait_together_share_transactions_and_a_moved_one_stops_none() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let mut orders: BTreeMap<Partition, Order> = BTreeMap::new();
    while orders.len() < 16 {
        let order = Order::new();
        orders.entry(Partition::of_account(order.account)).or_insert(order);
    }
    let slices: Vec<_> = orders
        .iter()
        .map(|(partition, order)| {
            gateway.slice(Producer::OrderCore, *partition, vec![(order.account, order.id, order.submit())])
        })
        .collect();
    // Another copy was here first.
    gateway.apply(slices[7].clone()).await;
    let outcomes = join_all(slices.iter().map(|slice| gateway.try_apply(slice.clone()))).await;
    for (index, (outcome, slice)) in outcomes.into_iter().zip(&slices).enumerate() {
        let expected = if index == 7 { SliceOutcome::Moved } else { SliceOutcome::Applied(slice.end()) };
        assert_eq!(outcome, expected, "slice {index}");
    }
    let (rows, transactions): (i64, i64) = sqlx::query_as("select count(*), count(distinct xmin::text) from requests")
        .fetch_one(&gateway.database.pool)
        .await
        .unwrap();
    assert_eq!(rows, 16);
    assert!(transactions < 8, "{transactions} transactions for 16 slices");
}

#[tokio::test]
async fn other_content_under_the_same_order_id_never_overwrites() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    let other = Order { terms: terms("999"), ..order.clone() };
    gateway.submit(&other).await;
    gateway.submit(&order).await;
    assert_eq!(gateway.story(&order).await.request.quantity.to_string(), "2");
    let lane = gateway.start();
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.acknowledged"]);
    assert_eq!(broker.creates().len(), 1);
}

#[tokio::test]
async fn an_event_that_cannot_be_understood_is_put_aside_and_the_others_go_on() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let (bad, good) = (Order::new(), Order::new());
    let good = Order::of(bad.account).clone_id(&good);
    let partition = Partition::of_account(bad.account);
    let text = |event: &OrdersEvent| serde_json::to_string(event).unwrap();
    let cancel = OrdersEvent::Cancel { order_id: bad.id, request: 1 };
    let slice = gateway.raw_slice(
        Producer::OrderCore,
        partition,
        vec![
            (bad.account, bad.id, "order.submit".to_owned(), "{\"what\":\"nonsense\"}".to_owned()),
            (bad.account, bad.id, "order.cancel".to_owned(), text(&cancel)),
            (good.account, good.id, "order.submit".to_owned(), text(&good.submit())),
        ],
    );
    gateway.apply(slice).await;
    assert_eq!(gateway.state(&good).await, "queued");
    let reasons: Vec<String> =
        sqlx::query_scalar("select reason from deferred order by seq").fetch_all(&gateway.database.pool).await.unwrap();
    assert_eq!(reasons, ["poison", "behind"]);
}

#[tokio::test]
async fn a_submit_whose_key_is_of_another_order_is_put_aside() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let (order, other) = (Order::new(), Order::new());
    let OrdersEvent::Submit { order_id, account_id, terms, accepted_at, .. } = order.submit() else { panic!() };
    let event = OrdersEvent::Submit { order_id, account_id, broker_key: other.key(), terms, accepted_at };
    gateway.take_in(Producer::OrderCore, vec![(order.account, order.id, event)]).await;
    let reason: String =
        sqlx::query_scalar("select reason from deferred").fetch_one(&gateway.database.pool).await.unwrap();
    assert_eq!(reason, "poison");
}

#[tokio::test]
async fn an_order_whose_life_was_seen_before_it_came_is_never_sent() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.evidence(&order, fill(&order, "b-1")).await;
    gateway.submit(&order).await;
    let told = gateway.told(&order).await;
    let GatewayEvent::Acknowledged { source, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!((told.len(), *source), (1, EvidenceSource::Stream));
    let lane = gateway.start();
    let next = Order::new();
    gateway.submit(&next).await;
    gateway.until_told(&next, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(broker.creates().len(), 1);
}

#[tokio::test]
async fn evidence_of_life_reopens_what_was_called_gone() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.cancel(&order, 1).await;
    assert_eq!(gateway.state(&order).await, "not_sent");
    gateway.evidence(&order, fill(&order, "b-1")).await;
    assert_eq!(gateway.state(&order).await, "live");
    assert_eq!(kinds(&gateway.told(&order).await), ["gateway.not_sent", "gateway.acknowledged"]);
    let exit = gateway.story(&order).await.transitions.pop().unwrap();
    assert_eq!((exit.from.as_str(), exit.cause.as_str()), ("not_sent", "stream: partially_filled"));
}

#[tokio::test]
async fn a_second_broker_order_under_our_key_never_replaces_the_first() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    gateway.submit(&order).await;
    gateway.evidence(&order, fill(&order, "b-1")).await;
    gateway.evidence(&order, fill(&order, "b-2")).await;
    assert_eq!(gateway.story(&order).await.request.broker_order_id.as_deref(), Some("b-1"));
}

impl Order {
    fn clone_id(self, other: &Self) -> Self {
        Self { id: other.id, ..self }
    }
}
