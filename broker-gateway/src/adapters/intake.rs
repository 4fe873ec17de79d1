//! The two logs that the gateway reads: the order server's, for work, and the fill receiver's, for
//! evidence. Rows, effects and the applied position are one transaction.

use super::db::{DeferredEvent, Meeting, PgStore, SliceTransaction, is_data_fault};
use super::gather::{Answer, Gather, Waiting};
use super::straight::{Claims, NoLane};
use crate::application::alarm::{self, Alarm};
use crate::application::chain::Chain;
use crate::application::change::Change;
use crate::application::intake::{OrdersBatch, Sighting, apply_evidence, apply_wishes, is_terminal};
use crate::application::launch::Straight;
use crate::application::ports::{JitterSource, StoreError};
use crate::application::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use contracts::event::{BrokerEvent, Envelope, ObservedOrder, OrdersEvent, Payload, Producer};
use contracts::{BrokerOrderId, OrderId, Partition};
use futures_util::FutureExt;
use platform::applied::{self, LogPartition};
use platform::consumer::{Sink, SinkError, Slice, SliceOutcome};
use platform::eventlog::Position;
use platform::telemetry::ORDERS;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

/// Most waiting events that are tried again in one transaction, and most transactions of one go.
const REDRIVE_LEN_MAX: i64 = 200;
const REDRIVE_ROUNDS_MAX: usize = 250;

/// Limits of the intake.
#[derive(Debug, Clone, Copy)]
pub struct IntakeLimits {
    /// Most transactions at once.
    pub slices_max: u32,
    /// How far apart transactions of orders begin under load.
    pub orders_interval: Duration,
    /// The same of evidence.
    pub evidence_interval: Duration,
}

/// Takes slices of both logs into the store and wakes the lane.
pub struct Intake<J> {
    store: PgStore,
    rules: Arc<Rules>,
    jitter: J,
    wake: Arc<Notify>,
    /// Leaves connections to the lane, however many slices come at once.
    slots: Semaphore,
    orders: Gather,
    evidence: Gather,
    /// The lane, as long as it runs: new orders that nothing holds back are claimed with their intake, which saves
    /// each a transaction and a change of its row.
    lane: Weak<dyn Straight>,
}

/// Events of one log to take in, those of each partition oldest first.
struct Work<'a> {
    producer: Producer,
    events: Vec<&'a Envelope>,
    /// The partition in whose deferred table they wait, and which they leave; none: they are slices,
    /// whose positions move.
    waiting: Option<Partition>,
}

/// Where each slice of a transaction ends that took effect; the others are held or moved by another copy.
type Ends = BTreeMap<LogPartition, Position>;

fn outcome(ends: &Ends, slice: &Slice) -> SliceOutcome {
    let end = ends.get(&(slice.producer, slice.partition));
    end.map_or(SliceOutcome::Moved, |end| SliceOutcome::Applied(*end))
}

impl<J: JitterSource> Intake<J> {
    /// An intake that wakes the lane after each commit that may have made work.
    pub fn new(store: PgStore, rules: Arc<Rules>, jitter: J, wake: Arc<Notify>, limits: IntakeLimits) -> Self {
        let slots = Semaphore::new(usize::try_from(limits.slices_max).unwrap_or(1));
        let (orders, evidence) = (Gather::new(limits.orders_interval), Gather::new(limits.evidence_interval));
        Self { store, rules, jitter, wake, slots, orders, evidence, lane: Weak::<NoLane>::new() }
    }

    /// Lets new orders that nothing holds back go out as soon as they are committed.
    #[must_use]
    pub fn sending_through(self, lane: Weak<dyn Straight>) -> Self {
        Self { lane, ..self }
    }

    /// Slices of one log, of each partition at most one, in one transaction.
    async fn try_apply(&self, slices: &[Slice]) -> Result<Ends, StoreError> {
        let Some(producer) = slices.first().map(|slice| slice.producer) else { return Ok(Ends::new()) };
        let Some(tx) = self.store.begin_slices(slices).await? else { return Ok(Ends::new()) };
        let ends = tx.ends();
        let ours = slices.iter().filter(|slice| ends.contains_key(&(producer, slice.partition)));
        let events = ours.flat_map(|slice| &slice.events).collect();
        self.take_in(tx, &Work { producer, events, waiting: None }).await?;
        Ok(ends)
    }

