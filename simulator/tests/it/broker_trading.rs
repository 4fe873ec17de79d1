//! What the program of a customer sees: the Trading API and its websocket.

use std::time::Duration;

use contracts::alpaca::{AccountEntity, ClockEntity, OrderEntity, OrderStatus, PositionEntity};
use futures_util::{SinkExt, StreamExt};
use reqwest::{Method, RequestBuilder, StatusCode};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::broker_support::{ACCOUNT, Broker, KEY_ID, LIMIT, SECRET, json_of, market, resting, settings};

fn call(broker: &Broker, method: Method, path: &str) -> RequestBuilder {
    let request = broker.client.request(method, broker.url(path));
    request.header("APCA-API-KEY-ID", KEY_ID).header("apca-api-secret-key", SECRET)
}

async fn get<T: serde::de::DeserializeOwned>(broker: &Broker, path: &str) -> T {
    let answer = call(broker, Method::GET, path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{path}");
    json_of(answer).await
}

async fn post(broker: &Broker, order: &Value) -> reqwest::Response {
    call(broker, Method::POST, "/v2/orders").json(order).send().await.unwrap()
}

/// A websocket of a customer's program.
struct Updates(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Updates {
    async fn connect(broker: &Broker) -> Self {
        Self(connect_async(format!("ws://{}/stream", broker.addr())).await.unwrap().0)
    }

    async fn listening(broker: &Broker) -> Self {
        let mut updates = Self::connect(broker).await;
        let shown = json!({"action": "authenticate", "data": {"key_id": KEY_ID, "secret_key": SECRET}});
        assert_eq!(updates.ask(shown).await["data"]["status"], "authorized");
        let heard = updates.ask(json!({"action": "listen", "data": {"streams": ["trade_updates"]}})).await;
        assert_eq!(heard, json!({"stream": "listening", "data": {"streams": ["trade_updates"]}}));
        updates
    }

    async fn ask(&mut self, message: Value) -> Value {
        self.0.send(Message::text(message.to_string())).await.unwrap();
        self.next().await.unwrap()
    }

    /// The next message; none where the broker closed the connection.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match timeout(LIMIT, self.0.next()).await.expect("something comes") {
                Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(_) | Err(_)) | None => return None,
            }
        }
    }

    async fn until(&mut self, event: &str) -> Vec<Value> {
        let mut told = Vec::new();
        loop {
            let data = self.next().await.expect("an update")["data"].take();
            let last = data["event"] == event;
            told.push(data);
            if last {
                return told;
            }
        }
    }
}

#[tokio::test]
async fn a_customer_trades_by_the_key_headers_on_the_first_account() {
    let broker = Broker::start().await;
    let before: AccountEntity = get(&broker, "/v2/account").await;
    assert_eq!((before.id.to_string(), before.cash), (ACCOUNT.to_owned(), Decimal::from(1_000_000)));
    let placed: OrderEntity = json_of(post(&broker, &market("k1", "3")).await).await;
    let found: OrderEntity = get(&broker, "/v2/orders:by_client_order_id?client_order_id=k1").await;
    assert_eq!((found.id, found.status.clone()), (placed.id, OrderStatus::Filled));
    let by_id: OrderEntity = get(&broker, &format!("/v2/orders/{}", placed.id)).await;
    assert_eq!(by_id, found);
    let position: PositionEntity = get(&broker, "/v2/positions/AAPL").await;
    assert_eq!((position.qty, position.avg_entry_price), (Decimal::from(3), found.filled_avg_price.unwrap()));
    let after: AccountEntity = get(&broker, "/v2/account").await;
    assert_eq!(after.cash, before.cash - position.cost_basis);
    assert_eq!(after.equity, before.equity, "the price stands still");
    let activities: Vec<Value> = get(&broker, "/v2/account/activities/FILL").await;
    assert_eq!((&activities[0]["qty"], &activities[0]["leaves_qty"]), (&json!("3"), &json!("0")));
    let clock: ClockEntity = get(&broker, "/v2/clock").await;
    assert!(clock.is_open && clock.next_close > clock.timestamp);
    let days: Vec<Value> = get(&broker, "/v2/calendar?start=2026-11-25&end=2026-11-27").await;
    assert_eq!(days.len(), 3);

    let wrong = broker.client.get(broker.url("/v2/account")).header("apca-api-key-id", KEY_ID);
    let wrong = wrong.header("apca-api-secret-key", "x").send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    broker.shutdown().await;
}

