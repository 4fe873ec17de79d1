//! The routes, with commands and reads in memory.

mod limits;

use super::fakes::{KEY, LIMITS, NOW, SECRET, World};
use super::router;
use crate::application::command::CommandError;
use crate::domain::asset::ReferencePrice;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use contracts::alpaca::OrderStatus;
use contracts::{OrderId, Price, Symbol};
use serde_json::{Value, json};
use time::Duration;
use tower::ServiceExt;
use uuid::Uuid;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn code(&self) -> u64 {
        assert!(self.body["message"].as_str().is_some_and(|message| !message.is_empty()), "{}", self.body);
        self.body["code"].as_u64().unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn failed_with(&self) -> (u16, u64) {
        (self.status.as_u16(), self.code())
    }
}

async fn send(world: &World, request: Request<Body>) -> Answer {
    let response = router(world.state(), None, LIMITS).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, usize::MAX).await.unwrap();
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
    assert!(parts.headers.contains_key("x-request-id"));
    Answer { status: parts.status, headers: parts.headers, body }
}

fn signed(method: &str, uri: &str) -> axum::http::request::Builder {
    Request::builder().method(method).uri(uri).header("APCA-API-KEY-ID", KEY).header("Apca-Api-Secret-Key", SECRET)
}

async fn get(world: &World, uri: &str) -> Answer {
    send(world, signed("GET", uri).body(Body::empty()).unwrap()).await
}

async fn delete(world: &World, uri: &str) -> Answer {
    send(world, signed("DELETE", uri).body(Body::empty()).unwrap()).await
}

async fn post_bytes(world: &World, body: impl Into<Body>) -> Answer {
    let request = signed("POST", "/v2/orders").header("content-type", "application/json; charset=utf-8");
    send(world, request.body(body.into()).unwrap()).await
}

fn buy() -> Value {
    json!({"symbol": "AAPL", "qty": 2.0, "side": "buy", "type": "limit", "limit_price": 150.1,
           "time_in_force": "day", "client_order_id": "c-1"})
}

async fn post(world: &World, body: &Value) -> Answer {
    post_bytes(world, body.to_string()).await
}

#[tokio::test]
async fn an_order_has_every_field_that_client_libraries_demand() {
    let world = World::new();
    let placed = post(&world, &buy()).await;
    assert_eq!(placed.status, StatusCode::OK);
    let order = placed.body.as_object().unwrap();
    for name in [
        "id",
        "client_order_id",
        "created_at",
        "updated_at",
        "submitted_at",
        "time_in_force",
        "status",
        "asset_id",
        "asset_class",
        "symbol",
        "filled_qty",
        "side",
        "type",
        "order_type",
        "order_class",
        "extended_hours",
        "qty",
    ] {
        assert!(order.get(name).is_some_and(|value| !value.is_null()), "{name}");
    }
    for name in [
        "notional",
        "filled_avg_price",
        "filled_at",
        "expired_at",
        "expires_at",
        "canceled_at",
        "failed_at",
        "replaced_at",
        "replaced_by",
        "replaces",
        "stop_price",
        "trail_price",
        "trail_percent",
        "hwm",
        "legs",
    ] {
        assert_eq!(order.get(name), Some(&Value::Null), "{name}");
    }
    assert_eq!(
        (&order["qty"], &order["filled_qty"], &order["limit_price"]),
        (&json!("2"), &json!("0"), &json!("150.1"))
    );
    assert_eq!(order["position_intent"], "buy_to_open");
    assert_eq!(order["status"], OrderStatus::PendingNew.as_str());
    assert!(!placed.headers.contains_key("idempotent-replayed"));
}

#[tokio::test]
async fn a_repeat_is_marked_as_such() {
    let world = World::new();
    let first = post(&world, &buy()).await;
    let again = post(&world, &buy()).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.body["id"], first.body["id"]);
}

#[tokio::test]
async fn a_name_is_made_for_an_order_that_has_none() {
    let world = World::new();
    let mut body = buy();
    body["client_order_id"] = Value::Null;
    let first = post(&world, &body).await;
    let second = post(&world, &body).await;
    assert!(Uuid::parse_str(first.body["client_order_id"].as_str().unwrap()).is_ok());
    assert_ne!(first.body["id"], second.body["id"]);
}

