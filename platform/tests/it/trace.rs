//! What a collector receives.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use contracts::OrderId;
use platform::config::Secret;
use platform::http::bind;
use platform::testing::eventually;
use platform::tls;
use platform::trace::{self, TelemetryConfig};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

type Received = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) {
    received.lock().unwrap().push((headers, body));
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_the_steps_of_an_order_in_one_trace_linked_to_the_client_s() {
    tls::install_crypto_provider();
    let received = Received::default();
    let (listener, addr) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&received));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let config = TelemetryConfig {
        otlp_endpoint: format!("http://{addr}/v1/traces"),
        otlp_authorization: Secret::new("Bearer planted"),
        otlp_timeout_ms: 5_000,
        trace_one_in: 2,
        queue_len_max: 64,
        batch_len_max: 64,
        interval_ms: 20,
    };
    trace::start("tested", &config).unwrap();

    let chosen = OrderId::new(Uuid::from_u64_pair(0x0197_1111_2222_7333, 0x8444_5555_6666_7776));
    let passed = OrderId::new(Uuid::from_u64_pair(0x0197_9999_2222_7333, 0x8444_5555_6666_7777));
    assert!(trace::root("order.place", passed, None).is_none());
    let client = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    drop(trace::root("order.place", chosen, Some(client)).unwrap());
    let call = trace::call("broker.call", chosen).unwrap();
    assert!(call.traceparent().starts_with("00-01971111222273338444555566667776-"));
    drop(call);
    assert!(trace::traceparent_of(chosen).ends_with("-8444555566667776-01"));

    let seen = || {
        let all: Vec<u8> = received.lock().unwrap().iter().flat_map(|(_, body)| body.to_vec()).collect();
        let client_trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
        holds(&all, b"order.place")
            && holds(&all, b"broker.call")
            && holds(&all, b"tested")
            && holds(&all, chosen.as_uuid().as_bytes())
            && holds(&all, &client_trace)
            && !holds(&all, passed.as_uuid().as_bytes())
    };
    assert!(eventually(Duration::from_secs(20), || async { seen() }).await, "the steps did not arrive");
    let (headers, _) = received.lock().unwrap()[0].clone();
    assert_eq!(headers["authorization"], "Bearer planted");
    assert_eq!(headers["content-type"], "application/x-protobuf");
    // A collector that is gone costs steps and nothing else: far more than the queue holds.
    for _ in 0..10_000 {
        drop(trace::inner("order.fact", chosen));
    }
    trace::end().await;
}