    /// What waited at the same time: together, and where one of them spoils that, each alone.
    async fn apply_group(&self, group: Vec<Waiting>) {
        let (slices, answers): (Vec<Slice>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.slice, waiting.answer)).unzip();
        let mut together = None;
        if slices.len() > 1 {
            match caught(self.try_apply(&slices)).await {
                Ok(ends) => together = Some(ends),
                Err(error) => tracing::warn!(slices = slices.len(), error = %Chain(&error), "slices go one by one"),
            }
        }
        for (slice, answer) in slices.into_iter().zip(answers) {
            let answered = match &together {
                Some(ends) => Ok(outcome(ends, &slice)),
                None => self.apply_alone(slice).await,
            };
            // The consumer may be gone; what is committed stays so.
            let _gone = answer.send(answered);
        }
    }

    async fn apply_alone(&self, slice: Slice) -> Answer {
        let error = match caught(self.try_apply(std::slice::from_ref(&slice))).await {
            Ok(ends) => return Ok(outcome(&ends, &slice)),
            Err(error) if is_data_fault(&error) => error,
            Err(error) => {
                tracing::warn!(producer = %slice.producer, partition = %slice.partition, events = slice.events.len(),
                    error = %Chain(&error), "a slice could not be applied");
                return Err(SinkError::new(error));
            }
        };
        // One event spoils the slice: take the first alone; if it is the one, put it aside.
        let Some(first) = slice.events.first().cloned() else { return Err(SinkError::new(error)) };
        let alone =
            Slice::new(slice.producer, slice.partition, slice.after, vec![first.clone()]).map_err(SinkError::new)?;
        match caught(self.try_apply(std::slice::from_ref(&alone))).await {
            Ok(ends) => Ok(outcome(&ends, &alone)),
            Err(error) if is_data_fault(&error) => {
                let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                let poison = DeferredEvent { envelope: first, reason: "poison", detail };
                self.put_aside(&alone, &[poison]).await.map_err(SinkError::new)
            }
            Err(error) => Err(SinkError::new(error)),
        }
    }

    async fn put_aside(&self, slice: &Slice, deferred: &[DeferredEvent]) -> Result<SliceOutcome, StoreError> {
        let begun = self.store.begin_slices(std::slice::from_ref(slice)).await?;
        let Some(mut tx) = begun else { return Ok(SliceOutcome::Moved) };
        tx.defer(deferred).await?;
        let work = Work { producer: slice.producer, events: slice.events.iter().collect(), waiting: None };
        finish(tx, &work, deferred, OffsetDateTime::UNIX_EPOCH, &[]).await?;
        count_deferred(slice.producer, deferred);
        Ok(SliceOutcome::Applied(slice.end()))
    }

    /// Tries the oldest `limit` waiting events of a log's partition again. Answers how many have
    /// taken effect. With `set_aside` the oldest becomes poison instead.
    async fn try_waiting(
        &self,
        producer: Producer,
        partition: Partition,
        limit: i64,
        set_aside: Option<String>,
    ) -> Result<usize, StoreError> {
        let Some((mut tx, events)) = self.store.begin_waiting(producer, partition, limit).await? else {
            return Ok(0);
        };
        let work = Work { producer, events: events.iter().collect(), waiting: Some(partition) };
        let Some(detail) = set_aside else { return self.take_in(tx, &work).await };
        let deferred: Vec<_> = events
            .iter()
            .map(|envelope| DeferredEvent { envelope: envelope.clone(), reason: "poison", detail: detail.clone() })
            .collect();
        tx.defer(&deferred).await?;
        finish(tx, &work, &deferred, OffsetDateTime::UNIX_EPOCH, &[]).await
    }

    /// Tries what waits of a log's partition again, in order, as long as anything takes effect, in
    /// a bounded number of transactions. One event that cannot be applied is set aside; what waits
    /// behind it stays.
    ///
    /// # Errors
    /// [`StoreError`] of the infrastructure.
    pub async fn redrive(&self, producer: Producer, partition: Partition) -> Result<usize, StoreError> {
        let mut done = 0;
        let mut limit = REDRIVE_LEN_MAX;
        for _ in 0..REDRIVE_ROUNDS_MAX {
            let _slot = self.slots.acquire().await.map_err(|closed| StoreError::failed("redrive", closed))?;
            match caught(self.try_waiting(producer, partition, limit, None)).await {
                Ok(0) => break,
                Ok(some) => done += some,
                Err(error) if !is_data_fault(&error) => return Err(error),
                // One of them spoils the others: one at a time finds it.
                Err(_) if limit > 1 => limit = 1,
                Err(error) => {
                    let detail = Chain(&error).to_string();
                    self.try_waiting(producer, partition, 1, Some(detail)).await?;
                }
            }
        }
        Ok(done)
    }

    /// Answers how many events have taken effect; the others are deferred.
    async fn take_in(&self, tx: SliceTransaction<'_>, work: &Work<'_>) -> Result<usize, StoreError> {
        match work.producer {
            Producer::OrderCore => self.apply_orders(tx, work).await,
            Producer::FillReceiver => self.apply_evidence(tx, work).await,
            Producer::BrokerGateway => finish(tx, work, &[], OffsetDateTime::UNIX_EPOCH, &[]).await,
        }
    }

    async fn apply_orders(&self, mut tx: SliceTransaction<'_>, work: &Work<'_>) -> Result<usize, StoreError> {
        let (batch, deferred) = self.sort_orders(&mut tx, work).await?;
        tx.defer(&deferred).await?;
        let submitted: Vec<Uuid> = batch.submits.iter().map(|new| new.order_id.as_uuid()).collect();
        tx.meet(&submitted, Meeting::Order).await?;
        let early = self.early(&mut tx, &submitted).await?;
        let touched: BTreeSet<Uuid> = batch.wishes.keys().chain(early.keys()).map(|id| id.as_uuid()).collect();
        let touched: Vec<Uuid> = touched.into_iter().collect();
        // Before anything is claimed: a claim must not wait for others.
        tx.lock(&touched).await?;
        let lane = self.lane.upgrade();
        let mut straight = match &lane {
            Some(lane) => Claims::of(&mut tx, &**lane, &self.rules, &batch, &early).await?,
            None => Claims::default(),
        };
        let changes = std::mem::take(&mut straight.changes);
        let inserted = tx.insert(&self.rules.profile.broker, &batch.submits, changes).await?;
        let (now, loaded) = tx.load(&touched).await?;
        let known: BTreeSet<Uuid> = loaded.iter().map(|(request, _)| request.order_id.as_uuid()).collect();
        let changes = apply_wishes(&self.rules, trusted(now), loaded, &batch.wishes, &early, || self.jitter());
        let done = finish(tx, work, &deferred, now, &changes).await?;
        // Committed: what was claimed here is made here, and nowhere else.
        if let Some(lane) = lane {
            straight.start(&*lane, &inserted.claimed);
        }
        for order_id in inserted.others {
            alarm::raise(order_id, None, None, &[Alarm::OtherContent]);
        }
        for id in touched.iter().filter(|id| !known.contains(id)) {
            alarm::raise(OrderId::new(*id), None, None, &[Alarm::UnknownOrder]);
        }
        count_deferred(work.producer, &deferred);
        if inserted.claimed.len() < batch.submits.len() || !touched.is_empty() {
            self.wake.notify_one();
        }
        Ok(done)
    }

    async fn sort_orders(
        &self,
        tx: &mut SliceTransaction<'_>,
        work: &Work<'_>,
    ) -> Result<(OrdersBatch, Vec<DeferredEvent>), StoreError> {
        let orders: Vec<Uuid> = work.events.iter().filter_map(|e| e.order_id).map(OrderId::as_uuid).collect();
        // What waits already is given in its order, and nothing stands before it.
        let mut blocked = match work.waiting {
            None => tx.blocked(work.producer, &orders).await?,
            Some(_) => HashSet::new(),
        };
        let mut batch = OrdersBatch::default();
        let mut deferred = Vec::new();
        for envelope in work.events.iter().copied() {
            let order = envelope.order_id.map(OrderId::as_uuid);
            let reason = if order.is_some_and(|order| blocked.contains(&order)) {
                Some(("behind", "an earlier event of the order is deferred".to_owned()))
            } else {
                add_order(&mut batch, envelope).err().map(|error| ("poison", error))
            };
            if let Some((reason, detail)) = reason {
                blocked.extend(order);
                deferred.push(DeferredEvent { envelope: envelope.clone(), reason, detail });
            }
        }
        Ok((batch, deferred))
    }

    async fn early(
        &self,
        tx: &mut SliceTransaction<'_>,
        submitted: &[Uuid],
    ) -> Result<HashMap<OrderId, Vec<Sighting>>, StoreError> {
        if submitted.is_empty() {
            return Ok(HashMap::new());
        }
        let mut early: HashMap<OrderId, Vec<Sighting>> = HashMap::new();
        for row in tx.early_evidence(submitted).await? {
            let Ok(broker_order_id) = BrokerOrderId::new(row.broker_order_id) else { continue };
            let observed =
                ObservedOrder { broker_order_id, status: row.order_status, cumulative_quantity: row.cumulative };
            let sighting = Sighting { broker: row.broker, symbol: row.symbol, side: row.side, observed };
            early.entry(OrderId::new(row.order_id)).or_default().push(sighting);
        }
        Ok(early)
    }

    async fn apply_evidence(&self, mut tx: SliceTransaction<'_>, work: &Work<'_>) -> Result<usize, StoreError> {
        let mut deferred = Vec::new();
        let mut ours: Vec<(Uuid, OrderId, BrokerEvent)> = Vec::new();
        for envelope in work.events.iter().copied() {
            match BrokerEvent::decode(envelope) {
                Ok(event) => ours.extend(event.order_id.map(|order| (envelope.id.as_uuid(), order, event))),
                Err(error) => deferred.push(DeferredEvent {
                    envelope: envelope.clone(),
                    reason: "poison",
                    detail: error.to_string(),
                }),
            }
        }
        tx.defer(&deferred).await?;
        let ids: BTreeSet<Uuid> = ours.iter().map(|(_, order, _)| order.as_uuid()).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let known = known_or_met(&mut tx, &ids).await?;
        let mut relevant: HashMap<OrderId, Vec<BrokerEvent>> = HashMap::new();
        let mut kept: Vec<(Uuid, OrderId, &BrokerEvent, &'static str)> = Vec::new();
        for (event_id, order, event) in &ours {
            let effect = effect(known.get(&order.as_uuid()), event);
            if effect != Effect::None {
                kept.extend(effect.to_store().map(|word| (*event_id, *order, event, word)));
            }
            if matches!(effect, Effect::Alive | Effect::Closes) {
                relevant.entry(*order).or_default().push(event.clone());
            }
        }
        tx.insert_evidence(&kept).await?;
        let touched: BTreeSet<Uuid> = relevant.keys().map(|order| order.as_uuid()).collect();
        let mut touched: Vec<Uuid> = touched.into_iter().collect();
        tx.lock(&touched).await?;
        let closed = tx.close(&plain_closes(&relevant, &known)).await?;
        touched.retain(|order| !closed.contains(order));
        let (now, loaded) = tx.load(&touched).await?;
        let changes = apply_evidence(&self.rules, trusted(now), loaded, &relevant, || self.jitter());
        let done = finish(tx, work, &deferred, now, &changes).await?;
        count_deferred(work.producer, &deferred);
        if changes.iter().any(|change| change.request.due.is_some()) {
            self.wake.notify_one();
        }
        Ok(done)
    }

    fn jitter(&self) -> Jitter {
        Jitter(self.jitter.permille())
    }
}

