//! Updates to clients, over real sockets.

mod hostile;
mod sse;
mod websocket;

use super::{ApiWorld, Customer, buy};
use crate::world::{FakeLog, acknowledged, broker_event, charges, fill};
use contracts::alpaca::{TradeEvent, TradeEventKind};
use contracts::event::{BrokerEvent, GatewayEvent, Producer};
use contracts::{AccountId, OrderId, Partition};
use futures_util::{SinkExt, StreamExt};
use order_core::adapters::db::PgStore;
use order_core::application::facts::{FactApplier, FactSlice, SliceResult};
use order_core::domain::update_id::UpdateId;
use platform::clock::SystemIds;
use platform::testing::eventually;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longer than anything here takes; reached only by a test that fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The id before every update.
pub(crate) const START: &str = "00000000000000000000000000";

/// The gateway's and the broker's side, as another copy of the process applies it: what it commits
/// wakes nobody in the copies under test.
pub(crate) struct Facts {
    log: FakeLog,
    applier: FactApplier<PgStore>,
}

impl Facts {
    pub(crate) fn of(world: &ApiWorld) -> Self {
        let store = PgStore::new(world.database.pool.clone(), None, Arc::new(SystemIds));
        Self { log: FakeLog::default(), applier: FactApplier { store: Arc::new(store), charges: charges() } }
    }

    async fn apply(&self, slice: FactSlice) {
        let applied = self.applier.apply(&slice, OffsetDateTime::now_utc()).await.unwrap();
        assert!(matches!(applied, SliceResult::Applied(_)));
    }

    pub(crate) async fn gateway(&self, account: AccountId, events: &[GatewayEvent]) {
        self.apply(self.log.slice(Producer::BrokerGateway, Partition::of_account(account), events)).await;
    }

    pub(crate) async fn broker(&self, account: AccountId, events: &[BrokerEvent]) {
        self.apply(self.log.slice(Producer::FillReceiver, Partition::of_account(account), events)).await;
    }

    /// Takes an order to the broker and fills it in two parts: three updates.
    pub(crate) async fn fill(&self, account: AccountId, order: OrderId, name: &str) {
        self.gateway(account, &[acknowledged(order, name)]).await;
        let part = |n: &str, cumulative| {
            broker_event(Some(order), name, cumulative, fill(&format!("{name}-{n}"), "1", "50.25"))
        };
        self.broker(account, &[part("1", "1"), part("2", "2")]).await;
    }
}

/// Places an order for two shares.
pub(crate) async fn place(customer: &Customer, name: &str) -> OrderId {
    let placed = customer.post(&buy(name, "2", "60")).await;
    assert_eq!(placed.status, 200, "{placed:?}");
    placed.id().parse().unwrap()
}

/// Adds updates to an order's account, more than any socket holds, without the work of making them.
pub(crate) async fn pad(world: &ApiWorld, account: AccountId, order: OrderId, count: i64) {
    let mut tx = world.database.pool.begin().await.unwrap();
    sqlx::query(
        "insert into order_transitions (order_id, to_status, cause, cause_id, at, account_id, update_seq, event)
         select $2, 'working', 'test', $2, a.update_at, a.id, a.update_seq + n, 'restated'
         from accounts a, generate_series(1, $3) n where a.id = $1",
    )
    .bind(account.as_uuid())
    .bind(order.as_uuid())
    .bind(count)
    .execute(&mut *tx)
    .await
    .unwrap();
    sqlx::query("update accounts set update_seq = update_seq + $2 where id = $1")
        .bind(account.as_uuid())
        .bind(count)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
}

pub(crate) async fn revoke(world: &ApiWorld, customer: &Customer) {
    sqlx::query("update api_keys set revoked_at = now() where key_id = $1")
        .bind(&customer.key_id)
        .execute(&world.database.pool)
        .await
        .unwrap();
}

/// The numbers of events, which say what is missing.
pub(crate) fn numbers(events: &[TradeEvent]) -> Vec<i64> {
    events.iter().map(|event| UpdateId::parse(&event.event_id).unwrap().seq()).collect()
}

pub(crate) fn words(events: &[TradeEvent]) -> Vec<String> {
    events.iter().map(|event| event.event.to_string()).collect()
}

