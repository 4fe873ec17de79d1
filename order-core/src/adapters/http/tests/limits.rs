//! How often a client may ask.

use super::super::fakes::{KEY, LIMITS, NOW, SECRET, World};
use super::super::limits::{Rates, RequestLimits};
use super::super::{ApiParts, ApiState, router};
use super::{Answer, buy};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::Request;
use axum::http::request::Builder;
use futures_util::{StreamExt, stream};
use platform::http::Peer;
use platform::rate::Rate;
use serde_json::Value;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use time::Duration;
use tower::ServiceExt;

fn rate(per_minute: u32, burst: u32) -> Option<Rate> {
    Some(Rate { per_minute: NonZeroU32::new(per_minute)?, burst: NonZeroU32::new(burst)? })
}

fn state(world: &World, rates: Rates) -> ApiState {
    Arc::new(ApiParts { limits: Arc::new(RequestLimits::new(rates)), ..(*world.state()).clone() })
}

async fn send(state: &ApiState, request: Request<Body>) -> Answer {
    let response = router(state.clone(), None, LIMITS).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    Answer { status: parts.status, headers: parts.headers, body }
}

fn with_key(key: &str, secret: &str, address: &str) -> Builder {
    let peer = Peer(format!("{address}:1").parse().unwrap());
    let request = Request::builder().uri("/v2/account").extension(peer);
    request.header("apca-api-key-id", key).header("apca-api-secret-key", secret)
}

async fn ask(state: &ApiState, key: &str, secret: &str, address: &str) -> Answer {
    send(state, with_key(key, secret, address).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_above_its_rate_is_refused_and_nothing_of_its_request_is_taken() {
    let world = World::new();
    let state = state(&world, Rates { requests: rate(60, 2), failures: None });
    let first = ask(&state, KEY, SECRET, "192.0.2.1").await;
    assert_eq!(first.status, 200);
    assert_eq!((first.header("x-ratelimit-limit"), first.header("x-ratelimit-remaining")), ("60", "1"));
    assert_eq!(first.headers["x-ratelimit-reset"], (NOW + Duration::SECOND).unix_timestamp().to_string());
    assert!(!first.headers.contains_key("retry-after"));
    // A refusal counts too, and says so.
    let missing = with_key(KEY, SECRET, "192.0.2.1").uri("/v2/nothing").body(Body::empty()).unwrap();
    let missing = send(&state, missing).await;
    assert_eq!((missing.failed_with(), missing.header("x-ratelimit-remaining")), ((404, 40_410_000), "0"));
    let order = with_key(KEY, SECRET, "192.0.2.1").method("POST").uri("/v2/orders");
    let order = order.header("content-type", "application/json").body(Body::from(buy().to_string())).unwrap();
    let refused = send(&state, order).await;
    assert_eq!(refused.failed_with(), (429, 42_910_000));
    assert_eq!((refused.header("retry-after"), refused.header("x-ratelimit-remaining")), ("2", "0"));
    assert!(world.fake.orders.lock().unwrap().is_empty());
    *world.clock.0.lock().unwrap() = NOW + Duration::SECOND;
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.1").await.status, 200);
}

#[tokio::test]
async fn the_rate_is_the_keys_whatever_address_it_asks_from() {
    let world = World::new();
    let state = state(&world, Rates { requests: rate(60, 1), failures: None });
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.1").await.status, 200);
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.2").await.status, 429);
}

#[tokio::test]
async fn a_wrong_secret_takes_nothing_from_the_rate_of_the_key() {
    let world = World::new();
    let state = state(&world, Rates { requests: rate(60, 1), failures: None });
    for _ in 0..5 {
        assert_eq!(ask(&state, KEY, "wrong", "192.0.2.1").await.status, 401);
    }
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.1").await.status, 200);
}

#[tokio::test]
async fn an_address_that_guesses_is_stopped_and_locks_nobody_out() {
    let world = World::new();
    let state = state(&world, Rates { requests: None, failures: rate(60, 3) });
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.1").await.status, 200);
    for n in 0..3 {
        assert_eq!(ask(&state, &format!("PK{n}"), "guess", "192.0.2.1").await.failed_with(), (401, 40_110_000));
    }
    let looked_up = world.fake.lookups.load(Ordering::Relaxed);
    let stopped = ask(&state, "PK4", "guess", "192.0.2.1").await;
    assert_eq!((stopped.failed_with(), stopped.header("retry-after")), ((429, 42_910_000), "2"));
    let nameless = Request::builder().uri("/v2/account").extension(Peer("192.0.2.1:1".parse().unwrap()));
    assert_eq!(send(&state, nameless.body(Body::empty()).unwrap()).await.status, 429);
    assert_eq!(world.fake.lookups.load(Ordering::Relaxed), looked_up, "nothing is looked up for it");
    // Another customer behind the same address, and everybody elsewhere, go on.
    assert_eq!(ask(&state, KEY, SECRET, "192.0.2.1").await.status, 200);
    assert_eq!(ask(&state, "PK5", "guess", "192.0.2.2").await.status, 401);
}

#[tokio::test]
async fn a_strangers_body_is_thrown_away_and_at_most_the_limit_of_it_is_read() {
    let world = World::new();
    let state = state(&world, Rates::default());
    let read = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&read);
    let chunks = stream::iter(0..10_000).map(move |_| {
        counted.fetch_add(1024, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 1024]))
    });
    let request = Request::builder().method("POST").uri("/v2/orders").body(Body::from_stream(chunks)).unwrap();
    let refused = send(&state, request).await;
    assert_eq!((refused.failed_with(), refused.header("connection")), ((401, 40_110_000), "close"));
    assert!(read.load(Ordering::Relaxed) <= LIMITS.len_max + 1024);
    let small = Request::builder().method("POST").uri("/v2/orders").body(Body::from("{}")).unwrap();
    assert!(!send(&state, small).await.headers.contains_key("connection"));
}

#[tokio::test(start_paused = true)]
async fn a_stranger_who_sends_no_body_holds_a_connection_for_a_second() {
    let world = World::new();
    let state = state(&world, Rates::default());
    let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let started = tokio::time::Instant::now();
    let refused = send(&state, Request::builder().method("POST").uri("/v2/orders").body(never).unwrap()).await;
    assert_eq!((refused.status.as_u16(), started.elapsed().as_secs()), (401, 1));
}
