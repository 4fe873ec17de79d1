//! A gateway without the processes around it: slices of others' logs go straight to its intake, and
//! its own log is read from the database.

use crate::broker::TestBroker;
use broker_gateway::adapters::alpaca::Alpaca;
use broker_gateway::adapters::caller::HttpCaller;
use broker_gateway::adapters::db::PgStore;
use broker_gateway::adapters::intake::Intake;
use broker_gateway::adapters::jitter::RandomJitter;
use broker_gateway::application::dossier::{Dossier, DossierStore};
use broker_gateway::application::lane::LaneWorker;
use broker_gateway::application::lane_control::LaneControl;
use broker_gateway::application::launch::{Launcher, Room, Straight};
use broker_gateway::application::recorder::Recorder;
use broker_gateway::application::rules::Rules;
use broker_gateway::config::Settings;
use broker_gateway::domain::lane::Lane;
use contracts::event::{BrokerEvent, Envelope, GatewayEvent, OrdersEvent, Payload, Producer};
use contracts::{
    AccountId, BrokerKey, EventId, OrderId, OrderTerms, OrderType, Partition, Price, Quantity, Side, Symbol,
    TimeInForce,
};
use platform::clock::{IdSource, SystemClock, SystemIds};
use platform::config::Configuration;
use platform::consumer::{Sink, Slice, SliceOutcome};
use platform::eventlog::{self, Position};
use platform::testing::{TestDatabase, eventually};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn settings(broker_url: &str) -> Settings {
    platform::tls::install_crypto_provider();
    let mut settings = Settings::defaults().unwrap();
    broker_url.clone_into(&mut settings.broker.base_url);
    settings.broker.account_id = "acct-1".to_owned();
    settings.broker.call_timeout_ms = 400;
    settings.broker.connect_timeout_ms = 400;
    settings.profile.record_lag_max_ms = 200;
    settings.profile.longest_flight_ms = 1000;
    settings.profile.clock_skew_max_ms = 200;
    settings.retry.minute_ms = 100;
    settings.retry.valid_for_minutes = 30;
    settings.retry.lookup_delay_first_ms = 20;
    settings.retry.send_grace_ms = 500;
    settings.retry.record_grace_ms = 200;
    settings.live.delay_first_ms = 20;
    settings.live.delay_max_ms = 50;
    settings.lane.poll_interval_ms = 10;
    settings.lane.unreachable_pause_first_ms = 10;
    settings.lane.pause_max_ms = 100;
    settings.lane.error_delay_ms = 20;
    settings
}

/// A gateway's database, intake and (when started) lane.
pub(crate) struct Gateway {
    pub(crate) database: TestDatabase,
    pub(crate) store: Arc<PgStore>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) settings: Settings,
    pub(crate) wake: Arc<Notify>,
    /// Sends through the lane that was started last.
    intake: Mutex<Arc<Intake<RandomJitter>>>,
    places: Mutex<HashMap<(Producer, Partition), Position>>,
}

fn intake(settings: &Settings, store: &Arc<PgStore>, rules: &Arc<Rules>, wake: &Arc<Notify>) -> Intake<RandomJitter> {
    let limits = settings.intake_limits();
    Intake::new(PgStore::clone(store), Arc::clone(rules), RandomJitter, Arc::clone(wake), limits)
}

/// A running lane.
pub(crate) struct RunningLane {
    pub(crate) control: LaneControl,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: Vec<JoinHandle<()>>,
}

impl RunningLane {
    /// Stops it as a signal would, and waits.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

impl Gateway {
    pub(crate) async fn new(settings: Settings) -> Self {
        let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/broker-gateway");
        let database = TestDatabase::create(&migrations).await;
        let rules = Arc::new(settings.rules().unwrap());
        let store = Arc::new(PgStore::new(database.pool.clone(), Arc::new(SystemIds), None));
        let wake = Arc::new(Notify::new());
        let intake = Mutex::new(Arc::new(intake(&settings, &store, &rules, &wake)));
        Self { database, store, rules, settings, wake, intake, places: Mutex::default() }
    }

    pub(crate) fn intake(&self) -> Arc<Intake<RandomJitter>> {
        Arc::clone(&self.intake.lock().unwrap())
    }

    pub(crate) async fn with(broker: &TestBroker) -> Self {
        Self::new(settings(&broker.url())).await
    }

    /// Starts a lane that counts every lookup ever made. Several may run at once.
    pub(crate) fn start(&self) -> RunningLane {
        self.start_by(Arc::clone(&self.rules))
    }

    /// Starts a lane as a new process does.
    pub(crate) async fn start_anew(&self) -> RunningLane {
        let mut rules = Rules::clone(&self.rules);
        rules.retry.reviewed_since = self.store.begin_reviews().await.unwrap();
        self.start_by(Arc::new(rules))
    }

