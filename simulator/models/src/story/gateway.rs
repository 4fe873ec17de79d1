//! The gateway of a story: its rows, what its callers have in hand, and the production functions between.

use super::broker::Key;
use broker_gateway::application::alarm::Alarm;
use broker_gateway::application::change::{CallTrace, Change};
use broker_gateway::application::claim::{CallKind, PlannedCall, plan};
use broker_gateway::application::intake::{OrdersBatch, Sighting, apply_evidence, apply_wishes};
use broker_gateway::application::ports::{CreateOrder, Dialect, DialectError};
use broker_gateway::application::record::{CallOutcome, FinishedCall, fold};
use broker_gateway::application::request::{Loaded, Rank, Request};
use broker_gateway::application::rules::Rules;
use broker_gateway::application::wire::{Verb, WireRequest, WireResult};
use broker_gateway::domain::attempt::{Attempt, AttemptEnd};
use broker_gateway::domain::lane::{Lane, LanePolicy};
use broker_gateway::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome, Refusal};
use broker_gateway::domain::retry::{Jitter, Now};
use contracts::event::{BrokerEvent, Envelope, GatewayEvent, ObservedOrder, OrdersEvent, Payload, Producer};
use contracts::{BrokerKey, BrokerOrderId, EventId, OrderId, Partition};
use platform::eventlog::Position;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// A call that the gateway's memory knows of.
#[derive(Debug, Clone)]
pub(super) struct Hand {
    /// The call.
    pub(super) call: PlannedCall,
    /// The time in its bytes.
    pub(super) valid_until: Option<OffsetDateTime>,
    /// When it was claimed.
    pub(super) claimed_at: OffsetDateTime,
    /// How far it is.
    pub(super) stage: Stage,
}

/// How far a call is.
#[derive(Debug, Clone)]
pub(super) enum Stage {
    /// No byte is out.
    Claimed,
    /// The bytes are out since then.
    Waiting(OffsetDateTime),
    /// It has ended, and that is not recorded.
    Ended(CallOutcome),
}

/// The gateway.
#[derive(Debug, Clone)]
pub(super) struct Gateway {
    rules: Arc<Rules>,
    /// Its rows.
    pub(super) requests: BTreeMap<OrderId, Loaded>,
    /// Its log, by partition.
    pub(super) log: BTreeMap<Partition, Vec<Envelope>>,
    /// How far it has applied others' logs.
    pub(super) applied: BTreeMap<(Producer, Partition), Position>,
    early: BTreeMap<OrderId, Vec<BrokerEvent>>,
    /// Calls in memory, by a number of their own.
    pub(super) hands: BTreeMap<u64, Hand>,
    next_hand: u64,
    lane: Lane,
    /// Things that must never happen.
    pub(super) alarms: Vec<(OrderId, Alarm)>,
    wrong_key_for_each_attempt: bool,
}

/// Writes nothing but what tells calls apart.
struct Words;

fn words(verb: Verb, target: String, body: Option<String>) -> WireRequest {
    WireRequest { verb, target, body, traceparent: None }
}

impl Dialect for Words {
    fn create(&self, order: CreateOrder<'_>) -> Result<WireRequest, DialectError> {
        let body = format!("{} {:?}", order.key, order.valid_until);
        Ok(words(Verb::Post, "/orders".to_owned(), Some(body)))
    }
    fn lookup_by_key(&self, key: BrokerKey) -> WireRequest {
        words(Verb::Get, format!("/orders:{key}"), None)
    }
    fn lookup_by_id(&self, id: &BrokerOrderId) -> WireRequest {
        words(Verb::Get, format!("/orders/{id}"), None)
    }
    fn cancel(&self, id: &BrokerOrderId) -> WireRequest {
        words(Verb::Delete, format!("/orders/{id}"), None)
    }
    fn read_create(&self, _: BrokerKey, _: &WireResult) -> CreateOutcome {
        CreateOutcome::Unknown { reason: String::new() }
    }
    fn read_lookup(&self, _: BrokerKey, _: &WireResult) -> LookupOutcome {
        LookupOutcome::Unknown { reason: String::new() }
    }
    fn read_cancel(&self, _: &WireResult) -> CancelOutcome {
        CancelOutcome::Unknown { reason: String::new() }
    }
    fn broker_code(&self, _: &WireResult) -> Option<i64> {
        None
    }
    fn is_unauthorized(&self, _: &WireResult) -> bool {
        false
    }
}

const fn trusted(at: OffsetDateTime) -> Now {
    Now { at, is_trusted: true }
}

