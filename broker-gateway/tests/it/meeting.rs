//! An order and evidence of its life that arrive in the same moment never miss each other, as when
//! the gateway's database lost its tail and the order is delivered again.

use crate::broker::TestBroker;
use crate::doubt::fill;
use crate::harness::{Gateway, Order, PATIENCE, kinds};
use contracts::event::{OrdersEvent, Producer};
use contracts::{Partition, Side, Symbol};
use platform::testing::eventually;
use sqlx::Connection;

/// Makes every transaction that gets to a point wait until the test lets it go on.
async fn stop_at(gateway: &Gateway, when: &'static str) -> sqlx::PgConnection {
    let function = "create function wait_for_the_test() returns trigger language plpgsql as $$
        begin perform pg_advisory_xact_lock(4711); return new; end $$";
    let mut holder = sqlx::PgConnection::connect(&gateway.database.url).await.unwrap();
    for statement in [function, when] {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut holder).await.unwrap();
    }
    sqlx::query("select pg_advisory_lock(4711)").execute(&mut holder).await.unwrap();
    holder
}

/// How many transactions of this database wait for an advisory lock.
async fn waiting(gateway: &Gateway) -> i64 {
    sqlx::query_scalar(
        "select count(*) from pg_locks l join pg_database d on d.oid = l.database
         where d.datname = current_database() and l.locktype = 'advisory' and not l.granted",
    )
    .fetch_one(&gateway.database.pool)
    .await
    .unwrap()
}

/// Runs two intakes: the first comes to its stop, then the second goes as far as it can, then both
/// go on. Then the order must not be sent.
async fn meet(stop: &'static str, evidence_first: bool) {
    let broker = TestBroker::start().await;
    let gateway = Gateway::with(&broker).await;
    let order = Order::new();
    let mut holder = stop_at(&gateway, stop).await;
    let partition = Partition::of_account(order.account);
    let submit: Vec<(_, _, OrdersEvent)> = vec![(order.account, order.id, order.submit())];
    let submit = gateway.slice(Producer::OrderCore, partition, submit);
    let evidence =
        gateway.slice(Producer::FillReceiver, partition, vec![(order.account, order.id, fill(&order, "b-1"))]);
    let (first, second) = if evidence_first { (evidence, submit) } else { (submit, evidence) };
    let script = async {
        assert!(
            eventually(PATIENCE, || async { waiting(&gateway).await == 1 }).await,
            "the first never came to its stop"
        );
    };
    let second_may_be_done = std::sync::atomic::AtomicBool::new(false);
    let later = async {
        script.await;
        gateway.apply(second).await;
        second_may_be_done.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let release = async {
        let done = &second_may_be_done;
        let met = eventually(PATIENCE, || async {
            done.load(std::sync::atomic::Ordering::SeqCst) || waiting(&gateway).await == 2
        });
        assert!(met.await);
        sqlx::query("select pg_advisory_unlock(4711)").execute(&mut holder).await.unwrap();
    };
    tokio::join!(gateway.apply(first), later, release);
    let lane = gateway.start();
    let told = gateway.until_told(&order, "gateway.acknowledged").await;
    lane.stop().await;
    assert_eq!(kinds(&told), ["gateway.acknowledged"]);
    assert_eq!(broker.creates().len(), 0, "an order that lives was sent");
}

#[tokio::test]
async fn evidence_under_way_when_its_order_comes_is_seen_by_it() {
    let stop = "create trigger stop before insert on evidence for each row execute function wait_for_the_test()";
    Box::pin(meet(stop, true)).await;
}

#[tokio::test]
async fn an_order_under_way_when_its_evidence_comes_is_seen_by_it() {
    let stop = "create trigger stop before update on applied for each row when (new.producer = 'order-core')
                    execute function wait_for_the_test()";
    Box::pin(meet(stop, false)).await;
}

#[tokio::test]
async fn early_evidence_of_another_share_or_side_is_a_contradiction_and_not_life() {
    for (symbol, side) in [("MSFT", Side::Buy), ("AAPL", Side::Sell)] {
        let broker = TestBroker::start().await;
        let gateway = Gateway::with(&broker).await;
        let order = Order::new();
        let mut event = fill(&order, "b-1");
        event.symbol = Symbol::new(symbol).unwrap();
        event.side = side;
        gateway.evidence(&order, event).await;
        gateway.submit(&order).await;
        let lane = gateway.start();
        let told = gateway.until_told(&order, "gateway.manual").await;
        lane.stop().await;
        assert_eq!(kinds(&told), ["gateway.manual"], "{symbol} {side:?}");
        assert_eq!(broker.creates().len(), 0);
    }
}