#[tokio::test]
async fn an_order_is_found_by_id_and_by_the_clients_name() {
    let world = World::new();
    let mut body = buy();
    body["client_order_id"] = json!("my order/1+1");
    let id = post(&world, &body).await.body["id"].as_str().unwrap().to_owned();
    assert_eq!(get(&world, &format!("/v2/orders/{id}")).await.body["id"], id.as_str());
    let found = get(&world, "/v2/orders:by_client_order_id?client_order_id=my+order%2F1%2B1").await;
    assert_eq!(found.body["id"], id.as_str());
    assert_eq!(get(&world, "/v2/orders?status=open&nested=True").await.body.as_array().unwrap().len(), 1);
    for missing in
        ["/v2/orders:by_client_order_id?client_order_id=x", "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d"]
    {
        assert_eq!(get(&world, missing).await.failed_with(), (404, 40_410_000));
    }
    assert_eq!(get(&world, "/v2/orders:by_client_order_id").await.failed_with(), (422, 40_010_001));
    assert_eq!(get(&world, "/v2/orders/not-a-uuid").await.failed_with(), (422, 40_010_001));
    assert_eq!(get(&world, "/v2/orders/%FF").await.failed_with(), (404, 40_410_000));
}

#[tokio::test]
async fn cancels_answer_204_then_422_and_404_for_what_is_not_there() {
    let world = World::new();
    let id = post(&world, &buy()).await.body["id"].as_str().unwrap().to_owned();
    let cancelled = delete(&world, &format!("/v2/orders/{id}")).await;
    assert_eq!((cancelled.status.as_u16(), &cancelled.body), (204, &Value::Null));
    assert_eq!(delete(&world, &format!("/v2/orders/{id}")).await.failed_with(), (422, 42_210_000));
    let other = delete(&world, "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d").await;
    assert_eq!(other.failed_with(), (404, 40_410_000));
}

#[tokio::test]
async fn cancelling_everything_answers_a_row_an_order() {
    let world = World::new();
    for n in 0..3 {
        let mut body = buy();
        body["client_order_id"] = json!(format!("c-{n}"));
        post(&world, &body).await;
    }
    let rows = delete(&world, "/v2/orders").await;
    assert_eq!(rows.status.as_u16(), 207);
    assert!(rows.body.as_array().unwrap().iter().all(|row| row["status"] == 200 && row["id"].is_string()));
    assert_eq!(rows.body.as_array().unwrap().len(), 3);
    assert_eq!(delete(&world, "/v2/orders").await.body, json!([]));
}

#[tokio::test]
async fn only_the_right_secret_of_a_known_key_passes() {
    let world = World::new();
    let plain = Request::builder().uri("/v2/account");
    assert_eq!(send(&world, plain.body(Body::empty()).unwrap()).await.failed_with(), (401, 40_110_000));
    for (key, secret) in [(KEY, "wrong"), ("PKOTHER", SECRET), (KEY, ""), ("", SECRET)] {
        let request = Request::builder().uri("/v2/orders").header("apca-api-key-id", key);
        let request = request.header("apca-api-secret-key", secret).body(Body::empty()).unwrap();
        assert_eq!(send(&world, request).await.failed_with(), (401, 40_110_000), "{key}");
    }
    let basic = Request::builder().uri("/v2/account").header("Authorization", "Basic UEtURVNUOnNlY3JldA==");
    assert_eq!(send(&world, basic.body(Body::empty()).unwrap()).await.status, StatusCode::OK);
    let bearer = Request::builder().uri("/v2/account").header("Authorization", "Bearer UEtURVNUOnNlY3JldA==");
    assert_eq!(send(&world, bearer.body(Body::empty()).unwrap()).await.failed_with(), (401, 40_110_000));
}

