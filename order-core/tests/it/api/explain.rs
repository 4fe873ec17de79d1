//! What happened to an order, by every id that it has, with the other processes away or beside.

use super::{ApiWorld, Customer, buy};
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use platform::clock::SystemClock;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpListener;

async fn explain(world: &ApiWorld, id: &str) -> super::Answer {
    world.ops(Method::GET, &format!("/ops/v1/explain/{id}"), &json!({})).await
}

async fn execute(world: &ApiWorld, sql: &str, order: &str, account: &Customer) {
    let query = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()));
    let query = query.bind(order.parse::<uuid::Uuid>().unwrap()).bind(account.account_id.as_uuid());
    query.execute(&world.database.pool).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_id_of_an_order_tells_its_story_while_the_other_processes_are_away() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let order = customer.post(&buy("c-1", "2", "100")).await.id().to_owned();
    customer.delete(&format!("/v2/orders/{order}")).await;
    execute(
        &world,
        "insert into executions (event_id, order_id, account_id, kind, execution_id, quantity, price, at, applied_at)
         values ('61e69015-8549-4bfd-b9c3-01e75843f47d', $1, $2, 'fill', 'exec-1', 1, 100, now(), now())",
        &order,
        &customer,
    )
    .await;
    for broker in ["a-broker", "sim", "z-broker"] {
        let sql = format!(
            "insert into broker_orders (broker, broker_order_id, order_id)
             select '{broker}', 'b-of-{broker}', case when '{broker}' = 'sim' then $1 end where $2 is not null"
        );
        execute(&world, &sql, &order, &customer).await;
    }
    let event: uuid::Uuid = sqlx::query_scalar("select event_id from event_log where type = 'order.submit'")
        .fetch_one(&world.database.pool)
        .await
        .unwrap();
    let event = event.to_string();
    for id in ["c-1", &order, "b-of-sim", "exec-1", "61e69015-8549-4bfd-b9c3-01e75843f47d", &event] {
        let told = explain(&world, id).await;
        assert_eq!((told.status, &told.body["order"]["order_id"]), (200, &json!(order)), "{id}: {told:?}");
        let kinds: Vec<_> =
            told.body["timeline"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
        for kind in ["transition", "journal", "event", "execution"] {
            assert!(kinds.contains(&kind), "{id}: {kinds:?}");
        }
        for part in ["gateway", "receiver"] {
            assert_eq!(told.body["parts"][part]["status"], "unreachable", "{told:?}");
        }
    }
    let unknown = explain(&world, "never-heard-of").await;
    assert_eq!((unknown.status, &unknown.body["order"]), (200, &Value::Null), "the others could not be asked");
    assert_eq!(explain(&world, "a%00b").await.failed_with(), (422, 40_010_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_order_id_of_two_accounts_is_a_list_until_the_account_is_named() {
    let world = ApiWorld::new().await;
    let customers = [world.customer("1000").await, world.customer("1000").await];
    for customer in &customers {
        assert_eq!(customer.post(&buy("same", "1", "10")).await.status, 200);
    }
    let refused = customers[0].post(&buy("refused", "1000", "10")).await;
    assert_eq!(refused.status, 403);
    let list = explain(&world, "same").await.body;
    assert_eq!((&list["ambiguous"], &list["order"]), (&json!(true), &Value::Null));
    assert_eq!(list["matches"].as_array().unwrap().len(), 2);
    let one = explain(&world, &format!("same?account_id={}", customers[1].account_id)).await.body;
    assert_eq!(one["order"]["account_id"], json!(customers[1].account_id));
    let refusal = explain(&world, "refused").await.body;
    assert_eq!((&refusal["order"], &refusal["timeline"][0]["kind"]), (&Value::Null, &json!("refusal")));
    assert_eq!(refusal["timeline"][0]["data"]["code"], 40_310_000);
}

/// A gateway and receiver that answer only with the token between processes.
async fn peer() -> String {
    async fn told(headers: HeaderMap, Path(id): Path<String>) -> (StatusCode, Json<Value>) {
        if headers.get("authorization").is_none_or(|token| token != "Bearer peer-token") {
            return (StatusCode::UNAUTHORIZED, Json(json!({"code": 40_110_000})));
        }
        if id.starts_with("lost") {
            return (StatusCode::NOT_FOUND, Json(json!({"code": 40_410_000})));
        }
        let request = json!({"order_id": id, "state": "live"});
        let attempt = json!({"n": 1, "claimed_at": "2026-07-01T14:00:00Z"});
        (StatusCode::OK, Json(json!({"story": {"request": request, "attempts": [attempt]}, "log": []})))
    }
    let router = Router::new().route("/story/v1/requests/{id}", get(told));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_part_is_asked_for_with_the_peers_token_and_a_stray_404_is_no_answer() {
    let url = peer().await;
    let world = ApiWorld::beside(&url, "always", Arc::new(SystemClock)).await;
    let unknown = explain(&world, "lost/../../v1").await;
    assert_ne!(unknown.status, 500, "{unknown:?}");
    let told = explain(&world, "lost-1").await.body;
    assert_eq!(told["parts"]["gateway"]["status"], "knows_nothing");
    assert_eq!(told["parts"]["receiver"]["status"], "unreachable");
    let told = explain(&world, "something").await.body;
    assert_eq!(told["parts"]["gateway"]["request"]["state"], "live");
    assert_eq!(told["timeline"][0]["kind"], "attempt");
    let doubtful = world.ops(Method::GET, "/ops/v1/doubtful", &json!({})).await;
    let gateway = &doubtful.body["parts"]["gateway"];
    assert_eq!(
        (doubtful.status, &gateway["status"], &gateway["reason"]),
        (200, &json!("unreachable"), &json!("it answered status 404"))
    );
}