#[tokio::test]
async fn an_order_that_the_broker_does_not_know_is_refused_and_not_taken_as_a_plain_one() {
    let broker = Broker::start().await;
    for (field, value) in [
        ("order_class", json!("bracket")),
        ("take_profit", json!({"limit_price": "200"})),
        ("stop_price", json!("1")),
        ("notional", json!("100")),
    ] {
        let mut order = market("k1", "1");
        order[field] = value;
        assert_eq!(post(&broker, &order).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "{field}");
    }
    let mut plain = market("k1", "1");
    plain["order_class"] = json!("simple");
    plain["stop_price"] = Value::Null;
    assert_eq!(post(&broker, &plain).await.status(), StatusCode::OK);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_position_is_closed_in_part_and_whole_and_all_orders_are_cancelled() {
    let broker = Broker::start().await;
    post(&broker, &market("k1", "8")).await;
    post(&broker, &resting("k2")).await;
    let half = call(&broker, Method::DELETE, "/v2/positions/AAPL?percentage=25").send().await.unwrap();
    assert_eq!(json_of::<OrderEntity>(half).await.qty, Some(Decimal::TWO));
    let left: PositionEntity = get(&broker, "/v2/positions/AAPL").await;
    assert_eq!((left.qty, left.qty_available), (Decimal::from(6), Some(Decimal::from(6))));
    let all = call(&broker, Method::DELETE, "/v2/positions").send().await.unwrap();
    assert_eq!(all.status(), StatusCode::MULTI_STATUS);
    assert!(get::<Vec<Value>>(&broker, "/v2/positions").await.is_empty());
    let cancelled = call(&broker, Method::DELETE, "/v2/orders").send().await.unwrap();
    assert_eq!(cancelled.status(), StatusCode::MULTI_STATUS);
    assert_eq!(json_of::<Value>(cancelled).await[0]["status"], 200);
    broker.shutdown().await;
}

#[tokio::test]
async fn orders_beyond_cash_or_shares_are_refused_where_the_broker_looks() {
    let broker = Broker::start().await;
    let mut dear = market("k1", "900000");
    assert_eq!(post(&broker, &dear).await.status(), StatusCode::OK, "it does not look unless told to");
    broker.configure(json!({"checks_funds": true})).await;
    dear["client_order_id"] = json!("k2");
    assert_eq!(post(&broker, &dear).await.status(), StatusCode::FORBIDDEN);
    let mut sale = market("k3", "900001");
    sale["side"] = json!("sell");
    assert_eq!(post(&broker, &sale).await.status(), StatusCode::FORBIDDEN);
    sale["qty"] = json!("900000");
    assert_eq!(post(&broker, &sale).await.status(), StatusCode::OK);
    broker.shutdown().await;
}

#[tokio::test]
async fn the_websocket_tells_every_step_and_nothing_before_the_key() {
    let broker = Broker::start().await;
    let mut stranger = Updates::connect(&broker).await;
    let early = stranger.ask(json!({"action": "listen", "data": {"streams": ["trade_updates"]}})).await;
    assert_eq!(early["data"], json!({"status": "unauthorized", "action": "listen"}));
    let wrong = stranger.ask(json!({"action": "auth", "key": KEY_ID, "secret": "x"})).await;
    assert_eq!(wrong["data"]["status"], "unauthorized");
    let right = stranger.ask(json!({"action": "auth", "key": KEY_ID, "secret": SECRET})).await;
    assert_eq!(right["data"]["status"], "authorized");

    let mut updates = Updates::listening(&broker).await;
    post(&broker, &market("k1", "3")).await;
    let told = updates.until("fill").await;
    let fill = told.last().unwrap();
    assert_eq!((&fill["qty"], &fill["order"]["filled_qty"]), (&json!("3"), &json!("3")));
    assert!(fill["execution_id"].is_string() && fill["timestamp"].is_string() && fill.get("event_id").is_none());
    assert!(told.iter().all(|one| one["order"]["client_order_id"] == "k1"));
    broker.shutdown().await;
}

#[tokio::test]
async fn the_websocket_loses_an_event_without_a_word_and_breaks_on_a_reset() {
    let broker = Broker::start().await;
    let mut updates = Updates::listening(&broker).await;
    broker.fault(json!({"client_order_id": "k1", "fault": "lost_event"})).await;
    post(&broker, &market("k1", "1")).await;
    post(&broker, &market("k2", "1")).await;
    let told = updates.until("fill").await;
    assert_eq!(told.last().unwrap()["order"]["client_order_id"], "k2", "the fill of the first is lost");
    broker.fault(json!({"client_order_id": "k3", "fault": "stream_reset"})).await;
    post(&broker, &market("k3", "1")).await;
    while updates.next().await.is_some() {}
    assert_eq!(broker.hits("stream_reset").await, 1);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_new_token_ends_the_one_before_and_a_key_alone_is_not_enough_where_tokens_are_required() {
    let broker = Broker::start().await;
    let token = || async {
        let form = format!("grant_type=client_credentials&client_id={KEY_ID}&client_secret={SECRET}");
        let request = broker.client.post(broker.url("/oauth2/token")).body(form);
        let answer: Value = json_of(request.send().await.unwrap()).await;
        answer["access_token"].as_str().unwrap().to_owned()
    };
    let status = |token: String| {
        let request = broker.client.get(broker.url("/v2/account")).bearer_auth(token);
        async move { request.send().await.unwrap().status() }
    };
    let first = token().await;
    assert_eq!(status(first.clone()).await, StatusCode::OK);
    let second = token().await;
    assert_eq!(status(first).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(second.clone()).await, StatusCode::OK);
    broker.configure(json!({"tokens_required": true})).await;
    let keyed = call(&broker, Method::GET, "/v2/account").send().await.unwrap();
    assert_eq!(keyed.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(status(second).await, StatusCode::OK);
    let stranger = broker.client.post(broker.url("/oauth2/token")).json(&json!({"client_id": "x"}));
    assert_eq!(stranger.send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    broker.shutdown().await;
}

#[tokio::test]
async fn maintenance_answers_503_to_everything_and_an_operator_is_still_heard() {
    let broker = Broker::start().await;
    broker.configure(json!({"maintenance": true})).await;
    assert_eq!(post(&broker, &market("k1", "1")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(broker.lookup("k1").await.status(), StatusCode::SERVICE_UNAVAILABLE);
    broker.configure(json!({"maintenance": false})).await;
    assert_eq!(broker.lookup("k1").await.status(), StatusCode::NOT_FOUND, "nothing was done");
    broker.shutdown().await;
}

#[tokio::test]
async fn every_reply_of_a_span_of_time_is_lost_and_none_after_it() {
    let broker = Broker::start().await;
    broker.fault(json!({"fault": "drop_reply", "from_ms": 0, "until_ms": 600})).await;
    let mut lost = 0;
    loop {
        let key = format!("k{lost}");
        match broker.submit(&market(&key, "1")).await {
            Err(_) => lost += 1,
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::OK);
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let truth = broker.oracle("faults", "").await;
    let tally = &truth["kinds"]["drop_reply"];
    assert!(lost > 0 && tally["hits"] == lost && tally["armed"] == lost, "{truth}");
    assert_eq!(truth["rules"][0]["hits"], lost);
    let strikes = broker.oracle("strikes", "limit=1").await;
    assert_eq!(strikes["strikes"][0], json!({"key": "k0", "attempt": 1, "fault": "drop_reply", "rule": 1}));
    broker.shutdown().await;
}

#[tokio::test]
async fn a_blind_broker_streams_only_what_comes_and_shows_what_is_filled_in_all() {
    let mut blind = settings(1, None);
    blind.profile = simulator::broker::profile::Profile::Blind;
    let broker = Broker::start_with(blind).await;
    post(&broker, &market("old", "1")).await;
    let mut stream = broker.stream("since=2020-01-01").await;
    let placed: OrderEntity = json_of(post(&broker, &market("new", "2")).await).await;
    let told = stream.until_filled(&placed.client_order_id).await;
    assert!(told.iter().all(|event| event.order.id == placed.id), "nothing of the past is replayed");
    let fill = told.last().unwrap();
    assert_eq!((fill.execution_id.as_deref(), fill.qty, fill.order.filled_qty), (None, None, Decimal::TWO));
    let truth = broker.oracle("orders", "").await;
    assert_eq!(truth["orders"][1]["client_order_id"], "new");
    assert_ne!(truth["orders"][1]["shown_client_order_id"], "new");
    broker.shutdown().await;
}
