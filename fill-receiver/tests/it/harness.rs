//! A receiver of its own for every test.

use crate::broker::Broker;
use contracts::Partition;
use contracts::event::{BrokerEvent, Envelope, Payload, Producer};
use fill_receiver::config::Settings;
use fill_receiver::service::Service;
use platform::clock::{Clock, SystemClock, SystemIds};
use platform::config::{Configuration, Secret};
use platform::operators::OperatorTokens;
use platform::shutdown::Ended;
use platform::testing::TestDatabase;
use platform::{eventlog, http, telemetry, tls};
use serde_json::Value;
use sqlx::PgPool;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

/// Longest wait for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `check` holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let ended = tokio::time::timeout(DEADLINE, async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(ended.is_ok(), "{what} did not happen within {DEADLINE:?}");
}

/// A database and a broker, without a receiver yet.
pub(crate) struct World {
    pub(crate) db: TestDatabase,
    pub(crate) broker: Broker,
}

impl World {
    pub(crate) async fn new() -> Self {
        tls::install_crypto_provider();
        let migrations = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../migrations/fill-receiver");
        Self { db: TestDatabase::create(&migrations).await, broker: Broker::start().await }
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.db.pool
    }

    /// Short times, no Redis (nothing here needs it), no audit unless a test asks for it.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::defaults().unwrap();
        settings.http.ops_addr = "127.0.0.1:0".parse().unwrap();
        settings.tokens.ops = Secret::new("ops");
        settings.tokens.peer = Secret::new("peer");
        settings.tokens.operators = OperatorTokens::new([("ann".to_owned(), Secret::new(ANNS_TOKEN))].into());
        settings.database.url = Secret::new(self.db.url.clone());
        settings.database.connections_max = 6;
        settings.redis.url = Secret::new("redis://127.0.0.1:1");
        settings.broker.base_url = self.broker.base_url();
        settings.broker.key_id = "key".to_owned();
        settings.broker.secret_key = Secret::new("secret");
        // The stream begins before every event of a test.
        let first = SystemClock.now() - time::Duration::hours(1);
        settings.stream.first_since = first.format(&Rfc3339).unwrap();
        settings.stream.silence_deadline_ms = 2_000;
        settings.stream.reconnect_delay_initial_ms = 5;
        settings.stream.reconnect_delay_max_ms = 50;
        settings.lease.duration_ms = 1_000;
        settings.lease.renewal_ms = 100;
        settings.audit.interval_ms = 0;
        settings
    }

    /// The same with pushes taken, signed with [`crate::push::KEY`].
    pub(crate) fn push_settings(&self) -> Settings {
        let mut settings = self.settings();
        settings.push.addr = "127.0.0.1:0".to_owned();
        settings.push.keys = vec![crate::push::key("first", crate::push::SECRET)];
        settings
    }

    /// A running receiver, connected.
    pub(crate) async fn receiver(&self) -> Running {
        self.receiver_with(self.settings()).await
    }

    pub(crate) async fn receiver_with(&self, settings: Settings) -> Running {
        let running = start(settings).await;
        let status = Arc::clone(&running.service.status);
        eventually("connecting", || async { status.connections() > 0 }).await;
        running
    }

    /// Everything in the log, by partition and sequence.
    pub(crate) async fn log(&self) -> Vec<Envelope> {
        log_of(self.pool()).await
    }

    pub(crate) async fn events(&self) -> Vec<BrokerEvent> {
        self.log().await.iter().map(|envelope| BrokerEvent::decode(envelope).unwrap()).collect()
    }

    /// Waits until the log holds so many events.
    pub(crate) async fn logged(&self, count: usize) -> Vec<Envelope> {
        eventually(&format!("{count} events in the log"), || async { self.log().await.len() >= count }).await;
        let log = self.log().await;
        assert_eq!(log.len(), count);
        log
    }

    pub(crate) async fn cursor(&self) -> String {
        sqlx::query_scalar("select cursor from streams").fetch_one(self.pool()).await.unwrap()
    }

    pub(crate) async fn count(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.pool()).await.unwrap()
    }
}

/// The whole log of a database.
pub(crate) async fn log_of(pool: &PgPool) -> Vec<Envelope> {
    let mut all = Vec::new();
    for partition in Partition::all() {
        let mut after = 0;
        loop {
            let events = eventlog::read_after(pool, Producer::FillReceiver, partition, after, 1000).await.unwrap();
            let Some(last) = events.last() else { break };
            assert_eq!(last.seq, after + i64::try_from(events.len()).unwrap(), "the log has no gap");
            after = last.seq;
            all.extend(events);
        }
    }
    all
}

type Base = dyn Fn(Arc<dyn http::Health>) -> axum::Router + Send + Sync;

/// Starts a receiver and does not wait.
pub(crate) async fn start(settings: Settings) -> Running {
    start_by(settings, SystemClock).await
}

/// The same by another clock.
pub(crate) async fn start_by(settings: Settings, clock: impl Clock) -> Running {
    static METRICS: OnceLock<Box<Base>> = OnceLock::new();
    let base = METRICS.get_or_init(|| {
        let metrics = telemetry::init("fill-receiver", &fill_receiver::metrics::ALL).unwrap();
        Box::new(move |health| http::ops_router(metrics.clone(), health))
    });
    let end = CancellationToken::new();
    let service = Service::start(settings, Arc::new(clock), &SystemIds, base, end.clone()).await.unwrap();
    Running { service, end }
}

/// The token of the operator `ann`.
const ANNS_TOKEN: &str = "anns-own-long-token";

/// A receiver that is to be ended.
pub(crate) struct Running {
    pub(crate) service: Service,
    pub(crate) end: CancellationToken,
}

impl Running {
    /// Ends it in good order.
    pub(crate) async fn stop(self) {
        self.end.cancel();
        assert_eq!(self.service.ended().await, Ended::AsAsked);
    }

    /// Waits for a number of connections since the start.
    pub(crate) async fn connections(&self, count: u64) {
        let status = &self.service.status;
        eventually(&format!("{count} connections"), || async { status.connections() >= count }).await;
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call(reqwest::Method::GET, path, "ops").await
    }

    pub(crate) async fn post(&self, path: &str) -> (u16, Value) {
        self.call(reqwest::Method::POST, path, "ops").await
    }

    /// Posts a body with the token of the operator `ann`.
    pub(crate) async fn send(&self, path: &str, body: Value) -> (u16, Value) {
        self.send_as(ANNS_TOKEN, path, body).await
    }

    pub(crate) async fn send_as(&self, token: &str, path: &str, body: Value) -> (u16, Value) {
        let url = format!("http://{}{path}", self.service.ops_addr);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url).bearer_auth(token).header("content-type", "application/json");
        let answer = request.body(body.to_string()).send().await.unwrap();
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    pub(crate) async fn call(&self, method: reqwest::Method, path: &str, token: &str) -> (u16, Value) {
        let url = format!("http://{}{path}", self.service.ops_addr);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.request(method, url).bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}
