//! The real program, with everything logged that any library of it can log, under good and forged pushes: no secret
//! is ever written, its lines name the order, and every metric that it shows explains itself.

use crate::broker::{Event, position};
use crate::harness::World;
use crate::push::Push;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fill_receiver::metrics::ALL;
use platform::testing::{TestProcess, scrape_faults};
use reqwest::Client;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_fill-receiver");
/// In every planted secret.
const PLANTED: &str = "planted";
const PUSH_SECRET: &str = "planted-for-the-pushes";

fn variables<'a>(database: &'a str, broker: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("RUST_LOG", "trace"),
        ("FILL_RECEIVER_DATABASE_URL", database),
        ("REDIS_URL", "redis://:planted-redis@127.0.0.1:9/"),
        ("OPS_TOKEN", "planted-ops"),
        ("FILL_RECEIVER__TOKENS__OPERATORS__ANN", "planted-ann-0123456789"),
        ("PEER_TOKEN", "planted-peer"),
        ("FILL_RECEIVER__HTTP__OPS_ADDR", "127.0.0.1:0"),
        ("FILL_RECEIVER__PUSH__ADDR", "127.0.0.1:0"),
        ("FILL_RECEIVER__PUSH__KEYS", "[{id=\"first\",secret=\"planted-for-the-pushes\"}]"),
        ("FILL_RECEIVER__BROKER__BASE_URL", broker),
        ("FILL_RECEIVER__BROKER__KEY_ID", "key-1"),
        ("FILL_RECEIVER__BROKER__SECRET_KEY", "planted-broker"),
        ("FILL_RECEIVER__TELEMETRY__OTLP_ENDPOINT", "http://127.0.0.1:9/v1/traces"),
        ("FILL_RECEIVER__TELEMETRY__OTLP_AUTHORIZATION", "Bearer planted-collector"),
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

/// A field of the last line that has it.
fn field(log: &str, name: &str) -> String {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter_map(|line| line[name].as_str().map(str::to_owned))
        .next_back()
        .unwrap_or_else(|| panic!("it does not say {name}: {log}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_writes_no_secret_names_orders_and_explains_every_metric() {
    let world = World::new().await;
    let (url, password) = with_password(&world.db.url);
    let mut receiver = TestProcess::start(PROGRAM, &["run"], &variables(&url, &world.broker.base_url()));
    let said = receiver.until_said("fill receiver runs").await;
    let ops = field(&said, "ops_addr");
    let push_addr = field(&said, "push_addr").trim_start_matches("Some(").trim_end_matches(')').to_owned();
    let pushes = format!("http://{push_addr}/push/v1/events");
    let fill = Event::fill(1, "e-1", position(500, 1));
    let good = Push::of("nonce-0000000001", &fill.bytes());
    assert_eq!(good.clone().signed_by("first", PUSH_SECRET).to(&pushes).await.status, 200);
    assert_eq!(good.clone().signed_by("first", "planted-but-not-the-secret").to(&pushes).await.status, 401);
    assert_eq!(good.signed_by("planted-key-id", PUSH_SECRET).to(&pushes).await.status, 401);
    let second = Push::of("nonce-0000000002", &Event::fill(1, "e-2", position(400, 2)).bytes());
    assert_eq!(second.signed_by("first", PUSH_SECRET).to(&pushes).await.status, 200);
    // The broker does not take these credentials, which are sent all the same.
    receiver.until_said("stream could not be opened").await;
    let client = Client::builder().no_proxy().build().unwrap();
    for token in ["planted-other", "planted-ops", "planted-ann-0123456789", "planted-peer"] {
        for path in ["ops/v1/parked", "ops/v1/suspects", "feed/heads"] {
            client.get(format!("http://{ops}/{path}")).bearer_auth(token).send().await.unwrap();
        }
    }
    let page = client.get(format!("http://{ops}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("fill_receiver_pushes_total{"), "nothing was counted: {page}");
    let faults = scrape_faults(&page, &ALL);
    assert!(faults.is_empty(), "{faults:#?}");

    let log = receiver.kill().await;
    assert!(log.contains("TRACE"), "nothing was logged");
    let logged = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let logged: Vec<_> = logged.filter(|line| line["message"] == "broker event logged").collect();
    assert_eq!(logged.len(), 2, "{logged:#?}");
    for line in &logged {
        for name in ["order_id", "broker_order_id", "broker_key", "event_id"] {
            assert!(line[name].is_string(), "no {name}: {line}");
        }
    }
    for secret in [PLANTED.to_owned(), password, STANDARD.encode("key-1:planted-broker")] {
        // Whoever pushes with a key that is not ours names it in the clear; that name is no secret.
        let lines: Vec<_> = log.lines().filter(|line| line.replace("planted-key-id", "").contains(&secret)).collect();
        assert!(lines.is_empty(), "{secret} was written: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_setting_of_the_receiver_that_is_refused_is_repeated_with_its_secret() {
    let good = variables("postgres://u:planted@127.0.0.1:1/d", "http://127.0.0.1:9");
    let said = TestProcess::start(PROGRAM, &["check-config"], &good).until_ended().await;
    assert!(said.contains("\"***\"") && !said.contains(PLANTED), "{said}");
    for (name, value) in [
        ("FILL_RECEIVER_DATABASE_URL", "postgres://user:planted@127.0.0.1:port/db"),
        ("REDIS_URL", "redis://:planted@127.0.0.1:port/"),
        ("FILL_RECEIVER__BROKER__BASE_URL", "http://user:planted@127.0.0.1:port"),
        ("FILL_RECEIVER__BROKER__SECRET_KEY", "{planted=planted}"),
        ("FILL_RECEIVER__PUSH__KEYS", "[{id=\"first\",secret=\"planted\"}]"),
        ("FILL_RECEIVER__PUSH__KEYS", "[{id=\"first\",secrets=\"planted-long-enough-for-all\"}]"),
        ("FILL_RECEIVER__TOKENS", "{ops=planted, other=planted}"),
    ] {
        let mut variables = variables("postgres://u@127.0.0.1:1/d", "http://127.0.0.1:9");
        variables.retain(|(other, _)| *other != name);
        variables.push((name, value));
        let said = TestProcess::start(PROGRAM, &["check-config"], &variables).until_ended().await;
        assert!(!said.is_empty(), "{name}={value}: it ended without a word");
        assert!(!said.contains(PLANTED), "{name}={value}: {said}");
    }
}
