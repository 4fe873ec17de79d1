//! Bad input: a clear error, a stable code, and nothing half done.

use super::{ApiWorld, Customer, buy, send};
use reqwest::Method;
use serde_json::{Value, json};

fn with(name: &str, value: Value) -> Value {
    let mut body = buy("c-1", "2", "100");
    body[name] = value;
    body
}

async fn nothing_happened(world: &ApiWorld, customer: &Customer) {
    assert_eq!(world.count("select count(*) from orders").await, 0);
    assert_eq!(world.count("select count(*) from event_log").await, 0);
    let account = customer.account().await;
    assert_eq!((&account["cash"], &account["buying_power"]), (&json!("1000"), &json!("1000")));
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_refused_by_name_and_changes_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let mut cases: Vec<(&str, Value)> = Vec::new();
    for bad in [
        json!("0"),
        json!(-1),
        json!("1e30"),
        json!("0.1234567891"),
        json!("abc"),
        json!("NaN"),
        json!("1\u{0}"),
        json!({}),
    ] {
        cases.push(("qty", bad.clone()));
        cases.push(("limit_price", bad));
    }
    cases.extend([
        ("symbol", json!("AAPL\u{0}")),
        ("symbol", json!("aapl")),
        ("client_order_id", json!("")),
        ("client_order_id", json!("x".repeat(129))),
        ("client_order_id", json!("a\u{0}b")),
        ("notional", json!("10")),
        ("stop_price", json!("10")),
        ("side", json!("short")),
        ("type", json!("stop")),
        ("time_in_force", json!("fok")),
        ("extended_hours", json!(true)),
        ("order_class", json!("bracket")),
        ("position_intent", json!("sell_to_close")),
    ]);
    for (name, value) in cases {
        let answer = customer.post(&with(name, value.clone())).await;
        let (status, code) = answer.failed_with();
        assert_eq!(status, 422, "{name} {value}");
        assert!([40_010_001, 42_210_000].contains(&code), "{name} {value}");
        assert!(answer.body["message"].as_str().unwrap().starts_with(name), "{name}: {answer:?}");
    }
    for name in ["symbol", "qty", "side", "type", "time_in_force", "limit_price"] {
        let answer = customer.post(&with(name, Value::Null)).await;
        assert_eq!(answer.failed_with(), (422, 40_010_001));
        assert!(answer.body["message"].as_str().unwrap().starts_with(&format!("{name} is required")));
    }
    let sub_penny = customer.post(&with("limit_price", json!("100.001"))).await;
    assert_eq!(sub_penny.failed_with(), (422, 42_210_000));
    nothing_happened(&world, &customer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_books_refuse_has_the_code_of_its_reason_and_changes_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let market =
        |symbol: &str| json!({"symbol": symbol, "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"});
    let cases = [
        (with("symbol", json!("NOPE")), (422, 40_010_001)),
        (with("symbol", json!("HALT")), (422, 42_210_000)),
        (market("QUIET"), (503, 50_310_000)),
        (with("qty", json!("999999999")), (403, 40_310_000)),
    ];
    for (n, (mut body, expected)) in cases.into_iter().enumerate() {
        body["client_order_id"] = json!(format!("r-{n}"));
        assert_eq!(customer.post(&body).await.failed_with(), expected, "{body}");
    }
    let mut fraction = buy("r-5", "0.5", "100");
    fraction["symbol"] = json!("WHOLE");
    assert_eq!(customer.post(&fraction).await.failed_with(), (422, 42_210_000));
    let mut sell = buy("r-6", "5", "100");
    sell["side"] = json!("sell");
    let short = customer.post(&sell).await;
    assert_eq!(short.failed_with(), (403, 40_310_000));
    assert_eq!((&short.body["available"], &short.body["existing_qty"]), (&json!("0"), &json!("0")));
    assert_eq!((&short.body["symbol"], &short.body["held_for_orders"]), (&json!("AAPL"), &json!("0")));
    nothing_happened(&world, &customer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_are_answered_and_change_nothing() {
    let world = ApiWorld::new().await;
    let customer = world.customer("1000").await;
    let post = |body: Vec<u8>, content_type: &str| {
        let request = customer.request(Method::POST, "/v2/orders").header("content-type", content_type.to_owned());
        send(request.body(body))
    };
    assert_eq!(post(vec![b'['; 10_000_000], "application/json").await.failed_with(), (413, 41_310_000));
    for broken in ["", "{", "{\"symbol\": \"AAPL\", \"qty\": NaN}", "[1]", "\u{0}"] {
        let answer = post(broken.as_bytes().to_vec(), "application/json").await;
        assert_eq!(answer.failed_with(), (400, 40_010_001), "{broken:?}");
    }
    assert_eq!(post(vec![0xff, 0xfe], "application/json").await.failed_with(), (400, 40_010_001));
    let order = buy("c-1", "1", "1").to_string().into_bytes();
    assert_eq!(post(order, "text/plain").await.failed_with(), (415, 41_510_000));
    let twice = br#"{"symbol":"AAPL","symbol":"F","qty":1,"side":"buy","type":"market","time_in_force":"day"}"#;
    assert_eq!(post(twice.to_vec(), "application/json").await.failed_with(), (422, 40_010_001));
    nothing_happened(&world, &customer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_without_the_key_of_the_account() {
    let world = ApiWorld::new().await;
    let owner = world.customer("1000").await;
    let other = world.customer("1000").await;
    let url = format!("http://{}/v2/orders", world.copy.api_addr);
    assert_eq!(send(world.client.post(&url).json(&buy("c-1", "1", "1"))).await.failed_with(), (401, 40_110_000));
    let wrong = owner.request(Method::GET, "/v2/orders").header("apca-api-secret-key", "wrong");
    assert_eq!(send(wrong).await.failed_with(), (401, 40_110_000));
    let path = format!("/v2/orders/{}", owner.post(&buy("c-1", "1", "1")).await.id());
    assert_eq!(other.get(&path).await.failed_with(), (404, 40_410_000));
    assert_eq!(other.delete(&path).await.failed_with(), (404, 40_410_000));
    let by_name = other.get("/v2/orders:by_client_order_id?client_order_id=c-1").await;
    assert_eq!(by_name.failed_with(), (404, 40_410_000));
    assert_eq!(owner.get(&path).await.body["status"], "pending_new");
    assert_eq!(other.post(&buy("c-1", "1", "1")).await.status, 200);
}
