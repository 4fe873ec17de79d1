//! The whole process: logs in over bus and feed, calls out, its own log and ports.

use crate::broker::TestBroker;
use crate::harness::{Order, PATIENCE, settings};
use axum::Router;
use broker_gateway::config::Settings;
use broker_gateway::service::Service;
use contracts::event::{Envelope, GatewayEvent, Payload, Producer};
use contracts::{EventId, Partition};
use platform::clock::{IdSource, SystemClock, SystemIds};
use platform::config::Secret;
use platform::eventlog::{self, NewEvent};
use platform::feed;
use platform::http::{Health, ServerLimits, bind, serve};
use platform::shutdown::Ended;
use platform::testing::{TestDatabase, TestRedis, eventually};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// The log of another process, with its feed.
async fn peer(producer: Producer, shutdown: &CancellationToken) -> (TestDatabase, String) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/broker-gateway");
    let database = TestDatabase::create(&migrations).await;
    let (listener, addr) = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{addr}");
    let router = feed::router(database.pool.clone(), producer, Secret::new("peer"));
    tokio::spawn(serve(listener, router, ServerLimits::default(), shutdown.clone()));
    (database, url)
}

async fn append(database: &TestDatabase, order: &Order) {
    let mut tx = database.pool.begin().await.unwrap();
    let event = NewEvent::of(
        EventId::new(SystemIds.uuid()),
        Partition::of_account(order.account),
        Some(order.account),
        Some(order.id),
        OffsetDateTime::now_utc(),
        &order.submit(),
    )
    .unwrap();
    eventlog::append(&mut tx, Producer::OrderCore, vec![event]).await.unwrap();
    tx.commit().await.unwrap();
}

fn service_settings(
    broker: &TestBroker,
    own: &TestDatabase,
    redis: &TestRedis,
    (orders_url, receiver_url): (String, String),
) -> Settings {
    let mut settings = settings(&broker.url());
    settings.http.ops_addr = "127.0.0.1:0".parse().unwrap();
    settings.tokens.ops = Secret::new("ops");
    settings.tokens.peer = Secret::new("peer");
    let named = [("alice", "alices-own-token")].map(|(name, token)| (name.to_owned(), Secret::new(token)));
    settings.tokens.operators = platform::operators::OperatorTokens::new(named.into());
    settings.database.url = Secret::new(own.url.clone());
    settings.redis = redis.config();
    settings.peers.order_server_url = orders_url;
    settings.peers.receiver_url = receiver_url;
    settings.watch.count_interval_ms = 50;
    settings.reference.prices_interval_ms = 50;
    settings
}

#[derive(Clone, Default)]
struct KeptHealth(Arc<Mutex<Option<Arc<dyn Health>>>>);

impl KeptHealth {
    fn ready(&self) -> Result<(), String> {
        self.0.lock().unwrap().as_ref().unwrap().ready()
    }
}

#[tokio::test]
async fn an_order_goes_from_the_order_servers_log_to_the_broker_and_back_into_ours() {
    let broker = TestBroker::start().await;
    let redis = TestRedis::start();
    let shutdown = CancellationToken::new();
    let (orders, orders_url) = peer(Producer::OrderCore, &shutdown).await;
    let (_facts, receiver_url) = peer(Producer::FillReceiver, &shutdown).await;
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/broker-gateway");
    let own = TestDatabase::create(&migrations).await;

    let settings = service_settings(&broker, &own, &redis, (orders_url, receiver_url));
    let health = KeptHealth::default();
    let kept = health.clone();
    let base = move |given: Arc<dyn Health>| {
        *kept.0.lock().unwrap() = Some(given);
        Router::new()
    };
    let service =
        Service::start(settings, Arc::new(SystemClock), Arc::new(SystemIds), base, shutdown.clone()).await.unwrap();
    let url = format!("http://{}", service.ops_addr);
    assert!(eventually(PATIENCE, || async { health.ready().is_ok() }).await, "{:?}", health.ready());

    let order = Order::new();
    append(&orders, &order).await;
    let http = reqwest::Client::new();
    let partition = Partition::of_account(order.account);
    let acknowledged = eventually(PATIENCE, || async {
        let text = get(&http, &format!("{url}/feed/{partition}?after=0&limit=100"), "peer").await.1;
        let answer: Value = serde_json::from_str(&text).unwrap();
        answer["events"].as_array().unwrap().iter().any(|event| {
            let envelope: Envelope = serde_json::from_str(&event.to_string()).unwrap();
            matches!(GatewayEvent::decode(&envelope), Ok(GatewayEvent::Acknowledged { .. }))
        })
    })
    .await;
    assert!(acknowledged);
    assert_eq!(broker.creates().len(), 1);

    operator_port(&http, &url, &order).await;
    reference_data(&http, &url).await;
    shutdown.cancel();
    assert_eq!(service.ended().await, Ended::AsAsked);
}

