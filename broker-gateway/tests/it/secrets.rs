//! The real program, with everything logged that any library of it can log, against a broker that refuses it: no
//! secret is ever written, and every metric that it shows explains itself.

use axum::Router;
use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker_gateway::metrics::ALL;
use platform::http::bind;
use platform::testing::{TestDatabase, TestProcess, eventually, scrape_faults};
use reqwest::Client;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const PROGRAM: &str = env!("CARGO_BIN_EXE_broker-gateway");
/// In every planted secret.
const PLANTED: &str = "planted";
const LONG: Duration = Duration::from_secs(60);

/// A broker that refuses everybody, and counts them.
async fn refusing_broker() -> (String, Arc<AtomicU32>) {
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let refuse = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { (StatusCode::UNAUTHORIZED, "{\"code\":40110000,\"message\":\"request is not authorized\"}") }
    };
    let (listener, addr) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let router = Router::new().fallback(refuse);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{addr}"), asked)
}

fn variables<'a>(database: &'a str, broker: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("RUST_LOG", "trace"),
        ("BROKER_GATEWAY_DATABASE_URL", database),
        ("REDIS_URL", "redis://:planted-redis@127.0.0.1:9/"),
        ("OPS_TOKEN", "planted-ops"),
        ("BROKER_GATEWAY__TOKENS__OPERATORS__ANN", "planted-ann-0123456789"),
        ("PEER_TOKEN", "planted-peer"),
        ("BROKER_GATEWAY__HTTP__OPS_ADDR", "127.0.0.1:0"),
        ("BROKER_GATEWAY__PEERS__ORDER_SERVER_URL", "http://127.0.0.1:9"),
        ("BROKER_GATEWAY__PEERS__RECEIVER_URL", "http://127.0.0.1:9"),
        ("BROKER_GATEWAY__BROKER__BASE_URL", broker),
        ("BROKER_GATEWAY__BROKER__KEY_ID", "key-1"),
        ("BROKER_GATEWAY__BROKER__SECRET_KEY", "planted-broker"),
        ("BROKER_GATEWAY__BROKER__ACCOUNT_ID", "5f1f4f5c-6d7e-4a8b-9c0d-1e2f3a4b5c6d"),
        ("BROKER_GATEWAY__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:9/v1/traces"),
        ("BROKER_GATEWAY__TELEMETRY__OTLP_AUTHORIZATION", "Bearer planted-collector"),
    ]
}

/// An address with a password, and the password: a planted one where the server asks for none.
fn with_password(url: &str) -> (String, String) {
    let (before, rest) = url.split_once('@').unwrap();
    let user = before.rsplit_once("//").map_or(before, |(_, user)| user);
    match user.split_once(':') {
        Some((_, password)) => (url.to_owned(), password.to_owned()),
        None => (format!("postgres://{user}:planted-database@{rest}"), PLANTED.to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_writes_no_secret_and_explains_every_metric() {
    platform::tls::install_crypto_provider();
    let database =
        TestDatabase::create(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/broker-gateway")).await;
    let (broker, asked) = refusing_broker().await;
    let (url, password) = with_password(&database.url);
    let mut gateway = TestProcess::start(PROGRAM, &["run"], &variables(&url, &broker));
    let log = gateway.until_said("broker gateway runs").await;
    let line = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ops = line.filter_map(|line| line["ops_addr"].as_str().map(str::to_owned)).next_back();
    let ops = ops.unwrap_or_else(|| panic!("it does not run: {log}"));
    let client = Client::builder().no_proxy().build().unwrap();
    assert!(eventually(LONG, || async { asked.load(Ordering::Relaxed) > 0 }).await, "it never asked the broker");
    for token in ["planted-other", "planted-ops", "planted-ann-0123456789", "planted-peer"] {
        for path in ["ops/v1/lane", "ops/v1/manual", "feed/heads", "reference/v1/instruments"] {
            client.get(format!("http://{ops}/{path}")).bearer_auth(token).send().await.unwrap();
        }
        let rate = json!({"rate_per_s": 7, "secret": "planted-body"});
        client.put(format!("http://{ops}/ops/v1/lane")).bearer_auth(token).json(&rate).send().await.unwrap();
    }
    let page = client.get(format!("http://{ops}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("gateway_lane_call_interval_seconds{"), "nothing was measured: {page}");
    let faults = scrape_faults(&page, &ALL);
    assert!(faults.is_empty(), "{faults:#?}");

    let log = gateway.kill().await;
    assert!(log.contains("TRACE"), "nothing was logged");
    for secret in [PLANTED.to_owned(), password, STANDARD.encode("key-1:planted-broker")] {
        let lines: Vec<_> = log.lines().filter(|line| line.contains(&secret)).collect();
        assert!(lines.is_empty(), "{secret} was written: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_the_gateway_that_is_refused_is_repeated_with_its_secret() {
    let good = variables("postgres://u:planted@127.0.0.1:1/d", "http://127.0.0.1:9");
    let said = TestProcess::start(PROGRAM, &["check-config"], &good).until_ended().await;
    assert!(said.contains("\"***\"") && !said.contains(PLANTED), "{said}");
    for (name, value) in [
        ("BROKER_GATEWAY_DATABASE_URL", "postgres://user:planted@127.0.0.1:port/db"),
        ("REDIS_URL", "redis://:planted@127.0.0.1:port/"),
        ("BROKER_GATEWAY__BROKER__BASE_URL", "http://user:planted@127.0.0.1:port"),
        ("BROKER_GATEWAY__BROKER__SECRET_KEY", "{planted=planted}"),
        ("BROKER_GATEWAY__TOKENS", "{ops=planted, other=planted}"),
        ("BROKER_GATEWAY__TELEMETRY__OTLP_ENDPOINT", "http://user:planted@127.0.0.1:port"),
    ] {
        let mut variables = variables("postgres://u@127.0.0.1:1/d", "http://127.0.0.1:9");
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
        let said = TestProcess::start(PROGRAM, &["check-config"], &variables).until_ended().await;
        assert!(!said.is_empty(), "{name}={value}: it ended without a word");
        assert!(!said.contains(PLANTED), "{name}={value}: {said}");
    }
}
