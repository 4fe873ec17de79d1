//! The whole process over real sockets: its own database, its own Redis, the other processes away.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper that fails has failed its test"
)]

mod bad_input;
mod explain;
mod frozen;
mod hang_up;
mod hostile;
mod idempotency;
mod money;
mod operators;
mod ops;
mod orders;
mod process;
mod reference;
mod stop;
mod strangers;
mod streams;

use axum::routing::get;
use axum::{Json, Router};
use contracts::{AccountId, Price, Symbol};
use order_core::adapters::db::PgStore;
use order_core::application::audit::Audit;
use order_core::config::Settings;
use order_core::domain::asset::{Asset, ReferencePrice};
use order_core::service::Service;
use platform::clock::{Clock, SystemClock, SystemIds};
use platform::config::Secret;
use platform::http::Health;
use platform::operators::OperatorTokens;
use platform::shutdown::Ended;
use platform::testing::{TestDatabase, TestRedis};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const OPS_TOKEN: &str = "ops-token";

/// Token of an operator of that name.
pub(crate) const ALICE: &str = "alices-own-token";

/// A status, headers that matter here, and a JSON body.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) body: Value,
}

impl Answer {
    /// Status and code, after looking that there is a message too.
    pub(crate) fn failed_with(&self) -> (u16, u64) {
        assert!(self.body["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        (self.status, self.body["code"].as_u64().unwrap_or_else(|| panic!("no code: {self:?}")))
    }

    pub(crate) fn id(&self) -> &str {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id: {self:?}"))
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert!(![429, 504].contains(&status), "client libraries send these again by themselves");
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    let text = response.text().await.unwrap();
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Answer { status, replayed, body }
}

/// A customer with a key.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) account_id: AccountId,
    pub(crate) key_id: String,
    secret: String,
    base: String,
    client: Client,
}

impl Customer {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        request.header("APCA-API-KEY-ID", &self.key_id).header("APCA-API-SECRET-KEY", &self.secret)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        send(self.request(Method::DELETE, path)).await
    }

    pub(crate) async fn post(&self, body: &Value) -> Answer {
        send(self.request(Method::POST, "/v2/orders").json(body)).await
    }

    pub(crate) async fn account(&self) -> Value {
        self.get("/v2/account").await.body
    }

    /// The same account with another key.
    pub(crate) fn with_key(&self, key: &Value) -> Self {
        let text = |name: &str| key[name].as_str().unwrap().to_owned();
        Self { key_id: text("key_id"), secret: text("secret_key"), ..self.clone() }
    }

    /// The same account over another copy of the process.
    pub(crate) fn at(&self, copy: &Copy) -> Self {
        Self { base: format!("http://{}", copy.api_addr), ..self.clone() }
    }

    /// The key's id and its secret.
    pub(crate) fn credentials(&self) -> (&str, &str) {
        (&self.key_id, &self.secret)
    }

    /// Credentials as lines of a request's head, for tests that write to the socket themselves.
    pub(crate) fn head_lines(&self) -> String {
        format!("apca-api-key-id: {}\r\napca-api-secret-key: {}\r\n", self.key_id, self.secret)
    }
}

pub(crate) fn buy(name: &str, quantity: &str, price: &str) -> Value {
    json!({"symbol": "AAPL", "qty": quantity, "side": "buy", "type": "limit", "limit_price": price,
           "time_in_force": "day", "client_order_id": name})
}

/// One copy of the process.
pub(crate) struct Copy {
    pub(crate) api_addr: SocketAddr,
    pub(crate) ops_addr: SocketAddr,
    end: CancellationToken,
    service: Option<Service>,
}

impl Copy {
    pub(crate) async fn stop(mut self) {
        self.end.cancel();
        assert_eq!(self.service.take().unwrap().ended().await, Ended::AsAsked);
    }
}

/// Runs for as long as the test.
pub(crate) struct ApiWorld {
    pub(crate) copy: Copy,
    pub(crate) redis: TestRedis,
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
    hours: &'static str,
    gateway_url: String,
}

/// Where nobody listens.
const NOBODY: &str = "http://127.0.0.1:9";

fn share(symbol: &str, n: u128, fractionable: bool, tradable: bool) -> Asset {
    Asset {
        id: Uuid::from_u128(n),
        symbol: Symbol::new(symbol).unwrap(),
        name: symbol.to_owned(),
        exchange: "NASDAQ".to_owned(),
        tradable,
        fractionable,
    }
}

fn settings(database: &TestDatabase, redis: &TestRedis, hours: &str, gateway_url: &str) -> Settings {
    let defaults = include_str!("../../config.default.toml");
    let mut settings: Settings = platform::config::parse_defaults(defaults).unwrap();
    settings.http.api_addr = "127.0.0.1:0".parse().unwrap();
    settings.http.ops_addr = "127.0.0.1:0".parse().unwrap();
    settings.database.url = Secret::new(&database.url);
    settings.database.connections_max = 8;
    settings.redis = redis.config();
    settings.tokens.ops = Secret::new(OPS_TOKEN);
    settings.tokens.peer = Secret::new("peer-token");
    let named = [("alice", ALICE)].map(|(name, token)| (name.to_owned(), Secret::new(token)));
    settings.tokens.operators = OperatorTokens::new(named.into());
    settings.peers.gateway_url = gateway_url.to_owned();
    settings.peers.receiver_url = NOBODY.to_owned();
    settings.reference.poll_ms = 50;
    settings.shutdown.drain_delay_ms = 0;
    settings.market.hours = hours.parse().unwrap();
    settings.validate().unwrap();
    settings
}

fn base(health: Arc<dyn Health>) -> Router {
    let report = move || {
        let health = Arc::clone(&health);
        async move { Json(health.report()) }
    };
    Router::new().route("/ops/v1/health", get(report))
}

/// Without a gateway the list comes from here.
async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Copy {
    let listed_here = settings.peers.gateway_url == NOBODY;
    let end = CancellationToken::new();
    let now = clock.now();
    let starting = Service::start(settings, clock, Arc::new(SystemIds), base, end.clone());
    let service = Box::pin(starting).await.unwrap();
    let listed =
        [("AAPL", 7, true, true), ("WHOLE", 8, false, true), ("HALT", 9, true, false), ("QUIET", 10, true, true)];
    let assets = listed.map(|(symbol, n, fractionable, tradable)| share(symbol, n, fractionable, tradable));
    if listed_here {
        service.reference.replace_assets(assets.to_vec());
    }
    let price = ReferencePrice { price: Price::parse("100").unwrap(), at: now };
    if listed_here {
        service.reference.update_prices([(Symbol::new("AAPL").unwrap(), price)], now);
    }
    Copy { api_addr: service.api_addr, ops_addr: service.ops_addr, end, service: Some(service) }
}

impl ApiWorld {
    pub(crate) async fn new() -> Self {
        Self::at("always", Arc::new(SystemClock)).await
    }

