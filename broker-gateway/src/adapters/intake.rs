//! The two logs that the gateway reads: the order server's, for work, and the fill receiver's, for
//! evidence. Rows, effects and the applied position are one transaction.

use super::db::{DeferredEvent, Meeting, PgStore, SliceStart, SliceTransaction};
use crate::application::alarm::{self, Alarm};
use crate::application::chain::Chain;
use crate::application::change::Change;
use crate::application::intake::{OrdersBatch, Sighting, apply_evidence, apply_wishes, is_terminal};
use crate::application::ports::{JitterSource, StoreError};
use crate::application::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use contracts::event::{BrokerEvent, Envelope, ObservedOrder, OrdersEvent, Payload, Producer};
use contracts::{BrokerOrderId, OrderId, Partition};
use platform::applied;
use platform::consumer::{Sink, SinkError, Slice, SliceOutcome};
use platform::eventlog::Position;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// Takes slices of both logs into the store and wakes the lane.
pub struct Intake<J> {
    store: PgStore,
    rules: Arc<Rules>,
    jitter: J,
    wake: Arc<Notify>,
    /// Leaves connections to the lane, however many slices come at once.
    slots: Semaphore,
}

impl<J: JitterSource> Intake<J> {
    /// An intake that wakes the lane after each commit that may have made work, and has at most
    /// `slices_max` transactions open.
    pub fn new(store: PgStore, rules: Arc<Rules>, jitter: J, wake: Arc<Notify>, slices_max: u32) -> Self {
        let slots = Semaphore::new(usize::try_from(slices_max).unwrap_or(1));
        Self { store, rules, jitter, wake, slots }
    }

    async fn try_apply(&self, slice: &Slice) -> Result<SliceOutcome, StoreError> {
        match self.store.begin_slice(slice).await? {
            SliceStart::Moved => Ok(SliceOutcome::Moved),
            SliceStart::Won(tx) => match slice.producer {
                Producer::OrderCore => self.apply_orders(tx, slice).await,
                Producer::FillReceiver => self.apply_evidence(tx, slice).await,
                Producer::BrokerGateway => finish(tx, slice, OffsetDateTime::UNIX_EPOCH, &[]).await,
            },
        }
    }

    async fn apply_orders(&self, mut tx: SliceTransaction<'_>, slice: &Slice) -> Result<SliceOutcome, StoreError> {
        let (batch, deferred) = self.sort_orders(&mut tx, slice).await?;
        tx.defer(&deferred).await?;
        let submitted: Vec<Uuid> = batch.submits.iter().map(|new| new.order_id.as_uuid()).collect();
        tx.meet(&submitted, Meeting::Order).await?;
        let others = tx.insert(&self.rules.profile.broker, &batch.submits).await?;
        let early = self.early(&mut tx, &submitted).await?;
        let touched: BTreeSet<Uuid> = batch.wishes.keys().chain(early.keys()).map(|id| id.as_uuid()).collect();
        let touched: Vec<Uuid> = touched.into_iter().collect();
        tx.lock(&touched).await?;
        let (now, loaded) = tx.load(&touched).await?;
        let known: BTreeSet<Uuid> = loaded.iter().map(|(request, _)| request.order_id.as_uuid()).collect();
        let changes = apply_wishes(&self.rules, trusted(now), loaded, &batch.wishes, &early, || self.jitter());
        let outcome = finish(tx, slice, now, &changes).await?;
        for order_id in others {
            alarm::raise(order_id, &[Alarm::OtherContent]);
        }
        for id in touched.iter().filter(|id| !known.contains(id)) {
            alarm::raise(OrderId::new(*id), &[Alarm::UnknownOrder]);
        }
        count_deferred(slice.producer, &deferred);
        self.wake.notify_one();
        Ok(outcome)
    }

