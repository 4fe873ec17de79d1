//! A broker's event stream that can be switched to every way of failing.

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use contracts::{BrokerKey, OrderId, Partition};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use ulid::Ulid;
use uuid::Uuid;

const HEARTBEAT: &[u8] = b":heartbeat\n\n";
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(50);

type Chunk = Result<Bytes, std::io::Error>;

#[derive(Default)]
struct Inner {
    history: BTreeMap<Ulid, Vec<u8>>,
    live: Vec<mpsc::UnboundedSender<Chunk>>,
    connects: Vec<Connect>,
    refuse_before: Option<Ulid>,
    refuse_all: bool,
    silent: bool,
    /// As they are shown when they are asked for, by id.
    orders: BTreeMap<String, Value>,
    listed: usize,
    refuse_lists: bool,
    shown_alone: Vec<String>,
}

/// One request for the stream.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) since: Ulid,
    pub(crate) until: Option<Ulid>,
}

/// The broker.
#[derive(Clone)]
pub(crate) struct Broker {
    inner: Arc<Mutex<Inner>>,
    pub(crate) addr: SocketAddr,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self { inner: Arc::default(), addr: listener.local_addr().unwrap() };
        let router = Router::new()
            .route("/v2/events/trades", get(trades))
            .route("/v1/trading/accounts/a-1/orders", get(orders))
            .route("/v1/trading/accounts/a-1/orders/{id}", get(order))
            .with_state(broker.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let beating = broker.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT_INTERVAL).await;
                beating.with(|inner| {
                    if !inner.silent {
                        send(inner, HEARTBEAT);
                    }
                });
            }
        });
        broker
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.inner.lock().unwrap())
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// An event that everyone sees.
    pub(crate) fn publish(&self, event: &Event) {
        self.publish_all(std::slice::from_ref(event));
    }

    /// Events that arrive in one piece.
    pub(crate) fn publish_all(&self, events: &[Event]) {
        self.with(|inner| {
            let mut bytes = Vec::new();
            for event in events {
                inner.history.insert(event.position, event.bytes());
                bytes.extend(frame(&event.bytes()));
            }
            send(inner, &bytes);
        });
    }

    /// An event that only a replay shows.
    pub(crate) fn lose(&self, event: &Event) {
        self.with(|inner| inner.history.insert(event.position, event.bytes()));
    }

    /// Puts bytes into a position of the history, and shows them.
    pub(crate) fn publish_raw(&self, position: Ulid, bytes: &[u8]) {
        self.with(|inner| {
            inner.history.insert(position, bytes.to_vec());
            send(inner, &frame(bytes));
        });
    }

    /// What the broker shows of an order when it is asked.
    pub(crate) fn show(&self, event: &Event) {
        let order = event.json["order"].clone();
        self.with(|inner| inner.orders.insert(order["id"].as_str().unwrap().to_owned(), order));
    }

    /// Answers 503 to whoever asks for its orders.
    pub(crate) fn refuse_lists(&self, refuse: bool) {
        self.with(|inner| inner.refuse_lists = refuse);
    }

    /// How often its orders were asked for, whatever the answer was.
    pub(crate) fn listed(&self) -> usize {
        self.with(|inner| inner.listed)
    }

    /// Orders that were asked for one by one.
    pub(crate) fn shown_alone(&self) -> Vec<String> {
        self.with(|inner| inner.shown_alone.clone())
    }

    /// Sends bytes that are no part of the history.
    pub(crate) fn inject(&self, bytes: &[u8]) {
        self.with(|inner| send(inner, bytes));
    }

    /// Sends an event that is in no history, together with other bytes.
    pub(crate) fn inject_event_and(&self, event: &Event, bytes: &[u8]) {
        self.with(|inner| send(inner, &[frame(&event.bytes()), bytes.to_vec()].concat()));
    }

    /// Breaks every connection off.
    pub(crate) fn reset(&self) {
        self.with(|inner| {
            for live in inner.live.drain(..) {
                let _gone = live.send(Err(std::io::Error::other("reset")));
            }
        });
    }

    /// Says nothing more, not even a heartbeat.
    pub(crate) fn silence(&self, silent: bool) {
        self.with(|inner| inner.silent = silent);
    }

    /// Answers 503 to every new connection.
    pub(crate) fn refuse_all(&self, refuse: bool) {
        self.with(|inner| inner.refuse_all = refuse);
    }

    /// Answers 410 to positions before this one.
    pub(crate) fn forget_before(&self, position: Ulid) {
        self.with(|inner| inner.refuse_before = Some(position));
    }

    /// Requests for the open-ended stream, the first first.
    pub(crate) fn connects(&self) -> Vec<Connect> {
        self.with(|inner| inner.connects.iter().filter(|connect| connect.until.is_none()).cloned().collect())
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.with(|inner| {
            inner.live.retain(|live| !live.is_closed());
            inner.live.len()
        })
    }
}

fn frame(data: &[u8]) -> Vec<u8> {
    [b"data: ", data, b"\n\n"].concat()
}

