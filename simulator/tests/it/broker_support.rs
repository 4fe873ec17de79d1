//! A broker on a free port, and a client of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use contracts::alpaca::{OrderEntity, TradeEvent};
use contracts::calendar::{MarketHours, Pace};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use simulator::broker::profile::Profile;
use simulator::broker::push::PushSettings;
use simulator::broker::{RunningBroker, Settings, start};
use tokio::time::timeout;

pub(crate) const ACCOUNT: &str = "a7e7c1f2-0000-4000-8000-000000000001";
pub(crate) const KEY_ID: &str = "sim-key";
pub(crate) const SECRET: &str = "sim-secret";
/// Long enough for a loaded machine: only a failure waits this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn settings(seed: u64, state_file: Option<PathBuf>) -> Settings {
    Settings {
        addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        key_id: KEY_ID.to_owned(),
        secret_key: SECRET.to_owned(),
        account_ids: vec![ACCOUNT.to_owned()],
        cash: rust_decimal::Decimal::from(1_000_000),
        checks_funds: false,
        profile: Profile::Full,
        key_window_ms: 600_000,
        seed,
        state_file,
        market_hours: MarketHours::Always,
        pace: Pace::real(),
        bars: None,
        events_retained_max: 100_000,
        push: PushSettings::default(),
    }
}

pub(crate) fn client() -> Client {
    platform::tls::install_crypto_provider();
    let builder = Client::builder().redirect(reqwest::redirect::Policy::none()).retry(reqwest::retry::never());
    builder.timeout(LIMIT).no_proxy().build().unwrap()
}

/// A broker whose prices stand still and whose orders fill in one part.
pub(crate) struct Broker {
    running: RunningBroker,
    pub(crate) client: Client,
    base: String,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::start_with(settings(1, None)).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let running = start(settings).await.unwrap();
        let base = format!("http://{}", running.addr());
        let broker = Self { running, client: client(), base };
        broker.configure(json!({"tick_ms": 0, "partial_probability": 0, "heartbeat_ms": 100})).await;
        broker
    }

    pub(crate) async fn shutdown(self) {
        drop(self.client);
        self.running.shutdown().await.unwrap();
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path)).basic_auth(KEY_ID, Some(SECRET))
    }

    pub(crate) fn orders_path() -> String {
        format!("/v1/trading/accounts/{ACCOUNT}/orders")
    }

    pub(crate) async fn submit(&self, order: &Value) -> reqwest::Result<Response> {
        let request = self.client.post(self.url(&Self::orders_path())).basic_auth(KEY_ID, Some(SECRET));
        request.json(order).send().await
    }

    pub(crate) async fn lookup(&self, key: &str) -> Response {
        let path = format!("{}:by_client_order_id?client_order_id={key}", Self::orders_path());
        self.get(&path).send().await.unwrap()
    }

    pub(crate) async fn cancel(&self, order: &OrderEntity) -> reqwest::Result<Response> {
        let path = format!("{}/{}", Self::orders_path(), order.id);
        self.client.delete(self.url(&path)).basic_auth(KEY_ID, Some(SECRET)).send().await
    }

    pub(crate) async fn configure(&self, change: Value) {
        let answer = self.client.put(self.url("/sim/v1/config")).json(&change).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    pub(crate) async fn fault(&self, fault: Value) {
        let answer = self.client.post(self.url("/sim/v1/faults")).json(&fault).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await.unwrap());
    }

    pub(crate) async fn operate(&self, path: &str, body: Value) -> Response {
        self.client.post(self.url(path)).json(&body).send().await.unwrap()
    }

    pub(crate) async fn hits(&self, kind: &str) -> u64 {
        let faults: Value = json_of(self.client.get(self.url("/sim/v1/faults")).send().await.unwrap()).await;
        faults["hits"][kind].as_u64().unwrap_or_default()
    }

    pub(crate) async fn oracle(&self, what: &str, query: &str) -> Value {
        let url = self.url(&format!("/sim/v1/oracle/{what}?{query}"));
        json_of(self.client.get(url).send().await.unwrap()).await
    }

    pub(crate) async fn stream(&self, query: &str) -> Stream {
        let answer = self.get(&format!("/v2/events/trades?{query}")).timeout(LIMIT * 10).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Stream { answer, buffer: Vec::new() }
    }
}

pub(crate) async fn json_of<T: serde::de::DeserializeOwned>(answer: Response) -> T {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

pub(crate) fn market(key: &str, qty: &str) -> Value {
    json!({"symbol": "AAPL", "qty": qty, "side": "buy", "type": "market", "time_in_force": "day",
           "client_order_id": key})
}

/// A limit order that rests.
pub(crate) fn resting(key: &str) -> Value {
    json!({"symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "limit_price": "1.00",
           "time_in_force": "gtc", "client_order_id": key})
}

/// One thing that a stream said.
#[derive(Debug)]
pub(crate) enum Said {
    Event(Box<TradeEvent>),
    Comment(String),
    /// The connection broke off.
    Broken,
    /// The stream ended in order.
    Ended,
}

/// A stream that is being read.
pub(crate) struct Stream {
    answer: Response,
    buffer: Vec<u8>,
}

impl Stream {
    pub(crate) async fn next(&mut self) -> Said {
        timeout(LIMIT, self.read()).await.expect("the stream says something")
    }

    async fn read(&mut self) -> Said {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let frame = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
                let frame = frame.trim_end();
                return match frame.strip_prefix("data: ") {
                    Some(data) => Said::Event(serde_json::from_str(data).unwrap()),
                    None => Said::Comment(frame.strip_prefix(':').unwrap().to_owned()),
                };
            }
            match self.answer.chunk().await {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) => return Said::Ended,
                Err(_) => return Said::Broken,
            }
        }
    }

    /// The next event; comments are skipped.
    pub(crate) async fn event(&mut self) -> TradeEvent {
        loop {
            match self.next().await {
                Said::Event(event) => return *event,
                Said::Comment(_) => {}
                other => panic!("an event expected: {other:?}"),
            }
        }
    }

    /// The next events, until one is the last of `key`.
    pub(crate) async fn until_filled(&mut self, key: &str) -> Vec<TradeEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let last = event.order.client_order_id == key && event.event.as_str() == "fill";
            events.push(event);
            if last {
                return events;
            }
        }
    }
}