/// The requests that are here. Before an order counts as unknown, its bucket is locked and it is
/// looked for once more, so that its order and this evidence never miss each other.
async fn known_or_met(
    tx: &mut SliceTransaction<'_>,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, (String, Option<String>)>, StoreError> {
    let mut known = tx.known(ids).await?;
    let missing: Vec<Uuid> = ids.iter().filter(|id| !known.contains_key(*id)).copied().collect();
    if !missing.is_empty() {
        tx.meet(&missing, Meeting::Evidence).await?;
        known.extend(tx.known(&missing).await?);
    }
    Ok(known)
}

/// What an event does to its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing that is not known.
    None,
    /// It shows an order that was not known to live, or another broker order.
    Alive,
    /// It ends an order that is known to live.
    Closes,
    /// Its order is not here.
    Unknown,
}

impl Effect {
    /// The word under which it is kept as evidence; a plain end needs no evidence of ours.
    const fn to_store(self) -> Option<&'static str> {
        match self {
            Self::Alive => Some("alive"),
            Self::Unknown => Some("order unknown"),
            Self::None | Self::Closes => None,
        }
    }
}

fn effect(known: Option<&(String, Option<String>)>, event: &BrokerEvent) -> Effect {
    let Some((state, broker_order_id)) = known else { return Effect::Unknown };
    let is_known = broker_order_id.as_deref() == Some(event.broker_order_id.as_str());
    match state.as_str() {
        "closed" if is_known => Effect::None,
        "live" if is_known && !is_terminal(event) => Effect::None,
        "live" if is_known => Effect::Closes,
        _ => Effect::Alive,
    }
}