fn send(inner: &mut Inner, bytes: &[u8]) {
    inner.live.retain(|live| live.send(Ok(Bytes::copy_from_slice(bytes))).is_ok());
}

async fn trades(
    State(broker): State<Broker>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    // key:secret
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != "Basic a2V5OnNlY3JldA==") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let id = |name: &str| query.get(name).map(|text| Ulid::from_string(text).unwrap());
    let (since, until) = (id("since_id").unwrap(), id("until_id"));
    let (sender, receiver) = mpsc::unbounded_channel();
    let answer = broker.with(|inner| {
        inner.connects.push(Connect { since, until });
        if inner.refuse_all {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if inner.refuse_before.is_some_and(|first| since < first) {
            return StatusCode::GONE;
        }
        let mut replay = Vec::new();
        for (position, data) in &inner.history {
            if *position > since && until.is_none_or(|until| *position <= until) {
                replay.extend(frame(data));
            }
        }
        sender.send(Ok(Bytes::from([HEARTBEAT.to_vec(), replay].concat()))).unwrap();
        if until.is_none() {
            inner.live.push(sender);
        }
        StatusCode::OK
    });
    if answer != StatusCode::OK {
        return (answer, "no").into_response();
    }
    let body = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|chunk| (chunk, receiver)) });
    ([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], Body::from_stream(body)).into_response()
}

/// Orders placed after a moment, oldest first.
async fn orders(State(broker): State<Broker>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let limit = query["limit"].parse().unwrap();
    let created = |order: &Value| order["created_at"].as_str().unwrap().to_owned();
    broker.with(|inner| {
        inner.listed += 1;
        if inner.refuse_lists {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        let mut page: Vec<Value> = inner.orders.values().filter(|o| created(o) > query["after"]).cloned().collect();
        page.sort_by_key(created);
        page.truncate(limit);
        Json(page).into_response()
    })
}

async fn order(State(broker): State<Broker>, Path(id): Path<String>) -> Response {
    let found = broker.with(|inner| {
        inner.shown_alone.push(id.clone());
        inner.orders.get(&id).cloned()
    });
    found.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |order| Json(order).into_response())
}

/// A key of ours.
pub(crate) fn key(order: u128) -> BrokerKey {
    let order_id = OrderId::new(Uuid::from_u128(order));
    BrokerKey::new(Partition::new(i16::try_from(order % 16).unwrap()).unwrap(), order_id)
}

/// An event to send.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) position: Ulid,
    pub(crate) json: Value,
}

impl Event {
    /// `word` about broker order number `order`, which carries a key of ours.
    pub(crate) fn new(word: &str, order: u128, position: Ulid) -> Self {
        let at = "2026-04-12T13:30:00.673857Z";
        let json = json!({
            "account_id": "a-1", "at": at, "event": word, "event_id": position.to_string(),
            "execution_id": Uuid::from_u128(0xe0e0 << 64 | position.random()).to_string(), "timestamp": at,
            "order": {
                "id": broker_order(order), "client_order_id": key(order).to_string(), "symbol": "AAPL",
                "type": "market", "side": "buy", "time_in_force": "day", "status": word, "qty": "10",
                "filled_qty": "0",
            },
        });
        Self { position, json }
    }

    /// A fill under its own execution id.
    pub(crate) fn fill(order: u128, execution: &str, position: Ulid) -> Self {
        let mut event = Self::new("partial_fill", order, position);
        event.json["execution_id"] = json!(execution);
        event.json["qty"] = json!("1");
        event.json["price"] = json!("187.12");
        event.json["order"]["filled_qty"] = json!("1");
        event
    }

    /// What a broker without executions tells: `word`, and what is filled in all at which average.
    pub(crate) fn filled(word: &str, order: u128, position: Ulid, filled: (&str, &str)) -> Self {
        let mut event = Self::new(word, order, position);
        event.json["execution_id"] = Value::Null;
        event.json["order"]["filled_qty"] = json!(filled.0);
        event.json["order"]["filled_avg_price"] = json!(filled.1);
        event.json["order"]["status"] = json!(if word == "partial_fill" { "partially_filled" } else { word });
        event
    }

    /// The same of an order that was placed then.
    pub(crate) fn placed(mut self, at: &str) -> Self {
        self.json["order"]["created_at"] = json!(at);
        self
    }

    /// The same under another name of the client's, or none.
    pub(crate) fn named(mut self, client_order_id: Value) -> Self {
        self.json["order"]["client_order_id"] = client_order_id;
        self
    }

    pub(crate) fn with(mut self, field: &str, value: Value) -> Self {
        self.json[field] = value;
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.json.to_string().into_bytes()
    }
}

/// The broker's id of an order.
pub(crate) fn broker_order(order: u128) -> String {
    Uuid::from_u128(0xb0 << 64 | order).to_string()
}

/// A position `age_ms` before now, with a random part.
pub(crate) fn position(age_ms: u64, random: u128) -> Ulid {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = u64::try_from(now.as_millis()).unwrap();
    Ulid::from_parts(now_ms - age_ms, random)
}
