//! Bytes without sense. Each must be answered as the client's mistake, never as ours.

use super::{customer_with_order, exchange, nothing_changed, request};
use crate::api::{ApiWorld, Customer, buy};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Requests of each kind.
const REQUESTS: usize = 300;

/// The same ones each time: what fails here fails everywhere.
fn sampled<T>(strategy: impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::deterministic();
    (0..REQUESTS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

async fn no_fault_of_ours(world: &ApiWorld, bytes: Vec<u8>) {
    let answers = exchange(world.copy.api_addr, &bytes).await;
    for answer in answers {
        let shown = String::from_utf8_lossy(&bytes);
        assert!((200..500).contains(&answer.status), "{shown:?}: {answer:?}");
    }
}

fn posted(customer: &Customer, body: &[u8]) -> Vec<u8> {
    let lines = format!("connection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
    [request(customer, "POST /v2/orders HTTP/1.1", &lines, "").into_bytes(), body.to_vec()].concat()
}

/// An order of which some bytes were replaced.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let order = buy("damaged\u{0}", "1.5", "1.25").to_string().into_bytes();
    prop::collection::vec((0..order.len(), any::<u8>()), 1..4).prop_map(move |changes| {
        let mut bytes = order.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}

/// A body with a value of every kind in every field.
fn invented() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "[-+]?[0-9]{0,30}(\\.[0-9]{0,30})?([eE][-+]?[0-9]{1,5})?",
        "\"[-+0-9.eE]{0,40}\"",
        any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
        prop::sample::select(vec!["null", "true", "{}", "[]", "\"\\u0000\"", "\"\\ud800\"", "1e999999999", "\"NaN\""])
            .prop_map(str::to_owned),
    ];
    let names = ["symbol", "qty", "notional", "side", "type", "time_in_force", "limit_price", "client_order_id"];
    prop::collection::vec(value, names.len()).prop_map(move |values| {
        let fields: Vec<_> = names.iter().zip(values).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_body_is_answered_as_a_fault_of_ours() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let nested = [b"[".repeat(60_000), [&b"{\"qty\":"[..], &b"[".repeat(60_000)].concat()].into_iter();
    let random = sampled(prop::collection::vec(any::<u8>(), 0..400));
    for body in random.into_iter().chain(sampled(damaged())).chain(sampled(invented())).chain(nested) {
        no_fault_of_ours(&world, posted(&customer, &body)).await;
    }
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_query_or_name_is_answered_as_a_fault_of_ours() {
    let world = ApiWorld::new().await;
    let (customer, _) = customer_with_order(&world).await;
    let routes = prop::sample::select(vec![
        "/v2/orders?limit=",
        "/v2/orders?after=",
        "/v2/orders?until=",
        "/v2/orders?symbols=",
        "/v2/orders?before_order_id=",
        "/v2/orders:by_client_order_id?client_order_id=",
        "/v2/calendar?start=",
        "/v2/calendar?start=2026-01-01&end=",
        "/v2/assets?status=",
        "/v2/orders/",
        "/v2/positions/",
        "/v2/assets/",
    ]);
    let value = prop_oneof![
        "[!-~]{0,60}",
        "(%[0-9a-fA-F]{2}){0,40}",
        "[-+]?[0-9]{1,25}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[-+][0-9]{2}:[0-9]{2}))?",
        "[-+][0-9]{4,6}-[0-9]{2}-[0-9]{2}",
    ];
    for (route, value) in sampled((routes, value)) {
        let bytes = request(&customer, &format!("GET {route}{value} HTTP/1.1"), "connection: close\r\n", "");
        no_fault_of_ours(&world, bytes.into_bytes()).await;
    }
    nothing_changed(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_head_is_answered_as_a_fault_of_ours() {
    let world = ApiWorld::new().await;
    let (customer, id) = customer_with_order(&world).await;
    let head = request(&customer, &format!("GET /v2/orders/{id} HTTP/1.1"), "connection: close\r\n", "").into_bytes();
    let changes = prop::collection::vec((0..head.len(), any::<u8>()), 1..6);
    for changes in sampled(changes) {
        let mut bytes = head.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        // Ends a head that lost its own end, and the connection with it.
        bytes.extend_from_slice(b"\r\n\r\nGET /end HTTP/1.0\r\n\r\n");
        no_fault_of_ours(&world, bytes).await;
    }
    nothing_changed(&world).await;
}