/// Orders whose only news is their end.
fn plain_closes<'a>(
    relevant: &'a HashMap<OrderId, Vec<BrokerEvent>>,
    known: &HashMap<Uuid, (String, Option<String>)>,
) -> Vec<(Uuid, &'a BrokerEvent)> {
    relevant
        .iter()
        .filter_map(|(order, events)| {
            let of_known = known.get(&order.as_uuid());
            let last = events.last()?;
            events.iter().all(|event| effect(of_known, event) == Effect::Closes).then_some((order.as_uuid(), last))
        })
        .collect()
}

/// Evidence and wishes plan no resend by themselves: the lane tests the clock when it claims.
const fn trusted(at: OffsetDateTime) -> Now {
    Now { at, is_trusted: true }
}

fn add_order(batch: &mut OrdersBatch, envelope: &Envelope) -> Result<(), String> {
    let event = OrdersEvent::decode(envelope).map_err(|error| error.to_string())?;
    let _step = platform::trace::inner("order.intake", event.order_id());
    tracing::debug!(target: ORDERS, order_id = %event.order_id(), account_id = envelope.account_id.map(display),
        event_id = %envelope.id, event_type = envelope.kind, "event taken in");
    batch.add(event, envelope.partition, envelope.traceparent.clone()).map_err(|error| error.to_string())
}