impl Gateway {
    /// An empty gateway.
    #[must_use]
    pub(super) fn new(rules: Rules, wrong_key_for_each_attempt: bool) -> Self {
        let policy = LanePolicy {
            rate_per_s: 20,
            burst: 4,
            unreachable_pause_first: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            rate_limited_pause: Duration::from_secs(1),
        };
        Self {
            rules: Arc::new(rules),
            requests: BTreeMap::new(),
            log: BTreeMap::new(),
            applied: BTreeMap::new(),
            early: BTreeMap::new(),
            hands: BTreeMap::new(),
            next_hand: 0,
            lane: Lane::new(policy),
            alarms: Vec::new(),
            wrong_key_for_each_attempt,
        }
    }

    /// When the lane has something to do next.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<OffsetDateTime> {
        self.requests.values().filter_map(|(request, _)| request.due).map(|due| due.at).min()
    }

    /// The key at the broker of an attempt.
    #[must_use]
    pub(super) fn key(&self, call: &PlannedCall) -> Key {
        let number = match call.kind {
            CallKind::Create { number } if self.wrong_key_for_each_attempt => number,
            _ => 1,
        };
        (call.order_id, number)
    }

    /// One transaction on events of the order server's log.
    pub(super) fn take_orders(&mut self, events: &[Envelope], now: OffsetDateTime) {
        let mut batch = OrdersBatch::default();
        for event in events {
            if let Ok(decoded) = OrdersEvent::decode(event) {
                let _mismatch = batch.add(decoded, event.partition, None);
            }
        }
        let mut early: HashMap<OrderId, Vec<Sighting>> = HashMap::new();
        for new in &batch.submits {
            let broker = &self.rules.profile.broker;
            self.requests.entry(new.order_id).or_insert_with(|| (new.queued(broker, now), Vec::new()));
            let seen = self.early.remove(&new.order_id).unwrap_or_default();
            if !seen.is_empty() {
                early.insert(new.order_id, seen.iter().map(sighting).collect());
            }
        }
        let touched = batch.wishes.keys().chain(early.keys()).copied().collect::<std::collections::BTreeSet<_>>();
        let loaded = self.load(touched.into_iter());
        let changes = apply_wishes(&self.rules, trusted(now), loaded, &batch.wishes, &early, || Jitter(0));
        self.write(changes, now);
        self.move_on(events);
    }

    /// One transaction on events of the receiver's log.
    pub(super) fn take_evidence(&mut self, events: &[Envelope], now: OffsetDateTime) {
        let mut evidence: HashMap<OrderId, Vec<BrokerEvent>> = HashMap::new();
        for event in events {
            let Ok(decoded) = BrokerEvent::decode(event) else { continue };
            let Some(order) = decoded.order_id else { continue };
            if self.requests.contains_key(&order) {
                evidence.entry(order).or_default().push(decoded);
            } else {
                self.early.entry(order).or_default().push(decoded);
            }
        }
        let touched: std::collections::BTreeSet<OrderId> = evidence.keys().copied().collect();
        let loaded = self.load(touched.into_iter());
        let changes = apply_evidence(&self.rules, trusted(now), loaded, &evidence, || Jitter(0));
        self.write(changes, now);
        self.move_on(events);
    }

    fn move_on(&mut self, events: &[Envelope]) {
        if let Some(last) = events.last() {
            let at = Position { seq: last.seq, event_id: Some(last.id) };
            self.applied.insert((last.producer, last.partition), at);
        }
    }

    /// The lane claims what is due; answers how many calls it made of it. `dies`: after the commit.
    pub(super) fn claim(&mut self, now: OffsetDateTime, since: Duration, jitter: u16, dies: bool) -> usize {
        let mut due: Vec<(Rank, OffsetDateTime, OrderId)> = self
            .requests
            .values()
            .filter_map(|(request, _)| request.due.map(|due| (due.rank, due.at, request.order_id)))
            .filter(|(_, at, _)| *at <= now)
            .collect();
        due.sort_unstable();
        let grant = self.lane.take(since, u32::try_from(due.len()).unwrap_or(u32::MAX));
        due.truncate(usize::try_from(grant.calls).unwrap_or(0));
        let loaded = self.load(due.into_iter().map(|(.., order)| order));
        let (changes, calls) = plan(&self.rules, &Words, trusted(now), loaded, || Jitter(jitter));
        self.lane.give_back(grant.calls.saturating_sub(u32::try_from(calls.len()).unwrap_or(u32::MAX)));
        self.write(changes, now);
        let made = calls.len();
        if dies {
            self.die(now);
            return made;
        }
        for call in calls {
            let valid_until = self.requests.get(&call.order_id).and_then(|(request, _)| request.valid_until);
            let hand = Hand { call, valid_until, claimed_at: now, stage: Stage::Claimed };
            self.hands.insert(self.next_hand, hand);
            self.next_hand += 1;
        }
        made
    }

    /// For how long the lane starts nothing.
    #[must_use]
    pub(super) fn paused_for(&self, since: Duration) -> Duration {
        self.lane.paused_for(since)
    }

    /// The recorder writes the end of a call.
    pub(super) fn record(&mut self, hand: u64, now: OffsetDateTime, since: Duration) {
        let Some(Hand { call, stage: Stage::Ended(outcome), .. }) = self.hands.remove(&hand) else { return };
        self.lane.observe(since, outcome.signal());
        let code = match &outcome {
            CallOutcome::Create(CreateOutcome::Rejected(refusal)) => Some(refusal.code),
            _ => None,
        };
        let trace = CallTrace { broker_code: code, detail: outcome.detail(), ..CallTrace::default() };
        let ended = FinishedCall { order_id: call.order_id, kind: call.kind, outcome, trace, attempt: call.attempt };
        let loaded = self.load(std::iter::once(call.order_id));
        let changes = fold(&self.rules, trusted(now), loaded, &[ended], || Jitter(0));
        self.write(changes, now);
    }

    /// It dies with all that its memory knows.
    pub(super) fn die(&mut self, now: OffsetDateTime) {
        self.hands.clear();
        Arc::make_mut(&mut self.rules).retry.reviewed_since = now;
    }

    fn load(&self, orders: impl Iterator<Item = OrderId>) -> Vec<Loaded> {
        orders.filter_map(|order| self.requests.get(&order).cloned()).collect()
    }

    fn write(&mut self, changes: Vec<Change>, now: OffsetDateTime) {
        for change in changes {
            let order = change.request.order_id;
            let Some((request, attempts)) = self.requests.get_mut(&order) else { continue };
            *request = Request { version: request.version.saturating_add(1), ..change.request };
            for attempt in attempts.iter_mut().filter(|attempt| change.expired_attempts.contains(&attempt.number)) {
                attempt.end = Some((AttemptEnd::Unknown, now));
            }
            attempts.extend(change.new_attempt.map(|new| Attempt {
                number: new.number,
                claimed_at: new.claimed_at,
                give_up_at: new.give_up_at,
                end: None,
                bytes_hash: new.bytes_hash,
            }));
            for ended in change.ended_attempts {
                let end = match ended.outcome {
                    "accepted" => AttemptEnd::Accepted,
                    "duplicate" => AttemptEnd::Duplicate,
                    "rejected" => AttemptEnd::Rejected(Refusal {
                        code: ended.trace.broker_code.unwrap_or_default(),
                        message: ended.trace.detail.clone().unwrap_or_default(),
                    }),
                    "not_sent" | "rate_limited" => AttemptEnd::NotSent,
                    _ => AttemptEnd::Unknown,
                };
                for attempt in attempts.iter_mut().filter(|attempt| attempt.number == ended.number) {
                    attempt.close(end.clone(), now);
                }
            }
            let partition = request.partition;
            let account = request.account_id;
            self.alarms.extend(change.alarms.into_iter().map(|alarm| (order, alarm)));
            for event in change.events {
                append(self.log.entry(partition).or_default(), partition, account, &event, now);
            }
        }
    }
}