/// An open stream of server-sent events.
pub(crate) struct Events {
    response: Response,
    text: String,
    waiting: VecDeque<TradeEvent>,
    pub(crate) comments: Vec<String>,
}

impl Events {
    pub(crate) async fn open(customer: &Customer, query: &str) -> Self {
        let response = customer.request(Method::GET, &format!("/v2/events/trades{query}")).send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { response, text: String::new(), waiting: VecDeque::new(), comments: Vec::new() };
        // The greeting: the stream is in place from here on.
        assert!(events.read().await);
        events
    }

    /// Reads on; false at the end.
    async fn read(&mut self) -> bool {
        let Some(chunk) = tokio::time::timeout(PATIENCE, self.response.chunk()).await.unwrap().unwrap() else {
            return false;
        };
        self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((frame, rest)) = self.text.split_once("\n\n") {
            if let Some(data) = frame.strip_prefix("data: ") {
                assert!(!data.contains('\n'), "one line an event: {frame}");
                self.waiting.push_back(serde_json::from_str(data).unwrap());
            } else {
                self.comments.push(frame.strip_prefix(':').unwrap().trim().to_owned());
            }
            self.text = rest.to_owned();
        }
        true
    }

    /// The next event; none at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<TradeEvent> {
        while self.waiting.is_empty() && self.read().await {}
        self.waiting.pop_front()
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<TradeEvent> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.next().await.unwrap());
        }
        all
    }

    pub(crate) async fn rest(&mut self) -> Vec<TradeEvent> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }
}

/// An open websocket.
pub(crate) struct Socket(pub(crate) WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self(tokio_tungstenite::connect_async(format!("ws://{addr}/stream")).await.unwrap().0)
    }

    /// One that has shown its key and listens.
    pub(crate) async fn listening(addr: SocketAddr, customer: &Customer) -> Self {
        let mut socket = Self::open(addr).await;
        socket.show(customer).await;
        socket.listen(None).await;
        socket
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next JSON that comes, whichever frame it is in.
    pub(crate) async fn hear(&mut self) -> Value {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(bytes) => return serde_json::from_slice(&bytes).unwrap(),
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) async fn ask(&mut self, message: &Value) -> Value {
        self.say(message).await;
        self.hear().await
    }

    pub(crate) async fn show(&mut self, customer: &Customer) {
        let data = json!({"key_id": customer.key_id, "secret_key": customer.secret});
        let answer = self.ask(&json!({"action": "authenticate", "data": data})).await;
        assert_eq!(answer, authorization("authorized", "authenticate"));
    }

    pub(crate) async fn listen(&mut self, since_id: Option<&str>) {
        let mut data = json!({"streams": ["trade_updates"]});
        if let Some(since_id) = since_id {
            data["since_id"] = since_id.into();
        }
        let answer = self.ask(&json!({"action": "listen", "data": data})).await;
        assert_eq!(answer, json!({"stream": "listening", "data": {"streams": ["trade_updates"]}}));
    }

    pub(crate) async fn update(&mut self) -> TradeEvent {
        let frame = self.hear().await;
        assert_eq!(frame["stream"], "trade_updates", "{frame}");
        serde_json::from_value(frame["data"].clone()).unwrap()
    }

    pub(crate) async fn take(&mut self, count: usize) -> Vec<TradeEvent> {
        let mut all = Vec::new();
        while all.len() < count {
            all.push(self.update().await);
        }
        all
    }

    /// Reads to the end, however it comes; answers what was said at it.
    pub(crate) async fn closed(&mut self) -> Option<CloseFrame> {
        let mut said = None;
        while let Some(Ok(frame)) = tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap() {
            if let Message::Close(frame) = frame {
                said = frame;
            }
        }
        said
    }

    /// Reads to the end, which is announced with this code.
    pub(crate) async fn closed_with(&mut self, code: u16) -> String {
        let said = self.closed().await.unwrap();
        assert_eq!(u16::from(said.code), code, "{said:?}");
        said.reason.to_string()
    }
}

pub(crate) fn authorization(status: &str, action: &str) -> Value {
    json!({"stream": "authorization", "data": {"status": status, "action": action}})
}
