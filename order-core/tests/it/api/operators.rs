//! Operators against two copies of the process.

use super::{ALICE, ApiWorld, Customer, OPS_TOKEN, buy, send};
use platform::testing::eventually;
use reqwest::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

async fn post(world: &ApiWorld, path: &str, body: &Value) -> super::Answer {
    world.ops(Method::POST, path, body).await
}

/// Asked all the time, so that an answer that keeps itself alive by being asked for never ends.
async fn becomes(customer: &Customer, status: u16) -> bool {
    eventually(SOON, || async { customer.get("/v2/account").await.status == status }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_ends_in_every_copy_while_it_is_being_used() {
    let world = ApiWorld::new().await;
    let second = world.another().await;
    let customer = world.customer("1000").await;
    let there = customer.at(&second);
    assert_eq!((customer.get("/v2/account").await.status, there.get("/v2/account").await.status), (200, 200));
    let path = format!("/ops/v1/accounts/{}/keys/{}/revoke", customer.account_id, customer.key_id);
    assert_eq!(post(&world, &path, &json!({"reason": "lost"})).await.status, 200);
    assert!(becomes(&customer, 401).await && becomes(&there, 401).await);
    assert_eq!(post(&world, &path, &json!({})).await.status, 200, "a repeat is no failure");
    let bare = world.client.post(format!("http://{}{path}", world.copy.ops_addr)).bearer_auth(OPS_TOKEN);
    let bare = send(bare.header("content-type", "application/json"));
    assert_eq!(bare.await.status, 200, "nothing needs to be said");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_key_goes_on_beside_the_new_one_or_ends_at_once() {
    let world = ApiWorld::new().await;
    let second = world.another().await;
    let customer = world.customer("1000").await;
    let rotate = |key_id: &str| format!("/ops/v1/accounts/{}/keys/{key_id}/rotate", customer.account_id);
    let new = post(&world, &rotate(&customer.key_id), &json!({"overlap_s": 3600})).await;
    assert_eq!(new.status, 201, "{new:?}");
    let renewed = customer.with_key(&new.body);
    assert!(becomes(&renewed, 200).await && becomes(&renewed.at(&second), 200).await);
    assert_eq!(customer.at(&second).get("/v2/account").await.status, 200, "the overlap");
    let last = post(&world, &rotate(&renewed.key_id), &json!({"overlap_s": 0})).await;
    let last = customer.with_key(&last.body);
    assert!(becomes(&renewed, 401).await && becomes(&renewed.at(&second), 401).await);
    assert!(becomes(&last.at(&second), 200).await);
    assert_eq!(post(&world, &rotate(&renewed.key_id), &json!({"overlap_s": 0})).await.failed_with(), (404, 40_410_000));
    for overlap in [json!(-1), json!("1.5"), json!(604_801), Value::Null] {
        let refused = post(&world, &rotate(&last.key_id), &json!({"overlap_s": overlap})).await;
        assert_eq!(refused.failed_with(), (422, 40_010_001));
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_keys_shows_neither_secrets_nor_their_hashes() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let path = format!("/ops/v1/accounts/{}/keys", customer.account_id);
    let key = post(&world, &path, &json!({})).await.body;
    let list = world.ops(Method::GET, &format!("{path}?limit=1"), &json!({})).await.body;
    assert_eq!(list["keys"].as_array().unwrap().len(), 1);
    let rest = world.ops(Method::GET, &format!("{path}?after={}", list["after"].as_str().unwrap()), &json!({})).await;
    let names: Vec<_> = [&list, &rest.body].into_iter().flat_map(|page| page["keys"].as_array().unwrap()).collect();
    assert_eq!(names.len(), 2);
    for shown in names {
        let fields: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, ["created_at", "expires_at", "key_id", "revoked_at"]);
        assert!(!shown.to_string().contains(key["secret_key"].as_str().unwrap()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_halt_refuses_new_orders_in_every_copy_with_a_code_of_its_own_and_lets_cancels_through() {
    let world = ApiWorld::new().await;
    let second = world.another().await;
    let customer = world.customer("1000").await;
    let there = customer.at(&second);
    let mut n = 0;
    for place in [
        format!("/ops/v1/accounts/{}", customer.account_id),
        "/ops/v1/halts/symbols/AAPL".to_owned(),
        "/ops/v1/halts/market".to_owned(),
    ] {
        n += 1;
        let open = there.post(&buy(&format!("open-{n}"), "1", "10")).await;
        assert_eq!(open.status, 200, "{open:?}");
        let why = json!({"operator": "kim", "reason": "a secret inquiry"});
        assert_eq!(post(&world, &format!("{place}/halt"), &why).await.status, 200);
        let refused = there.post(&buy(&format!("late-{n}"), "1", "10")).await;
        assert_eq!(refused.failed_with(), (403, 40_310_001));
        assert!(!refused.body.to_string().contains("inquiry"), "why is not for customers");
        assert_eq!(there.delete(&format!("/v2/orders/{}", open.id())).await.status, 204);
        assert_eq!(customer.account().await["trading_blocked"], json!(n == 1));
        let path = format!("{place}/lift");
        assert_eq!(world.ops_as(ALICE, Method::POST, &path, &json!({"reason": "over"})).await.status, 200);
        assert_eq!(there.post(&buy(&format!("after-{n}"), "1", "10")).await.status, 200);
    }
    let actions = world.ops(Method::GET, "/ops/v1/actions?limit=6", &json!({})).await.body;
    let done: Vec<_> = actions["actions"].as_array().unwrap().iter().rev().collect();
    let who = |n: usize| (done[n]["operator"].as_str().unwrap(), done[n]["credential"].as_str().unwrap());
    assert_eq!((who(0), who(1)), (("kim", "ops"), ("alice", "alice")));
    assert_eq!((&done[2]["subject"], &done[4]["subject"]), (&json!("AAPL"), &json!("market")));
    assert!(done.iter().all(|action| action["reason"] == "a secret inquiry" || action["reason"] == "over"));
    world.audit().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withdrawal_goes_out_once_and_never_more_than_is_available() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    customer.post(&buy("c-1", "6", "100")).await;
    let path = format!("/ops/v1/accounts/{}/withdrawals", customer.account_id);
    let body = |amount: &str| json!({"amount": amount, "currency": "USD", "reference": "w-1"});
    let short = post(&world, &path, &body("400.01")).await;
    assert_eq!(short.failed_with(), (403, 40_310_000));
    for _ in 0..2 {
        assert_eq!(post(&world, &path, &body("400")).await.status, 200);
    }
    assert_eq!(post(&world, &path, &body("399")).await.failed_with(), (409, 40_910_000));
    assert_eq!(customer.account().await["cash"], "600");
    let accounts = world.ops(Method::GET, "/ops/v1/accounts?limit=500", &json!({})).await.body;
    assert_eq!(accounts["accounts"][0]["cash"], json!({"available": "0", "held": "600", "shortfall": "0"}));
    world.audit().await;
}

/// Every path that the sources serve under a prefix of the operator port.
fn operator_paths() -> Vec<String> {
    fn read(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let routes = text.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
                found.extend(routes.filter(|route| route.starts_with("/ops/")).map(str::to_owned));
            }
        }
    }
    let mut found = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 15, "the sources are not read: {found:?}");
    found
}

fn filled_in(route: &str) -> String {
    let parts = route.split('/').map(|part| match part {
        "{partition}" | "{seq}" => "1",
        "{symbol}" => "AAPL",
        part if part.starts_with('{') => "61e69015-8549-4bfd-b9c3-01e75843f47d",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_of_operators_is_served_on_the_public_port_or_without_their_token() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    for route in operator_paths() {
        let path = filled_in(&route);
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let public = send(customer.request(method.clone(), &path)).await;
            assert_eq!(public.status, 404, "{method} {path}");
            let at_customers = || world.client.request(method.clone(), format!("http://{}{path}", world.copy.api_addr));
            // Who shows no customer's key learns not even that there is nothing, and is slowed down.
            for request in [at_customers(), at_customers().bearer_auth(OPS_TOKEN), at_customers().bearer_auth(ALICE)] {
                let status = request.send().await.unwrap().status().as_u16();
                assert!([401, 404, 429].contains(&status), "{method} {path}: {status}");
            }
            let port = || world.client.request(method.clone(), format!("http://{}{path}", world.copy.ops_addr));
            for request in
                [port(), port().bearer_auth("wrong"), port().bearer_auth("peer-token"), port().bearer_auth("")]
            {
                assert_eq!(request.send().await.unwrap().status().as_u16(), 401, "{method} {path}");
            }
        }
    }
}