async fn operator_port(http: &reqwest::Client, url: &str, order: &Order) {
    let story_url = format!("{url}/ops/v1/requests/{}", order.id);
    assert_eq!(get(http, &story_url, "wrong").await.0, 401);
    let (status, story) = get(http, &story_url, "ops").await;
    assert_eq!(status, 200);
    let story: Value = serde_json::from_str(&story).unwrap();
    assert_eq!(story["request"]["state"], "live");
    assert_eq!(story["attempts"][0]["outcome"], "accepted");
    assert_eq!(get(http, &format!("{url}/ops/v1/requests/nonsense"), "ops").await.0, 400);
    assert_eq!(get(http, &format!("{url}/ops/v1/requests/{}", SystemIds.uuid()), "ops").await.0, 404);
    assert_eq!(get(http, &format!("{url}/ops/v1/manual"), "ops").await.1, r#"{"requests":[]}"#);

    let lane = format!("{url}/ops/v1/lane");
    assert_eq!(put(http, &lane, "ops", r#"{"rate_per_s":77}"#).await, 200);
    assert!(get(http, &lane, "ops").await.1.contains(r#""rate_per_s":77"#));
    assert_eq!(put(http, &lane, "wrong", r#"{"rate_per_s":1}"#).await, 401);
    for bad in [r#"{"rate_per_s":99999999}"#, r#"{"rate":1}"#, r#"{"reason":"no rate"}"#, r#"{"rate_per_s":-1}"#] {
        assert_eq!(put(http, &lane, "ops", bad).await, 400, "{bad}");
    }
    let settle = |token: &'static str, body: &'static str| {
        let request = http.post(format!("{url}/ops/v1/manual/{}/settlement", order.id)).bearer_auth(token);
        async move { request.header("content-type", "application/json").body(body).send().await.unwrap().status() }
    };
    let body = r#"{"evidence_digest":"x","decision":"absent"}"#;
    assert_eq!(settle("alices-own-token", body).await, 409, "a living order is not for persons to settle");
    let as_bob = r#"{"operator":"bob","evidence_digest":"x","decision":"absent"}"#;
    assert_eq!(settle("alices-own-token", as_bob).await, 400, "another's name with one's own token");
    assert_eq!(settle("ops", as_bob).await, 400, "nor with the token that all may know");
    assert_eq!(settle("peer", body).await, 401);

    let told = format!("{url}/story/v1/requests/{}", order.id);
    assert_eq!(get(http, &told, "ops").await.0, 401, "the peers' part has the peers' token");
    let (status, told) = get(http, &told, "peer").await;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((status, &told["story"]["request"]["state"]), (200, &serde_json::json!("live")));
    let event = told["log"][0]["event_id"].as_str().unwrap();
    let by_event: Value =
        serde_json::from_str(&get(http, &format!("{url}/story/v1/requests/{event}"), "peer").await.1).unwrap();
    assert_eq!(by_event["story"]["request"]["order_id"], told["story"]["request"]["order_id"]);
    assert_eq!(get(http, &format!("{url}/story/v1/unsettled"), "peer").await.1, r#"{"requests":[]}"#);
}

async fn reference_data(http: &reqwest::Client, url: &str) {
    let url = format!("{url}/reference/v1/instruments");
    assert_eq!(get(http, &url, "ops").await.0, 401);
    let priced = eventually(PATIENCE, || async { get(http, &url, "peer").await.1.contains("187.12") }).await;
    assert!(priced);
    let list: Value = serde_json::from_str(&get(http, &url, "peer").await.1).unwrap();
    assert_eq!(list[0]["symbol"], "AAPL");
    assert_eq!(list[0]["last_price"], "187.12");
    assert_eq!(list[0]["price_at"], "2026-07-01T14:00:00Z");
    assert_eq!(list[0]["tradable"], true);
}

#[tokio::test]
async fn a_rate_that_an_operator_set_is_on_record_and_in_effect_in_every_copy_and_after_a_restart() {
    let broker = TestBroker::start().await;
    let redis = TestRedis::start();
    let shutdown = CancellationToken::new();
    let (_orders, orders_url) = peer(Producer::OrderCore, &shutdown).await;
    let (_facts, receiver_url) = peer(Producer::FillReceiver, &shutdown).await;
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/broker-gateway");
    let own = TestDatabase::create(&migrations).await;
    platform::tls::install_crypto_provider();
    let http = reqwest::Client::new();
    let start = || async {
        let mut settings = service_settings(&broker, &own, &redis, (orders_url.clone(), receiver_url.clone()));
        settings.lane.rate_per_s_max = 500;
        settings.lane.rate_per_s = 400;
        settings.lane.rate_interval_ms = 20;
        let base = |_| Router::new();
        let service = Service::start(settings, Arc::new(SystemClock), Arc::new(SystemIds), base, shutdown.clone());
        let service = service.await.unwrap();
        let lane = format!("http://{}/ops/v1/lane", service.ops_addr);
        (service, lane)
    };
    let rate = |lane: String| {
        let http = &http;
        async move {
            let lane: Value = serde_json::from_str(&get(http, &lane, "ops").await.1).unwrap();
            lane["rate_per_s"].as_u64().unwrap()
        }
    };
    let ((one, one_lane), (two, two_lane)) = (start().await, start().await);
    assert_eq!(rate(two_lane.clone()).await, 400, "as configured");
    let body = r#"{"rate_per_s":7,"reason":"the broker asked for it"}"#;
    assert_eq!(put(&http, &one_lane, "alices-own-token", body).await, 200);
    assert_eq!(rate(one_lane.clone()).await, 7, "at once where it was set");
    assert!(eventually(PATIENCE, || async { rate(two_lane.clone()).await == 7 }).await, "and in the other copy");
    let (three, three_lane) = start().await;
    assert_eq!(rate(three_lane).await, 7, "also in one that starts");
    assert_eq!(put(&http, &two_lane, "ops", r#"{"rate_per_s":null}"#).await, 200);
    assert!(eventually(PATIENCE, || async { rate(one_lane.clone()).await == 400 }).await, "back to the configuration");

    let actions = get(&http, &one_lane.replace("/lane", "/actions"), "ops").await.1;
    let actions: Value = serde_json::from_str(&actions).unwrap();
    let told = |n: usize| {
        let action = &actions["actions"][n];
        [&action["operator"], &action["action"], &action["subject"], &action["reason"], &action["terms"]]
            .map(|value| value.as_str().unwrap_or("null").to_owned())
    };
    assert_eq!(told(0), ["ops", "set_lane_rate", "sim", "null", r#"{"rate_per_s":null,"revision":2}"#]);
    let set = r#"{"rate_per_s":7,"revision":1}"#;
    assert_eq!(told(1), ["alice", "set_lane_rate", "sim", "the broker asked for it", set]);
    let change = sqlx::query("update operator_actions set operator = 'bob'").execute(&own.pool).await;
    assert!(change.unwrap_err().to_string().contains("append only"));
    shutdown.cancel();
    for service in [one, two, three] {
        assert_eq!(service.ended().await, Ended::AsAsked);
    }
}

async fn put(http: &reqwest::Client, url: &str, token: &str, body: &'static str) -> u16 {
    let request = http.put(url).bearer_auth(token).header("content-type", "application/json").body(body);
    request.send().await.unwrap().status().as_u16()
}

async fn get(http: &reqwest::Client, url: &str, token: &str) -> (u16, String) {
    let response = http.get(url).bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}
