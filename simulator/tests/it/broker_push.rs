//! Pushes of the simulated broker, seen by the address that takes them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use simulator::broker::push::PushSettings;

use crate::broker_support::{Broker, LIMIT, market, settings};

const PUSH_SECRET: &str = "the broker's secret for pushes";

#[derive(Debug, Clone)]
struct Arrival {
    nonce: String,
    genuine: bool,
    body: Bytes,
}

/// Answers the statuses that it is told, then 200.
#[derive(Clone, Default)]
struct Taker {
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    refusals: Arc<Mutex<Vec<u16>>>,
}

impl Taker {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/push", listener.local_addr().unwrap());
        let router = Router::new().route("/push", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }

    /// The event ids of everything that was genuine and acknowledged.
    fn events(&self) -> BTreeMap<String, usize> {
        let mut events = BTreeMap::new();
        for arrival in self.arrivals().iter().filter(|arrival| arrival.genuine) {
            let body: Value = serde_json::from_slice(&arrival.body).unwrap();
            for event in body.as_array().cloned().unwrap_or_else(|| vec![body]) {
                *events.entry(event["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        events
    }
}

async fn take(State(taker): State<Taker>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).unwrap().to_str().unwrap();
    let nonce = header("x-push-nonce").to_owned();
    let mut mac = Hmac::<Sha256>::new_from_slice(PUSH_SECRET.as_bytes()).unwrap();
    mac.update(format!("{}\n{nonce}\n", header("x-push-timestamp")).as_bytes());
    mac.update(&body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let genuine = header("x-push-signature") == hex && header("x-push-key-id") == "sim";
    taker.arrivals.lock().unwrap().push(Arrival { nonce, genuine, body });
    if !genuine {
        return StatusCode::UNAUTHORIZED;
    }
    let refusal = taker.refusals.lock().unwrap().pop();
    refusal.map_or(StatusCode::OK, |status| StatusCode::from_u16(status).unwrap())
}

async fn eventually(what: &str, check: impl Fn() -> bool) {
    let waited = tokio::time::timeout(LIMIT, async {
        while !check() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}");
}

async fn pushing(taker: &Taker) -> Broker {
    let url = taker.start().await;
    let push = PushSettings { url, key_id: "sim".to_owned(), secret: PUSH_SECRET.to_owned() };
    Broker::start_with(simulator::broker::Settings { push, ..settings(1, None) }).await
}

#[tokio::test]
async fn a_push_that_is_not_acknowledged_is_sent_again_under_its_nonce_until_it_is() {
    let taker = Taker::default();
    *taker.refusals.lock().unwrap() = vec![500, 503];
    let broker = pushing(&taker).await;
    broker.submit(&market("k-1", "1")).await.unwrap();
    eventually("three attempts", || taker.arrivals().len() >= 3).await;
    let arrivals = taker.arrivals();
    assert!(arrivals.iter().all(|arrival| arrival.genuine));
    let first = &arrivals[0];
    let same = arrivals.iter().filter(|arrival| arrival.nonce == first.nonce && arrival.body == first.body).count();
    assert!(same >= 2, "{arrivals:?}");
    broker.shutdown().await;
}

#[tokio::test]
async fn a_stalled_stream_is_pushed_all_the_same_and_every_fault_of_a_push_is_made() {
    let taker = Taker::default();
    let broker = pushing(&taker).await;
    broker
        .configure(json!({"stream_stalled": true, "fault_delay_min_ms": 1, "fault_delay_max_ms": 2,
                          "push": {"push_duplicate": "1", "push_forged": "1", "push_lost_ack": "1",
                                   "push_delayed": "1", "push_reordered": "1"}}))
        .await;
    for n in 0..5 {
        broker.submit(&market(&format!("k-{n}"), "1")).await.unwrap();
    }
    eventually("every event more than once", || {
        let events = taker.events();
        events.len() >= 10 && events.values().all(|times| *times >= 2)
    })
    .await;
    assert!(taker.arrivals().iter().any(|arrival| !arrival.genuine));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_fault_of_pushes_strikes_the_order_that_was_named_and_no_other() {
    let taker = Taker::default();
    let broker = pushing(&taker).await;
    broker.fault(json!({"client_order_id": "k-2", "fault": "push_forged"})).await;
    for n in 0..4 {
        broker.submit(&market(&format!("k-{n}"), "1")).await.unwrap();
    }
    let keys = |genuine: bool| -> Vec<String> {
        let arrivals = taker.arrivals();
        let bodies = arrivals.iter().filter(|one| one.genuine == genuine);
        let values = bodies.map(|one| serde_json::from_slice::<Value>(&one.body).unwrap());
        let events = values.flat_map(|body| body.as_array().cloned().unwrap_or_else(|| vec![body]));
        events.map(|event| event["order"]["client_order_id"].as_str().unwrap().to_owned()).collect()
    };
    eventually("a forged push", || !keys(false).is_empty()).await;
    eventually("every order", || (0..4).all(|n| keys(true).contains(&format!("k-{n}")))).await;
    assert!(keys(false).contains(&"k-2".to_owned()), "{:?}", keys(false));
    assert_eq!(taker.arrivals().iter().filter(|one| !one.genuine).count(), 1);
    let truth = broker.oracle("strikes", "").await;
    assert_eq!((&truth["strikes"][0]["key"], truth["strikes"].as_array().unwrap().len()), (&json!("k-2"), 1));
    broker.shutdown().await;
}
