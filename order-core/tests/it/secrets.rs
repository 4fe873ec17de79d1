//! The real program, with everything logged that any library of it can log, under errors and attacks:
//! no secret is ever written.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "a helper that fails has failed its test")]

use crate::api::{ApiWorld, OPS_TOKEN};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt, StreamExt};
use order_core::metrics::ALL;
use platform::testing::{TestProcess, scrape_faults};
use reqwest::Client;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const PROGRAM: &str = env!("CARGO_BIN_EXE_order-server");

/// In every planted secret.
const PLANTED: &str = "planted";

fn environment<'a>(world: &'a ApiWorld, redis_url: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("RUST_LOG", "trace"),
        ("ORDER_CORE_DATABASE_URL", &world.database.url),
        ("REDIS_URL", redis_url),
        ("OPS_TOKEN", "planted-ops"),
        ("PEER_TOKEN", "planted-peer"),
        ("ORDER_SERVER__HTTP__API_ADDR", "127.0.0.1:0"),
        ("ORDER_SERVER__HTTP__OPS_ADDR", "127.0.0.1:0"),
        ("ORDER_SERVER__PEERS__GATEWAY_URL", "http://127.0.0.1:9"),
        ("ORDER_SERVER__PEERS__RECEIVER_URL", "http://127.0.0.1:9"),
    ]
}

/// An address out of the line that says where it listens.
fn address(log: &str, name: &str) -> String {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut found = lines.filter_map(|line| line[name].as_str().map(str::to_owned));
    found.next_back().unwrap_or_else(|| panic!("it does not say {name}: {log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_makes_the_server_write_a_secret() {
    let world = ApiWorld::new().await;
    let redis_url = world.redis.url();
    let mut server = TestProcess::start(PROGRAM, &["run"], &environment(&world, &redis_url));
    let said = server.until_said("order server runs").await;
    let (api, ops) = (address(&said, "api_addr"), address(&said, "ops_addr"));
    let client = Client::builder().no_proxy().build().unwrap();
    let customer = world.customer("1000").await;
    let (key_id, secret) = customer.credentials();

    for path in ["/v2/account", "/v2/orders", "/stream", "/v2/events/trades?planted-query=1"] {
        let get = || client.get(format!("http://{api}{path}"));
        get().header("apca-api-key-id", "PK").header("apca-api-secret-key", "planted-header").send().await.unwrap();
        get().basic_auth(key_id, Some("planted-basic")).send().await.unwrap();
        get().bearer_auth("planted-bearer").header("cookie", "planted-cookie").send().await.unwrap();
    }
    for message in [
        json!({"action": "auth", "key": key_id, "secret": "planted-message"}),
        json!({"action": "authenticate", "data": {"key_id": key_id, "secret_key": "planted-message"}}),
        json!({"action": "auth", "key": key_id, "secret": secret}),
    ] {
        if let Ok((mut stream, _)) = connect_async(format!("ws://{api}/stream")).await {
            stream.send(Message::text(message.to_string())).await.unwrap();
            stream.next().await.unwrap().unwrap();
        }
    }
    let accepted = client.get(format!("http://{api}/v2/account")).basic_auth(key_id, Some(secret)).send().await;
    assert_eq!(accepted.unwrap().status(), 200);
    let order = json!({"symbol": "NOPE", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"});
    let refused = client.post(format!("http://{api}/v2/orders")).basic_auth(key_id, Some(secret)).json(&order).send();
    assert!(!refused.await.unwrap().status().is_success());
    for token in ["planted-token", OPS_TOKEN, "planted-ops"] {
        client.get(format!("http://{ops}/ops/v1/audit")).bearer_auth(token).send().await.unwrap();
    }
    let account = format!("http://{ops}/ops/v1/accounts/{}/keys", customer.account_id);
    let issued =
        client.post(account).bearer_auth("planted-ops").header("x-operator", "ann").json(&json!({})).send().await;
    let issued: Value = issued.unwrap().json().await.unwrap();
    let new_secret = issued["secret_key"].as_str().unwrap_or_else(|| panic!("no key: {issued}"));

    let page = client.get(format!("http://{ops}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("api_requests_total{"), "nothing was counted: {page}");
    let faults = scrape_faults(&page, &ALL);
    assert!(faults.is_empty(), "{faults:#?}");

    let log = server.kill().await;
    assert!(log.contains("TRACE") && log.contains("http.route"), "nothing was logged");
    let basic = |name: &str, secret: &str| STANDARD.encode(format!("{name}:{secret}"));
    let planted = [
        PLANTED.to_owned(),
        secret.to_owned(),
        new_secret.to_owned(),
        basic(key_id, secret),
        basic(key_id, "planted-basic"),
    ];
    for secret in planted {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(lines.is_empty(), "{secret} was written: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_that_is_refused_is_repeated_with_its_secret() {
    let world = ApiWorld::new().await;
    let redis_url = world.redis.url();
    for (name, value) in [
        ("ORDER_CORE_DATABASE_URL", "postgres://user:planted@127.0.0.1:1/db"),
        ("ORDER_CORE_DATABASE_URL", "postgres://user:planted@127.0.0.1:port/db"),
        ("ORDER_CORE_DATABASE_URL", "planted"),
        ("REDIS_URL", "redis://:planted@127.0.0.1:port/"),
        ("REDIS_URL", "https://:planted@127.0.0.1/"),
        ("ORDER_SERVER__PEERS__GATEWAY_URL", "other://user:planted@127.0.0.1:1"),
        ("ORDER_SERVER__PEERS__RECEIVER_URL", "http://user:planted@127.0.0.1:port"),
        ("ORDER_SERVER__TOKENS", "{ops=planted, other=planted}"),
        ("ORDER_SERVER__TOKENS__OPS", "{planted=planted}"),
    ] {
        let mut variables = environment(&world, &redis_url);
        variables.retain(|(other, _)| *other != name && *other != "ORDER_SERVER__PEERS__GATEWAY_URL");
        variables.push((name, value));
        // A database that is not there is told at once.
        variables.push(("ORDER_SERVER__DATABASE__START_WAIT_MS", "0"));
        let mut server = TestProcess::start(PROGRAM, &["run"], &variables);
        // Some of these are only found out later, or are a strange password after all.
        server.until_said("order server runs").await;
        let said = server.kill().await;
        assert!(!said.is_empty(), "{name}={value}: it ended without a word");
        assert!(!said.contains(PLANTED), "{name}={value}: {said}");
    }
}