/// Commits, and answers how many events have taken effect.
async fn finish(
    tx: SliceTransaction<'_>,
    work: &Work<'_>,
    deferred: &[DeferredEvent],
    now: OffsetDateTime,
    changes: &[Change],
) -> Result<usize, StoreError> {
    let place = |event: &Envelope| (event.partition, event.seq);
    let waits: BTreeSet<_> = deferred.iter().map(|event| place(&event.envelope)).collect();
    let done = work.events.iter().filter(|event| !waits.contains(&place(event)));
    let done: Vec<i64> = done.map(|event| event.seq).collect();
    match work.waiting {
        None => tx.finish(now, changes).await?,
        Some(partition) => tx.finish_waiting(work.producer, partition, &done, now, changes).await?,
    }
    metrics::counter!("gateway_intake_events_total", "producer" => work.producer.as_str()).increment(done.len() as u64);
    Ok(done.len())
}

/// Turns a panic into an error: it is taken apart like data that the database refuses, until the one
/// event stands alone and is set aside. Offered again as it is, it would hold up its partition for ever.
async fn caught<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(_) => {
            metrics::counter!("gateway_intake_panics_total").increment(1);
            Err(StoreError::refused("intake", "our code panicked over the event"))
        }
    }
}

fn count_deferred(producer: Producer, deferred: &[DeferredEvent]) {
    for event in deferred {
        metrics::counter!("gateway_deferred_events_total", "producer" => producer.as_str(), "reason" => event.reason)
            .increment(1);
        tracing::error!(event_id = %event.envelope.id, order_id = event.envelope.order_id.map(display),
            account_id = event.envelope.account_id.map(display), seq = event.envelope.seq, partition = %event.envelope.partition,
            reason = event.reason, detail = %event.detail, "event deferred");
    }
}

impl<J: JitterSource> Sink for Intake<J> {
    async fn positions(&self, producer: Producer) -> Result<BTreeMap<Partition, Position>, SinkError> {
        applied::positions(self.store.pool(), producer).await.map_err(SinkError::new)
    }

    async fn apply(&self, slice: Slice) -> Result<SliceOutcome, SinkError> {
        let gather = if slice.producer == Producer::OrderCore { &self.orders } else { &self.evidence };
        let mut answer = gather.join(slice);
        // What was read at the same time joins first.
        tokio::task::yield_now().await;
        loop {
            // Whoever has the turn works for all that wait, this slice among them.
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(SinkError::new)?,
                mut pace = gather.turn() => match answer.try_recv() {
                    Ok(answer) => return answer,
                    Err(_) => {
                        pace.wait().await;
                        let _slot = self.slots.acquire().await.map_err(SinkError::new)?;
                        let (began, group) = (Instant::now(), gather.take());
                        let events = group.iter().map(|waiting| waiting.slice.events.len()).sum();
                        self.apply_group(group).await;
                        pace.worked(began, events);
                    }
                },
            }
        }
    }
}