    async fn sort_orders(
        &self,
        tx: &mut SliceTransaction<'_>,
        slice: &Slice,
    ) -> Result<(OrdersBatch, Vec<DeferredEvent>), StoreError> {
        let orders: Vec<Uuid> = slice.events.iter().filter_map(|e| e.order_id).map(OrderId::as_uuid).collect();
        let mut blocked = tx.blocked(slice.producer, &orders).await?;
        let mut batch = OrdersBatch::default();
        let mut deferred = Vec::new();
        for envelope in &slice.events {
            let order = envelope.order_id.map(OrderId::as_uuid);
            let reason = if order.is_some_and(|order| blocked.contains(&order)) {
                Some(("behind", "an earlier event of the order is deferred".to_owned()))
            } else {
                add_order(&mut batch, envelope, slice.partition).err().map(|error| ("poison", error))
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

    async fn apply_evidence(&self, mut tx: SliceTransaction<'_>, slice: &Slice) -> Result<SliceOutcome, StoreError> {
        let mut deferred = Vec::new();
        let mut ours: Vec<(Uuid, OrderId, BrokerEvent)> = Vec::new();
        for envelope in &slice.events {
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
        let outcome = finish(tx, slice, now, &changes).await?;
        count_deferred(slice.producer, &deferred);
        if changes.iter().any(|change| change.request.due.is_some()) {
            self.wake.notify_one();
        }
        Ok(outcome)
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

fn add_order(batch: &mut OrdersBatch, envelope: &Envelope, partition: Partition) -> Result<(), String> {
    let event = OrdersEvent::decode(envelope).map_err(|error| error.to_string())?;
    let _step = platform::trace::inner("order.intake", event.order_id());
    batch.add(event, partition, envelope.traceparent.clone()).map_err(|error| error.to_string())
}

async fn finish(
    tx: SliceTransaction<'_>,
    slice: &Slice,
    now: OffsetDateTime,
    changes: &[Change],
) -> Result<SliceOutcome, StoreError> {
    let end = slice.end();
    tx.finish(slice, end, now, changes).await?;
    metrics::counter!("gateway_intake_events_total", "producer" => slice.producer.as_str())
        .increment(slice.events.len() as u64);
    Ok(SliceOutcome::Applied(end))
}

fn count_deferred(producer: Producer, deferred: &[DeferredEvent]) {
    for event in deferred {
        metrics::counter!("gateway_deferred_events_total", "producer" => producer.as_str(), "reason" => event.reason)
            .increment(1);
        tracing::error!(event.id = %event.envelope.id, seq = event.envelope.seq, partition = %event.envelope.partition,
            reason = event.reason, detail = %event.detail, "event deferred");
    }
}

/// Whether the values themselves are at fault, so that trying again cannot help.
fn is_data_fault(error: &StoreError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if inner.downcast_ref::<sqlx::Error>().is_some_and(super::db::is_data_error) {
            return true;
        }
        source = inner.source();
    }
    false
}

impl<J: JitterSource> Sink for Intake<J> {
    async fn positions(&self, producer: Producer) -> Result<BTreeMap<Partition, Position>, SinkError> {
        applied::positions(self.store.pool(), producer).await.map_err(SinkError::new)
    }

    async fn apply(&self, slice: Slice) -> Result<SliceOutcome, SinkError> {
        let _slot = self.slots.acquire().await.map_err(SinkError::new)?;
        let error = match self.try_apply(&slice).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) if is_data_fault(&error) => error,
            Err(error) => {
                tracing::warn!(producer = %slice.producer, partition = %slice.partition, events = slice.events.len(),
                    error = %Chain(&error), "a slice could not be applied");
                return Err(SinkError::new(error));
            }
        };
        // One event spoils the batch: take the first alone; if it is the one, put it aside.
        let Some(first) = slice.events.first().cloned() else { return Err(SinkError::new(error)) };
        let alone =
            Slice::new(slice.producer, slice.partition, slice.after, vec![first.clone()]).map_err(SinkError::new)?;
        match self.try_apply(&alone).await {
            Ok(outcome) => Ok(outcome),
            Err(error) if is_data_fault(&error) => {
                let detail = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                let deferred = [DeferredEvent { envelope: first, reason: "poison", detail }];
                match self.store.begin_slice(&alone).await.map_err(SinkError::new)? {
                    SliceStart::Moved => Ok(SliceOutcome::Moved),
                    SliceStart::Won(mut tx) => {
                        tx.defer(&deferred).await.map_err(SinkError::new)?;
                        let outcome = finish(tx, &alone, OffsetDateTime::UNIX_EPOCH, &[]).await;
                        count_deferred(alone.producer, &deferred);
                        outcome.map_err(SinkError::new)
                    }
                }
            }
            Err(error) => Err(SinkError::new(error)),
        }
    }
}
