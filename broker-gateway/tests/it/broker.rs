//! A broker on loopback that counts what really comes over the wire, and does what a test tells it.
//! Plain sockets, since half bodies and resets are beyond what an HTTP server offers.

use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// What the broker does with one call.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// What a healthy broker does.
    Proper,
    /// Takes no effect; answers these bytes, whatever they are, and closes.
    Answer(u16, String),
    /// Takes effect, then answers this.
    EffectThenAnswer(u16, String),
    /// Takes effect, then closes without a word.
    EffectThenClose,
    /// Takes effect, then never answers.
    EffectThenHang,
    /// Takes effect, then half of the reply.
    EffectThenHalf,
    /// Takes effect; lookups say "none" this many times.
    EffectHidden(u32),
    /// No effect: closes at once.
    CloseUnread,
    /// No effect; never answers.
    Hang,
    /// No effect; redirects to another path with 307.
    Redirect,
    /// Takes effect with other terms than asked for.
    OtherTerms,
    /// Answers properly and then closes the connection that it said it would keep.
    ProperThenClose,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: String,
}

#[derive(Debug, Clone)]
pub(crate) struct BrokerOrder {
    pub(crate) id: Uuid,
    pub(crate) entity: Value,
    hidden: u32,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    orders: HashMap<String, BrokerOrder>,
    /// For creates, lookups by key, lookups by id, cancels.
    scripts: HashMap<&'static str, VecDeque<Act>>,
    duplicates_refused: u32,
    extra_orders: u32,
}