#[tokio::test]
async fn a_revoked_key_stops_working_within_a_second() {
    let world = World::new();
    let state = world.state();
    let ask = || async {
        let request = signed("GET", "/v2/account").body(Body::empty()).unwrap();
        router(state.clone(), None, LIMITS).oneshot(request).await.unwrap().status()
    };
    assert_eq!(ask().await, StatusCode::OK);
    world.fake.keys.lock().unwrap().clear();
    *world.clock.0.lock().unwrap() = NOW + Duration::seconds(1);
    assert_eq!(ask().await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bodies_that_cannot_be_taken_have_codes_of_their_own() {
    let world = World::new();
    for broken in ["", "{", "not json", "{\"qty\": NaN}"] {
        assert_eq!(post_bytes(&world, broken).await.failed_with(), (400, 40_010_001), "{broken}");
    }
    assert_eq!(post_bytes(&world, "[]").await.failed_with(), (400, 40_010_001));
    let no_type = signed("POST", "/v2/orders").body(Body::from(buy().to_string())).unwrap();
    assert_eq!(send(&world, no_type).await.failed_with(), (415, 41_510_000));
    let form = signed("POST", "/v2/orders").header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(send(&world, form.body(Body::from("qty=1")).unwrap()).await.failed_with(), (415, 41_510_000));
    let large = post_bytes(&world, Bytes::from(vec![b' '; 10_000_000])).await;
    assert_eq!(large.failed_with(), (413, 41_310_000));
    assert_eq!(large.headers["connection"], "close");
    assert!(world.fake.orders.lock().unwrap().is_empty());
}

#[tokio::test]
async fn other_methods_and_paths_answer_in_the_same_shape() {
    let world = World::new();
    let patch = signed("PATCH", "/v2/orders/61e69015-8549-4bfd-b9c3-01e75843f47d").body(Body::empty()).unwrap();
    let patched = send(&world, patch).await;
    assert_eq!(patched.failed_with(), (405, 40_510_000));
    assert!(patched.headers.contains_key("allow"));
    assert_eq!(get(&world, "/v1/orders").await.failed_with(), (404, 40_410_000));
    assert_eq!(get(&world, "/v2/orders?limit=501").await.failed_with(), (422, 40_010_001));
}

#[tokio::test]
async fn an_outcome_that_is_not_known_names_the_order_and_one_not_taken_may_be_sent_again() {
    let world = World::new();
    let order_id = OrderId::new(Uuid::from_u128(5));
    world.fake.failures.lock().unwrap().push(CommandError::Unknown { order_id });
    let unknown = post(&world, &buy()).await;
    assert_eq!(unknown.failed_with(), (500, 50_010_000));
    assert_eq!(unknown.body["order_id"], order_id.to_string());
    world.fake.failures.lock().unwrap().push(CommandError::NotTaken { reason: "too many orders are waiting" });
    let not_taken = post(&world, &buy()).await;
    assert_eq!(not_taken.failed_with(), (503, 50_310_000));
    assert_eq!(not_taken.headers["retry-after"], "1");
}

#[tokio::test]
async fn the_account_counts_holdings_at_the_last_price() {
    let world = World::new();
    world.hold("AAPL", 10, 1_000);
    let cost = get(&world, "/v2/account").await.body;
    assert_eq!(
        (&cost["cash"], &cost["buying_power"], &cost["equity"]),
        (&json!("1000"), &json!("900"), &json!("2000"))
    );
    assert_eq!(
        (&cost["multiplier"], &cost["status"], &cost["trading_blocked"]),
        (&json!("1"), &json!("ACTIVE"), &json!(false))
    );
    let price = ReferencePrice { price: Price::parse("150").unwrap(), at: NOW };
    world.reference.update_prices([(Symbol::new("AAPL").unwrap(), price)], NOW);
    assert_eq!(get(&world, "/v2/account").await.body["equity"], "2500");
    let position = get(&world, "/v2/positions/AAPL").await.body;
    for name in ["asset_id", "symbol", "exchange", "asset_class", "avg_entry_price", "qty", "side", "cost_basis"] {
        assert!(position[name].is_string(), "{name}");
    }
    assert_eq!((&position["avg_entry_price"], &position["unrealized_pl"]), (&json!("100"), &json!("500")));
    assert_eq!(get(&world, &format!("/v2/positions/{}", Uuid::from_u128(7))).await.body, position);
    assert_eq!(get(&world, "/v2/positions").await.body, json!([position]));
    assert_eq!(get(&world, "/v2/positions/MSFT").await.failed_with(), (404, 40_410_000));
}

#[tokio::test]
async fn assets_clock_and_calendar_have_what_client_libraries_demand() {
    let world = World::new();
    let asset = get(&world, "/v2/assets/AAPL").await.body;
    for name in [
        "id",
        "class",
        "exchange",
        "symbol",
        "status",
        "tradable",
        "marginable",
        "shortable",
        "easy_to_borrow",
        "fractionable",
    ] {
        assert!(asset.get(name).is_some_and(|value| !value.is_null()), "{name}");
    }
    assert_eq!(
        get(&world, "/v2/assets?status=active&asset_class=us_equity&exchange=NASDAQ").await.body,
        json!([asset])
    );
    assert_eq!(get(&world, "/v2/assets?exchange=NYSE").await.body, json!([]));
    assert_eq!(get(&world, "/v2/assets?status=inactive").await.body, json!([]));
    assert_eq!(get(&world, "/v2/assets/NOPE").await.failed_with(), (404, 40_410_000));
    let clock = get(&world, "/v2/clock").await.body;
    assert_eq!((&clock["timestamp"], &clock["is_open"]), (&json!("2026-07-01T10:00:00-04:00"), &json!(true)));
    assert_eq!(
        (&clock["next_open"], &clock["next_close"]),
        (&json!("2026-07-02T09:30:00-04:00"), &json!("2026-07-01T16:00:00-04:00"))
    );
    let days = get(&world, "/v2/calendar?start=2026-07-02&end=2026-07-06").await.body;
    assert_eq!(days.as_array().unwrap().len(), 2);
    assert_eq!(
        (&days[0]["date"], &days[0]["open"], &days[0]["close"]),
        (&json!("2026-07-02"), &json!("09:30"), &json!("16:00"))
    );
    assert_eq!(get(&world, "/v2/calendar?start=2026-07-02&end=2026-07-01").await.failed_with(), (422, 40_010_001));
}
