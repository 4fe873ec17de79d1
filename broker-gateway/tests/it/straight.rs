//! New orders that are claimed with their intake: sent once, by the rules that the lane follows.

use crate::broker::TestBroker;
use crate::harness::{Gateway, Order, terms};
use contracts::event::Producer;
use platform::consumer::Sink;
use std::time::Duration;

const ORDERS_MAX: usize = 100;

/// How often the row of a request was changed after it was inserted.
async fn changes(gateway: &Gateway, order: &Order) -> i64 {
    sqlx::query_scalar("select version from requests where order_id = $1")
        .bind(order.id.as_uuid())
        .fetch_one(&gateway.database.pool)
        .await
        .unwrap()
}

/// Whether new orders would have to wait behind something.
async fn is_queue_long(gateway: &Gateway) -> bool {
    let order = Order::new();
    let partition = contracts::Partition::of_account(order.account);
    let slice = gateway.slice(Producer::OrderCore, partition, vec![(order.account, order.id, order.submit())]);
    let mut tx = gateway.store.begin_slices(std::slice::from_ref(&slice)).await.unwrap().expect("it is ours");
    let queue = tx.queue(&[order.account.as_uuid()], None).await.unwrap();
    drop(tx);
    gateway.apply(slice).await;
    queue.is_long
}

#[tokio::test]
async fn an_order_that_nothing_holds_back_is_claimed_with_its_intake_and_sent_once_however_often_it_is_told() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    let (mut sent, mut straight) = (0, None);
    // While the lane itself claims there may be no room; it is at rest soon.
    while straight.is_none() && sent < ORDERS_MAX {
        let order = Order::new();
        gateway.submit(&order).await;
        gateway.until_told(&order, "gateway.acknowledged").await;
        sent += 1;
        straight = (changes(&gateway, &order).await == 1).then_some(order);
    }
    let order = straight.expect("one is claimed with its intake: its only change is the answer");
    let attempts = gateway.story(&order).await.attempts;
    assert_eq!(attempts.iter().map(|a| (a.n, a.outcome.as_deref())).collect::<Vec<_>>(), [(1, Some("accepted"))]);
    for _ in 0..3 {
        gateway.submit(&order).await;
    }
    lane.stop().await;
    assert_eq!((broker.creates().len(), broker.orders_len()), (sent, u32::try_from(sent).unwrap()));
}

#[tokio::test]
async fn an_order_of_an_account_with_an_open_attempt_of_a_dead_process_is_not_sent_with_its_intake() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let doubtful = Order::new();
    let new = Order::of(doubtful.account);
    gateway.submit(&doubtful).await;
    gateway.plant_open_attempt(&doubtful, 0).await;
    let lane = gateway.start_anew().await;
    gateway.submit(&new).await;
    for order in [&new, &doubtful] {
        gateway.until_told(order, "gateway.acknowledged").await;
    }
    lane.stop().await;
    let keys = [("doubtful", doubtful.key().to_string()), ("new", new.key().to_string())];
    let calls = broker.calls_about(&keys);
    let place = |wanted| calls.iter().position(|call| *call == wanted).expect("it was called");
    assert!(place(("ask", "doubtful")) < place(("create", "new")), "{calls:?}");
}

#[tokio::test]
async fn of_two_orders_under_one_id_only_the_one_that_is_kept_is_sent() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    for _ in 0..20 {
        let kept = Order::new();
        let partition = contracts::Partition::of_account(kept.account);
        let stranger = std::iter::repeat_with(|| Order { id: kept.id, terms: terms("999"), ..Order::new() })
            .find(|other| contracts::Partition::of_account(other.account) == partition)
            .expect("there is no end of accounts");
        let events = [&kept, &stranger].map(|order| (order.account, order.id, order.submit())).into();
        gateway.apply(gateway.slice(Producer::OrderCore, partition, events)).await;
        gateway.until_told(&kept, "gateway.acknowledged").await;
        assert_eq!(broker.order(&kept.key().to_string()).expect("it is there").entity["qty"], "2");
    }
    lane.stop().await;
    assert_eq!((broker.creates().len(), broker.orders_len()), (20, 20));
}

#[tokio::test]
async fn what_is_not_committed_is_not_sent() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let lane = gateway.start();
    // The last statement before the commit fails.
    let break_it = "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'not now' using errcode = 'lock_not_available'; end $$;
         create trigger refuse before update on applied for each row execute function refuse()";
    sqlx::raw_sql(break_it).execute(&gateway.database.pool).await.unwrap();
    let order = Order::new();
    let partition = contracts::Partition::of_account(order.account);
    let slice = gateway.slice(Producer::OrderCore, partition, vec![(order.account, order.id, order.submit())]);
    for _ in 0..20 {
        assert!(gateway.intake().apply(slice.clone()).await.is_err());
    }
    lane.stop().await;
    assert_eq!(broker.creates().len(), 0);
}

#[tokio::test]
async fn without_room_for_calls_a_new_order_waits_and_later_ones_wait_behind_it() {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let paused = gateway.start();
    paused.control.hold(Duration::from_secs(3600));
    let first = Order::new();
    gateway.submit(&first).await;
    assert_eq!((gateway.state(&first).await.as_str(), broker.creates().len()), ("queued", 0));
    assert!(is_queue_long(&gateway).await);
    let lane = gateway.start();
    gateway.until_told(&first, "gateway.acknowledged").await;
    for stopped in [paused, lane] {
        stopped.stop().await;
    }
    assert_eq!(u32::try_from(broker.creates().len()).unwrap(), broker.orders_len());
}