fn append(
    log: &mut Vec<Envelope>,
    partition: Partition,
    account: contracts::AccountId,
    event: &GatewayEvent,
    now: OffsetDateTime,
) {
    let seq = i64::try_from(log.len()).unwrap_or(i64::MAX).saturating_add(1);
    let Ok(payload) = serde_json::value::to_raw_value(event) else { return };
    log.push(Envelope {
        id: EventId::new(Uuid::from_u64_pair(
            0x6a00 + u64::from(partition.number().unsigned_abs()),
            u64::try_from(seq).unwrap_or(0),
        )),
        producer: Producer::BrokerGateway,
        partition,
        seq,
        prev_id: log.last().map(|last| last.id),
        kind: Payload::kind(event).to_owned(),
        version: GatewayEvent::VERSION,
        account_id: Some(account),
        order_id: Some(event.order_id()),
        at: now,
        traceparent: None,
        payload,
    });
}

fn sighting(event: &BrokerEvent) -> Sighting {
    Sighting {
        broker: event.broker.to_string(),
        symbol: Some(event.symbol.to_string()),
        side: Some(event.side.as_str().to_owned()),
        observed: ObservedOrder {
            broker_order_id: event.broker_order_id.clone(),
            status: event.order_status.clone(),
            cumulative_quantity: event.cumulative_quantity,
        },
    }
}