    fn start_by(&self, rules: Arc<Rules>) -> RunningLane {
        let settings = &self.settings;
        let control = LaneControl::new(Lane::new(settings.lane_policy()));
        let broker = &settings.broker;
        let caller =
            HttpCaller::new(&broker.base_url, &broker.key_id, &broker.secret_key, settings.caller_limits()).unwrap();
        let (finished, ends) = mpsc::channel(settings.lane.record_queue_len_max);
        let limits = settings.lane_limits();
        let launcher = Arc::new(Launcher {
            caller: Arc::new(caller),
            dialect: Arc::new(Alpaca::new(&broker.account_id, true)),
            jitter: RandomJitter,
            clock: Arc::new(SystemClock),
            rules: Arc::clone(&rules),
            control: control.clone(),
            room: Room::new(limits.concurrency_max, limits.claim_len_max),
            finished,
        });
        let straight: Arc<dyn Straight> = launcher.clone();
        let intake = intake(settings, &self.store, &rules, &self.wake).sending_through(Arc::downgrade(&straight));
        *self.intake.lock().unwrap() = Arc::new(intake);
        let worker = LaneWorker { store: Arc::clone(&self.store), launcher, limits, wake: Arc::clone(&self.wake) };
        let recorder = Recorder {
            store: Arc::clone(&self.store),
            rules,
            jitter: RandomJitter,
            limits: settings.recorder_limits(),
            wake: Arc::clone(&self.wake),
        };
        let shutdown = CancellationToken::new();
        let end = shutdown.clone();
        let tasks = vec![tokio::spawn(async move { worker.run(end).await }), tokio::spawn(recorder.run(ends))];
        RunningLane { control, shutdown, tasks }
    }

    /// Takes events of another process's log in, one slice a partition.
    pub(crate) async fn take_in<P: Payload>(&self, producer: Producer, events: Vec<(AccountId, OrderId, P)>) {
        let mut slices: HashMap<Partition, Vec<(AccountId, OrderId, P)>> = HashMap::new();
        for event in events {
            slices.entry(Partition::of_account(event.0)).or_default().push(event);
        }
        for (partition, events) in slices {
            let slice = self.slice(producer, partition, events);
            self.apply(slice).await;
        }
    }

    /// Applies a slice whole.
    pub(crate) async fn apply(&self, slice: Slice) {
        let end = slice.end();
        assert_eq!(self.intake().apply(slice).await.unwrap(), SliceOutcome::Applied(end));
    }

    pub(crate) async fn try_apply(&self, slice: Slice) -> SliceOutcome {
        self.intake().apply(slice).await.unwrap()
    }

    /// Tries what waits of an account's partition again; answers how many events took effect.
    pub(crate) async fn redrive(&self, account: AccountId) -> usize {
        self.intake().redrive(Producer::OrderCore, Partition::of_account(account)).await.unwrap()
    }

    /// The next slice of a log.
    pub(crate) fn slice<P: Payload>(
        &self,
        producer: Producer,
        partition: Partition,
        events: Vec<(AccountId, OrderId, P)>,
    ) -> Slice {
        let payloads = events
            .into_iter()
            .map(|(account, order, payload)| {
                (account, order, payload.kind().to_owned(), serde_json::to_string(&payload).unwrap())
            })
            .collect();
        self.raw_slice(producer, partition, payloads)
    }

    pub(crate) fn raw_slice(
        &self,
        producer: Producer,
        partition: Partition,
        events: Vec<(AccountId, OrderId, String, String)>,
    ) -> Slice {
        let mut places = self.places.lock().unwrap();
        let place = places.entry((producer, partition)).or_default();
        let after = *place;
        let mut envelopes = Vec::new();
        for (account, order, kind, payload) in events {
            let id = EventId::new(SystemIds.uuid());
            envelopes.push(Envelope {
                id,
                producer,
                partition,
                seq: place.seq + 1,
                prev_id: place.event_id,
                kind,
                version: 1,
                account_id: Some(account),
                order_id: Some(order),
                at: OffsetDateTime::now_utc(),
                traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
                payload: RawValue::from_string(payload).unwrap(),
            });
            *place = Position { seq: place.seq + 1, event_id: Some(id) };
        }
        Slice::new(producer, partition, after, envelopes).unwrap()
    }

    pub(crate) async fn submit(&self, order: &Order) {
        self.take_in(Producer::OrderCore, vec![(order.account, order.id, order.submit())]).await;
    }

    pub(crate) async fn cancel(&self, order: &Order, request: i32) {
        let event = OrdersEvent::Cancel { order_id: order.id, request };
        self.take_in(Producer::OrderCore, vec![(order.account, order.id, event)]).await;
    }

