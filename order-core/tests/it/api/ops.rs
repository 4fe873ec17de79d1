//! What operators may do.

use super::{ApiWorld, buy, send};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_booked_once_however_often_it_is_sent() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let path = format!("/ops/v1/accounts/{}/deposits", customer.account_id);
    let deposit = json!({"amount": "500.25", "currency": "USD", "reference": "d-1"});
    let answers = join_all((0..10).map(|_| world.ops(Method::POST, &path, &deposit))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(customer.account().await["cash"], "1500.25");
    let other = json!({"amount": "1", "currency": "USD", "reference": "d-1"});
    assert_eq!(world.ops(Method::POST, &path, &other).await.failed_with(), (409, 40_910_000));
    let nobody = "/ops/v1/accounts/61e69015-8549-4bfd-b9c3-01e75843f47d/deposits";
    assert_eq!(world.ops(Method::POST, nobody, &deposit).await.failed_with(), (404, 40_410_000));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_made_twice_under_one_id_is_one() {
    let world = ApiWorld::new().await;
    let body = json!({"currency": "USD", "account_id": "61e69015-8549-4bfd-b9c3-01e75843f47d"});
    let first = world.ops(Method::POST, "/ops/v1/accounts", &body).await;
    let second = world.ops(Method::POST, "/ops/v1/accounts", &body).await;
    assert_eq!((first.status, &first.body), (201, &second.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_every_bucket_and_every_fact_and_nobody_else_does() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let placed = customer.post(&buy("c-1", "2", "100")).await;
    let account = world.ops(Method::GET, &format!("/ops/v1/accounts/{}", customer.account_id), &json!({})).await;
    assert_eq!(account.body["cash"], json!({"available": "800", "held": "200", "shortfall": "0"}));
    let order = world.ops(Method::GET, &format!("/ops/v1/orders/{}", placed.id()), &json!({})).await;
    assert_eq!((&order.body["status"], &order.body["facts"]["submit"]), (&json!("pending_send"), &json!("queued")));
    assert_eq!(world.ops(Method::GET, "/ops/v1/audit", &json!({})).await.body, json!({"violations": []}));
    for path in ["/ops/v1/audit", "/feed/heads"] {
        let url = format!("http://{}{path}", world.copy.ops_addr);
        assert_eq!(send(world.client.get(&url)).await.failed_with(), (401, 40_110_000));
        assert_eq!(send(world.client.get(&url).bearer_auth("wrong")).await.failed_with(), (401, 40_110_000));
    }
    let feed = world.client.get(format!("http://{}/feed/heads", world.copy.ops_addr)).bearer_auth("peer-token");
    assert_eq!(send(feed).await.status, 200);
    assert_eq!(customer.get("/ops/v1/audit").await.failed_with(), (404, 40_410_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_and_stored_as_a_hash() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let key = world.ops(Method::POST, &format!("/ops/v1/accounts/{}/keys", customer.account_id), &json!({})).await;
    assert_eq!(key.status, 201);
    assert_eq!(world.count("select count(*) from api_keys where length(secret_sha256) = 32").await, 2);
    let (key_id, secret) = (key.body["key_id"].as_str().unwrap(), key.body["secret_key"].as_str().unwrap());
    let url = format!("http://{}/v2/account", world.copy.api_addr);
    let by_basic = send(world.client.get(&url).basic_auth(key_id, Some(secret))).await;
    assert_eq!((by_basic.status, &by_basic.body["id"]), (200, &json!(customer.account_id)));
}