    pub(crate) async fn at(hours: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self::beside(NOBODY, hours, clock).await
    }

    /// With a gateway to ask.
    pub(crate) async fn beside(gateway_url: &str, hours: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self::tuned(gateway_url, hours, clock, |_| ()).await
    }

    /// With other settings than the defaults.
    pub(crate) async fn with(tune: impl FnOnce(&mut Settings)) -> Self {
        Self::tuned(NOBODY, "always", Arc::new(SystemClock), tune).await
    }

    async fn tuned(
        gateway_url: &str,
        hours: &'static str,
        clock: Arc<dyn Clock>,
        tune: impl FnOnce(&mut Settings),
    ) -> Self {
        platform::tls::install_crypto_provider();
        let migrations = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/order-core"));
        let database = TestDatabase::create(migrations).await;
        let redis = TestRedis::start();
        let mut settings = settings(&database, &redis, hours, gateway_url);
        tune(&mut settings);
        settings.validate().unwrap();
        let copy = start(settings, clock).await;
        let client = Client::builder().no_proxy().build().unwrap();
        Self { copy, redis, database, client, hours, gateway_url: gateway_url.to_owned() }
    }

    /// Another copy on the same database and Redis.
    pub(crate) async fn another(&self) -> Copy {
        start(settings(&self.database, &self.redis, self.hours, &self.gateway_url), Arc::new(SystemClock)).await
    }

    /// As one operator by a credential of the operator's own.
    pub(crate) async fn ops_as(&self, token: &str, method: Method, path: &str, body: &Value) -> Answer {
        let url = format!("http://{}{path}", self.copy.ops_addr);
        send(self.client.request(method, url).bearer_auth(token).json(body)).await
    }

    pub(crate) async fn ops(&self, method: Method, path: &str, body: &Value) -> Answer {
        let url = format!("http://{}{path}", self.copy.ops_addr);
        send(self.client.request(method, url).bearer_auth(OPS_TOKEN).json(body)).await
    }

    pub(crate) async fn customer(&self, cash: &str) -> Customer {
        let account = self.ops(Method::POST, "/ops/v1/accounts", &json!({"currency": "USD"})).await;
        assert_eq!(account.status, 201, "{account:?}");
        let account_id: AccountId = account.body["account_id"].as_str().unwrap().parse().unwrap();
        let deposit = json!({"amount": cash, "currency": "USD", "reference": "opening"});
        let path = format!("/ops/v1/accounts/{account_id}/deposits");
        assert_eq!(self.ops(Method::POST, &path, &deposit).await.status, 200);
        let key = self.ops(Method::POST, &format!("/ops/v1/accounts/{account_id}/keys"), &json!({})).await;
        Customer {
            account_id,
            key_id: key.body["key_id"].as_str().unwrap().to_owned(),
            secret: key.body["secret_key"].as_str().unwrap().to_owned(),
            base: format!("http://{}", self.copy.api_addr),
            client: self.client.clone(),
        }
    }

    pub(crate) async fn health(&self) -> Value {
        let url = format!("http://{}/ops/v1/health", self.copy.ops_addr);
        send(self.client.get(url)).await.body
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool).await.unwrap()
    }

    /// The books are in order: called at the end of every test.
    pub(crate) async fn audit(&self) {
        let store = PgStore::new(self.database.pool.clone(), None, Arc::new(SystemIds));
        assert_eq!(store.audit().await.unwrap(), Vec::new());
    }
}

/// A clock that stands still.
pub(crate) struct Standing(pub(crate) OffsetDateTime);

impl Clock for Standing {
    fn now(&self) -> OffsetDateTime {
        self.0
    }
}