    pub(crate) async fn lookup(&self, order: &Order) {
        let event = OrdersEvent::Lookup { order_id: order.id };
        self.take_in(Producer::OrderCore, vec![(order.account, order.id, event)]).await;
    }

    pub(crate) async fn evidence(&self, order: &Order, event: BrokerEvent) {
        self.take_in(Producer::FillReceiver, vec![(order.account, order.id, event)]).await;
    }

    /// What the gateway has told of an order, in order.
    pub(crate) async fn told(&self, order: &Order) -> Vec<GatewayEvent> {
        let partition = Partition::of_account(order.account);
        let log = eventlog::read_after(&self.database.pool, Producer::BrokerGateway, partition, 0, 1000).await.unwrap();
        log.iter()
            .filter(|envelope| envelope.order_id == Some(order.id))
            .map(|envelope| GatewayEvent::decode(envelope).unwrap())
            .collect()
    }

    /// Waits until the gateway has told an event of this kind of an order, and answers all it told.
    pub(crate) async fn until_told(&self, order: &Order, kind: &'static str) -> Vec<GatewayEvent> {
        let reached =
            eventually(PATIENCE, || async { self.told(order).await.iter().any(|event| event.kind() == kind) }).await;
        let told = self.told(order).await;
        assert!(reached, "{kind} was never told: {told:?}\n{:#?}", self.story(order).await);
        told
    }

    pub(crate) async fn state(&self, order: &Order) -> String {
        self.story(order).await.request.state
    }

    pub(crate) async fn story(&self, order: &Order) -> Dossier {
        self.store.dossier(order.id).await.unwrap().expect("the request is there")
    }

    /// Writes an attempt as a gateway would have, whose process then died: claimed `age_ms` ago.
    pub(crate) async fn plant_open_attempt(&self, order: &Order, age_ms: i64) {
        let age = format!("{age_ms} milliseconds");
        let hash = self.bytes_hash(order).await;
        sqlx::query(
            "insert into attempts (order_id, n, broker_key, bytes_hash, valid_until, claimed_at, send_before, give_up_at)
             select order_id, 1, $2, $3, valid_until, now() - $4::interval, now() - $4::interval,
                 now() - $4::interval + interval '1.1 seconds' from requests where order_id = $1",
        )
        .bind(order.id.as_uuid())
        .bind(order.key().to_string())
        .bind(hash)
        .bind(&age)
        .execute(&self.database.pool)
        .await
        .unwrap();
        sqlx::query(
            "update requests set attempts = 1, state = 'sending', version = version + 1,
                 due_at = now() - $2::interval + interval '1.1 seconds', due_rank = 1 where order_id = $1",
        )
        .bind(order.id.as_uuid())
        .bind(age)
        .execute(&self.database.pool)
        .await
        .unwrap();
    }

    async fn bytes_hash(&self, order: &Order) -> Vec<u8> {
        use broker_gateway::application::ports::{CreateOrder, Dialect};
        let until: OffsetDateTime =
            (OffsetDateTime::now_utc() + Duration::from_secs(60)).replace_nanosecond(0).unwrap();
        sqlx::query("update requests set valid_until = $2 where order_id = $1")
            .bind(order.id.as_uuid())
            .bind(until)
            .execute(&self.database.pool)
            .await
            .unwrap();
        let create = CreateOrder { key: order.key(), terms: &order.terms, valid_until: Some(until) };
        Alpaca::new("acct-1", true).create(create).unwrap().hash().to_vec()
    }
}

/// An order of a customer.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) id: OrderId,
    pub(crate) account: AccountId,
    pub(crate) terms: OrderTerms,
}

impl Order {
    pub(crate) fn new() -> Self {
        Self::of(AccountId::new(Uuid::new_v4()))
    }

    pub(crate) fn of(account: AccountId) -> Self {
        Self { id: OrderId::new(SystemIds.uuid()), account, terms: terms("2") }
    }

    pub(crate) fn key(&self) -> BrokerKey {
        BrokerKey::new(Partition::of_account(self.account), self.id)
    }

    pub(crate) fn submit(&self) -> OrdersEvent {
        OrdersEvent::Submit {
            order_id: self.id,
            account_id: self.account,
            broker_key: self.key(),
            terms: self.terms.clone(),
            accepted_at: OffsetDateTime::now_utc(),
        }
    }
}

pub(crate) fn terms(quantity: &str) -> OrderTerms {
    OrderTerms::new(
        Symbol::new("AAPL").unwrap(),
        Side::Buy,
        OrderType::Limit,
        TimeInForce::Day,
        Quantity::parse(quantity).unwrap(),
        Some(Price::parse("10.50").unwrap()),
    )
    .unwrap()
}

pub(crate) fn kinds(events: &[GatewayEvent]) -> Vec<&'static str> {
    events.iter().map(Payload::kind).collect()
}
