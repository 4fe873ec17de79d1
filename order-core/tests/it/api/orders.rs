//! The life of an order as its customer sees it.

use super::{ApiWorld, Standing, buy};
use serde_json::{Value, json};
use std::sync::Arc;
use time::macros::datetime;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_placed_found_listed_and_its_cancel_is_put_on_record() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    let placed = customer.post(&buy("c-1", "10", "100")).await;
    assert_eq!((placed.status, placed.replayed), (200, false));
    assert_eq!((&placed.body["status"], &placed.body["order_class"]), (&json!("pending_new"), &json!("")));
    let account = customer.account().await;
    assert_eq!((&account["cash"], &account["buying_power"]), (&json!("10000"), &json!("9000")));
    let path = format!("/v2/orders/{}", placed.id());
    assert_eq!(customer.get(&path).await.body, placed.body);
    assert_eq!(customer.get("/v2/orders:by_client_order_id?client_order_id=c-1").await.body, placed.body);
    assert_eq!(customer.get("/v2/orders").await.body, json!([placed.body]));
    assert_eq!(customer.delete(&path).await.status, 204);
    let cancelling = customer.get(&path).await.body;
    assert_eq!((&cancelling["status"], &cancelling["canceled_at"]), (&json!("pending_cancel"), &Value::Null));
    assert_eq!(customer.delete(&path).await.status, 204);
    assert_eq!(world.count("select count(*) from event_log where type = 'order.cancel'").await, 1);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_outside_its_session_waits_here_and_is_cancelled_here_once() {
    let sunday = Arc::new(Standing(datetime!(2026-07-05 12:00 -4)));
    let world = ApiWorld::at("real", sunday).await;
    let customer = world.customer("10000").await;
    let placed = customer.post(&buy("c-1", "10", "100")).await;
    assert_eq!(placed.body["status"], "accepted");
    let path = format!("/v2/orders/{}", placed.id());
    assert_eq!(customer.delete(&path).await.status, 204);
    let canceled = customer.get(&path).await.body;
    assert_eq!(canceled["status"], "canceled");
    assert!(canceled["canceled_at"].is_string());
    assert_eq!(customer.account().await["buying_power"], "10000");
    assert_eq!(customer.delete(&path).await.failed_with(), (422, 42_210_000));
    assert_eq!(customer.get("/v2/orders").await.body, json!([]));
    assert_eq!(customer.get("/v2/orders?status=closed").await.body.as_array().unwrap().len(), 1);
    let clock = customer.get("/v2/clock").await.body;
    assert_eq!((&clock["is_open"], &clock["next_open"]), (&json!(false), &json!("2026-07-06T09:30:00-04:00")));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_cut_filtered_and_paged_by_order() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut body = buy(&format!("c-{n}"), "1", "10");
        if n == 4 {
            body["symbol"] = json!("WHOLE");
        }
        ids.push(customer.post(&body).await.id().to_owned());
    }
    let listed = async |query: &str| -> Vec<String> {
        let answer = customer.get(&format!("/v2/orders{query}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body.as_array().unwrap().iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect()
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(listed("").await, newest_first);
    assert_eq!(listed("?direction=asc&limit=2&nested=True").await, ids[..2]);
    assert_eq!(listed("?symbols=WHOLE,MSFT").await, ids[4..]);
    assert_eq!(listed("?side=sell").await, Vec::<String>::new());
    assert_eq!(listed("?status=closed").await, Vec::<String>::new());
    assert_eq!(listed(&format!("?before_order_id={}&limit=2", ids[3])).await, [ids[2].clone(), ids[1].clone()]);
    assert_eq!(listed(&format!("?after_order_id={}&direction=asc", ids[2])).await, ids[3..]);
    assert_eq!(listed("?until=2020-01-01").await, Vec::<String>::new());
    let unknown = customer.get("/v2/orders?after_order_id=61e69015-8549-4bfd-b9c3-01e75843f47d").await;
    assert_eq!(unknown.failed_with(), (404, 40_410_000));
    let mixed = customer.get(&format!("/v2/orders?after=2020-01-01&after_order_id={}", ids[0])).await;
    assert_eq!(mixed.failed_with(), (422, 40_010_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_everything_reaches_each_open_order() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    for n in 0..20 {
        assert_eq!(customer.post(&buy(&format!("c-{n}"), "1", "10")).await.status, 200);
    }
    let answer = customer.delete("/v2/orders").await;
    assert_eq!(answer.status, 207);
    let rows = answer.body.as_array().unwrap();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row["status"] == 200), "{rows:?}");
    assert_eq!(world.count("select count(*) from orders where status = 'pending_cancel'").await, 20);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_took_another_serves_after_it_is_gone() {
    let world = ApiWorld::new().await;
    let customer = world.customer("10000").await;
    let placed = customer.post(&buy("c-1", "10", "100")).await;
    let next = world.another().await;
    let ApiWorld { copy, database: _database, redis: _redis, .. } = world;
    copy.stop().await;
    let customer = customer.at(&next);
    assert_eq!(customer.get(&format!("/v2/orders/{}", placed.id())).await.body, placed.body);
    let again = customer.post(&buy("c-1", "10.0", "100.00")).await;
    assert_eq!((again.status, again.replayed, again.id()), (200, true, placed.id()));
    next.stop().await;
}