/// The broker.
#[derive(Clone)]
pub(crate) struct TestBroker {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

const ACCOUNT: &str = "acct-1";

impl TestBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = Self { addr: listener.local_addr().unwrap(), state: Arc::default() };
        let serving = broker.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let broker = serving.clone();
                tokio::spawn(async move {
                    let _closed = broker.serve(stream).await;
                });
            }
        });
        broker
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The next calls of a kind (`create`, `ask`, `observe`, `cancel`) go like this; then properly.
    pub(crate) fn script(&self, kind: &'static str, acts: impl IntoIterator<Item = Act>) {
        self.lock().scripts.entry(kind).or_default().extend(acts);
    }

    pub(crate) fn creates(&self) -> Vec<Seen> {
        self.lock().seen.iter().filter(|seen| seen.method == "POST").cloned().collect()
    }

    /// Every call about these orders, in the order in which they came: the kind and whose.
    pub(crate) fn calls_about<'a>(&self, keys: &[(&'a str, String)]) -> Vec<(&'static str, &'a str)> {
        let state = self.lock();
        let whose = |seen: &Seen| keys.iter().find(|(_, key)| seen.target.contains(key) || seen.body.contains(key));
        state.seen.iter().filter_map(|seen| whose(seen).map(|(name, _)| (kind(seen), *name))).collect()
    }

    pub(crate) fn cancels(&self) -> usize {
        self.lock().seen.iter().filter(|seen| seen.method == "DELETE").count()
    }

    pub(crate) fn asks(&self) -> usize {
        self.lock().seen.iter().filter(|seen| seen.target.contains("by_client_order_id")).count()
    }

    pub(crate) fn order(&self, key: &str) -> Option<BrokerOrder> {
        self.lock().orders.get(key).cloned()
    }

    /// How many orders it made, over all keys and also under a key that it had already.
    pub(crate) fn orders_len(&self) -> u32 {
        let state = self.lock();
        u32::try_from(state.orders.len()).unwrap() + state.extra_orders
    }

    /// Puts an order under a key that the gateway did not send.
    pub(crate) fn plant(&self, key: &str, body: &Value) {
        let order = entity(key, body);
        self.lock().orders.insert(key.to_owned(), order);
    }

    pub(crate) fn set_status(&self, key: &str, status: &str, filled: &str) {
        let mut state = self.lock();
        let order = state.orders.get_mut(key).unwrap();
        order.entity["status"] = json!(status);
        order.entity["filled_qty"] = json!(filled);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            let Some(seen) = read_request(&mut stream, &mut buffer).await? else { return Ok(()) };
            let kind = kind(&seen);
            let act = {
                let mut state = self.lock();
                state.seen.push(seen.clone());
                state.scripts.get_mut(kind).and_then(VecDeque::pop_front).unwrap_or(Act::Proper)
            };
            if !self.act(&mut stream, kind, &seen, act).await? {
                return Ok(());
            }
        }
    }

    /// Answers whether the connection stays.
    async fn act(&self, stream: &mut TcpStream, kind: &str, seen: &Seen, act: Act) -> std::io::Result<bool> {
        match act {
            Act::Proper => {
                let (status, body) = self.effect(kind, seen, 0);
                send(stream, status, &body).await?;
                return Ok(true);
            }
            Act::ProperThenClose => {
                let (status, body) = self.effect(kind, seen, 0);
                send(stream, status, &body).await?;
            }
            Act::Answer(status, body) => {
                send(stream, status, &body).await?;
                return Ok(true);
            }
            Act::EffectThenAnswer(status, body) => {
                self.effect(kind, seen, 0);
                send(stream, status, &body).await?;
                return Ok(true);
            }
            Act::EffectThenClose => {
                self.effect(kind, seen, 0);
            }
            Act::EffectThenHang => {
                self.effect(kind, seen, 0);
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Act::EffectThenHalf => {
                let (status, body) = self.effect(kind, seen, 0);
                let half: String = body.chars().take(body.len() / 2).collect();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{half}", body.len());
                stream.write_all(head.as_bytes()).await?;
            }
            Act::EffectHidden(times) => {
                self.effect(kind, seen, times);
            }
            Act::CloseUnread => {}
            Act::Hang => tokio::time::sleep(Duration::from_secs(60)).await,
            Act::Redirect => {
                let head = "HTTP/1.1 307 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(head.as_bytes()).await?;
                return Ok(true);
            }
            Act::OtherTerms => {
                let mut body: Value = serde_json::from_str(&seen.body).unwrap();
                body["qty"] = json!("999");
                let order = entity(body["client_order_id"].as_str().unwrap(), &body);
                let text = order.entity.to_string();
                self.lock().orders.insert(body["client_order_id"].as_str().unwrap().to_owned(), order);
                send(stream, 200, &text).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn effect(&self, kind: &str, seen: &Seen, hidden: u32) -> (u16, String) {
        let mut state = self.lock();
        match kind {
            "create" => create(&mut state, seen, hidden),
            "ask" => {
                let key = seen.target.split_once("client_order_id=").unwrap().1;
                match state.orders.get_mut(key) {
                    Some(order) if order.hidden == 0 => (200, order.entity.to_string()),
                    Some(order) => {
                        order.hidden -= 1;
                        not_found()
                    }
                    None => not_found(),
                }
            }
            "observe" => by_id(&state, &seen.target).map_or_else(not_found, |order| (200, order.entity.to_string())),
            "cancel" => by_id(&state, &seen.target).map_or_else(not_found, |_| (204, String::new())),
            "assets" => (200, assets()),
            "prices" => (200, r#"{"trades":{"AAPL":{"p":187.1200,"t":"2026-07-01T14:00:00Z"}}}"#.to_owned()),
            _ => (404, "<html>no such page</html>".to_owned()),
        }
    }
}

fn create(state: &mut State, seen: &Seen, hidden: u32) -> (u16, String) {
    let body: Value = serde_json::from_str(&seen.body).unwrap();
    let key = body["client_order_id"].as_str().unwrap().to_owned();
    if state.orders.contains_key(&key) {
        state.duplicates_refused += 1;
        return (422, r#"{"code":40010001,"message":"client_order_id must be unique"}"#.to_owned());
    }
    let order = BrokerOrder { hidden, ..entity(&key, &body) };
    let text = order.entity.to_string();
    state.orders.insert(key, order);
    (200, text)
}

fn entity(key: &str, body: &Value) -> BrokerOrder {
    let id = Uuid::new_v4();
    let entity = json!({
        "id": id, "client_order_id": key, "symbol": body["symbol"], "qty": body["qty"], "side": body["side"],
        "type": body["type"], "time_in_force": body["time_in_force"], "limit_price": body["limit_price"],
        "filled_qty": "0", "status": "new",
    });
    BrokerOrder { id, entity, hidden: 0 }
}

fn by_id<'a>(state: &'a State, target: &str) -> Option<&'a BrokerOrder> {
    let id = target.rsplit('/').next()?;
    state.orders.values().find(|order| order.id.to_string() == id)
}

fn not_found() -> (u16, String) {
    (404, r#"{"code":40410000,"message":"order not found"}"#.to_owned())
}

fn assets() -> String {
    json!([{"id": Uuid::from_u128(1), "class": "us_equity", "exchange": "NASDAQ", "symbol": "AAPL", "name": "Apple",
        "status": "active", "tradable": true, "fractionable": true}])
    .to_string()
}

fn kind(seen: &Seen) -> &'static str {
    let orders = format!("/v1/trading/accounts/{ACCOUNT}/orders");
    match seen.method.as_str() {
        "POST" if seen.target == orders => "create",
        "GET" if seen.target.starts_with(&format!("{orders}:by_client_order_id")) => "ask",
        "GET" if seen.target.starts_with(&format!("{orders}/")) => "observe",
        "DELETE" if seen.target.starts_with(&format!("{orders}/")) => "cancel",
        "GET" if seen.target.starts_with("/v1/assets") => "assets",
        "GET" if seen.target.starts_with("/v2/stocks/trades/latest") => "prices",
        _ => "unknown",
    }
}

async fn send(stream: &mut TcpStream, status: u16, body: &str) -> std::io::Result<()> {
    let head = if status == 204 {
        format!("HTTP/1.1 {status} X\r\n\r\n")
    } else {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    stream.write_all(head.as_bytes()).await
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Seen>> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, value)| value.trim().parse::<usize>().unwrap());
            let total = end + 4 + length;
            while buffer.len() < total {
                if stream.read_buf(buffer).await? == 0 {
                    return Ok(None);
                }
            }
            let body = String::from_utf8_lossy(&buffer[end + 4..total]).into_owned();
            buffer.drain(..total);
            let mut words = head.lines().next().unwrap_or_default().split(' ');
            let method = words.next().unwrap_or_default().to_owned();
            let target = words.next().unwrap_or_default().to_owned();
            return Ok(Some(Seen { method, target, body }));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
