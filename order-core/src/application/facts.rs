//! Applying what the gateway and the brokers told: slices of partitions of their logs, as many as wait,
//! in one transaction with the positions in those logs. Delivery is at least once, the effect exactly once.

use super::books::Books;
use super::store::{
    DeferReason, Deferred, LockMode, LogPartition, LogPosition, Plan, Store, StoreError, Transaction, Wants,
};
use crate::domain::hold::Charges;
use contracts::event::{BrokerEvent, Envelope, GatewayEvent, Payload, Producer};
use contracts::{AccountId, BrokerId, BrokerOrderId, OrderId, Partition, Symbol};
use futures_util::FutureExt;
use platform::telemetry::ORDERS;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use time::OffsetDateTime;

/// Most waiting events that are tried again in one transaction.
const REDRIVE_LEN_MAX: i64 = 200;

/// A contiguous run of events of one partition.
#[derive(Debug, Clone)]
pub struct FactSlice {
    /// Whose log.
    pub producer: Producer,
    /// Which partition.
    pub partition: Partition,
    /// The position before the first event.
    pub after: LogPosition,
    /// The events.
    pub events: Vec<Envelope>,
}

impl FactSlice {
    /// What of which log it is.
    #[must_use]
    pub const fn log(&self) -> LogPartition {
        (self.producer, self.partition)
    }

    fn end(&self) -> LogPosition {
        self.events.last().map_or(self.after, |last| LogPosition { seq: last.seq, event_id: Some(last.id) })
    }
}

/// What became of a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceResult {
    /// It has taken effect, up to here.
    Applied(LogPosition),
    /// Another copy holds or moved the position.
    Moved,
}

/// Where each slice of a transaction ends that took effect; the others are held or moved by another copy.
type Ends = BTreeMap<LogPartition, LogPosition>;

fn result(ends: &Ends, slice: &FactSlice) -> SliceResult {
    ends.get(&slice.log()).map_or(SliceResult::Moved, |end| SliceResult::Applied(*end))
}

fn ours<'a>(slices: &'a [FactSlice], ends: &Ends) -> impl Iterator<Item = &'a FactSlice> {
    slices.iter().filter(|slice| ends.contains_key(&slice.log()))
}

enum Decoded {
    Gateway(GatewayEvent),
    Broker(BrokerEvent),
}

/// An event on its way to its order.
struct Fact {
    envelope: Envelope,
    decoded: Result<Decoded, String>,
    order_id: Option<OrderId>,
    account_id: Option<AccountId>,
}

impl Fact {
    fn new(envelope: Envelope) -> Self {
        let decoded = match envelope.producer {
            Producer::BrokerGateway => GatewayEvent::decode(&envelope).map(Decoded::Gateway),
            Producer::FillReceiver | Producer::OrderCore => BrokerEvent::decode(&envelope).map(Decoded::Broker),
        };
        let decoded = decoded.map_err(|error| error.to_string());
        let order_id = match &decoded {
            Ok(Decoded::Gateway(event)) => Some(event.order_id()),
            Ok(Decoded::Broker(event)) => event.order_id,
            Err(_) => envelope.order_id,
        };
        Self { account_id: envelope.account_id, envelope, decoded, order_id }
    }

    fn broker_order(&self) -> Option<(BrokerId, BrokerOrderId)> {
        match &self.decoded {
            Ok(Decoded::Broker(event)) => Some((event.broker.clone(), event.broker_order_id.clone())),
            Ok(Decoded::Gateway(
                GatewayEvent::Acknowledged { broker, observed, .. } | GatewayEvent::Observed { broker, observed, .. },
            )) => Some((broker.clone(), observed.broker_order_id.clone())),
            Ok(Decoded::Gateway(_)) | Err(_) => None,
        }
    }

    fn waits(self, reason: DeferReason, detail: impl Into<String>) -> Deferred {
        Deferred {
            account_id: self.account_id,
            order_id: self.order_id,
            reason,
            detail: detail.into(),
            envelope: self.envelope,
        }
    }
}

/// What a run of events comes to.
#[derive(Default)]
struct Outcome {
    plans: Vec<Plan>,
    deferred: Vec<Deferred>,
    orphans: Vec<(BrokerId, BrokerOrderId, Envelope)>,
}

/// Applies slices and waiting events.
#[derive(Debug)]
pub struct FactApplier<S> {
    /// The database.
    pub store: std::sync::Arc<S>,
    /// What we charge.
    pub charges: Charges,
}

impl<S: Store> FactApplier<S> {
    /// Applies a slice. Data that the database refuses is narrowed down to the one event, which is
    /// then parked; its neighbours take effect.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed: the same slice is tried again for ever.
    pub async fn apply(&self, slice: &FactSlice, now: OffsetDateTime) -> Result<SliceResult, StoreError> {
        match self.apply_once(std::slice::from_ref(slice), now, false).await {
            Err(error) if error.is_deterministic() => {}
            other => return Ok(result(&other?, slice)),
        }
        let mut at = slice.after;
        for event in &slice.events {
            let single = FactSlice {
                producer: slice.producer,
                partition: slice.partition,
                after: at,
                events: vec![event.clone()],
            };
            let alone = std::slice::from_ref(&single);
            let ends = match self.apply_once(alone, now, false).await {
                Err(error) if error.is_deterministic() => {
                    tracing::error!(event_id = %event.id, error = %platform::telemetry::Chain(&error), "an event cannot take effect");
                    self.apply_once(alone, now, true).await?
                }
                other => other?,
            };
            match result(&ends, &single) {
                SliceResult::Applied(next) => at = next,
                SliceResult::Moved => return Ok(SliceResult::Moved),
            }
        }
        Ok(SliceResult::Applied(at))
    }

    /// Applies slices of different logs or partitions in one transaction: it costs about as much for
    /// many as for one. Where one of them spoils it, each goes alone. Answers in their order.
    pub async fn apply_together(
        &self,
        slices: &[FactSlice],
        now: OffsetDateTime,
    ) -> Vec<Result<SliceResult, StoreError>> {
        if slices.len() > 1 {
            match self.apply_once(slices, now, false).await {
                Ok(ends) => return slices.iter().map(|slice| Ok(result(&ends, slice))).collect(),
                Err(error) => {
                    tracing::warn!(slices = slices.len(), error = %platform::telemetry::Chain(&error), "slices go one by one")
                }
            }
        }
        let mut results = Vec::with_capacity(slices.len());
        for slice in slices {
            results.push(self.apply(slice, now).await);
        }
        results
    }

    async fn apply_once(&self, slices: &[FactSlice], now: OffsetDateTime, park: bool) -> Result<Ends, StoreError> {
        let mut tx = self.store.begin().await?;
        let (ends, outcome) = match caught(self.write_slices(&mut tx, slices, now, park)).await {
            Ok(Some(written)) => written,
            Ok(None) => {
                tx.rollback().await;
                return Ok(Ends::new());
            }
            Err(error) => {
                tx.rollback().await;
                return Err(error);
            }
        };
        platform::kill_point!("order-server.before-facts-commit");
        tx.commit(&outcome.plans, now).await?;
        platform::kill_point!("order-server.after-facts-commit");
        count(&outcome.deferred, ours(slices, &ends).map(|slice| slice.events.len()).sum());
        Ok(ends)
    }

    /// Everything of slices but their commit; nothing when no position is ours.
    async fn write_slices(
        &self,
        tx: &mut S::Tx,
        slices: &[FactSlice],
        now: OffsetDateTime,
        park: bool,
    ) -> Result<Option<(Ends, Outcome)>, StoreError> {
        let expected = slices.iter().map(|slice| (slice.log(), slice.after)).collect();
        let won = tx.claim(&expected).await?;
        if won.is_empty() {
            return Ok(None);
        }
        let won = slices.iter().filter(|slice| won.contains(&slice.log()));
        let moves: BTreeMap<_, _> = won.map(|slice| (slice.log(), (slice.after, slice.end()))).collect();
        let ends = moves.iter().map(|(log, (_, to))| (*log, *to)).collect();
        let facts = ours(slices, &ends).flat_map(|slice| &slice.events).cloned().map(Fact::new).collect();
        let outcome = if park { self.park(tx, facts).await? } else { self.work(tx, facts, now, true).await? };
        tx.write(&outcome.plans, now).await?;
        tx.keep_orphans(&outcome.orphans, now).await?;
        tx.defer(&outcome.deferred, now).await?;
        tx.advance(&moves).await?;
        Ok(Some((ends, outcome)))
    }

    /// Parks events together with the account that they are of, as far as that can be found.
    async fn park(&self, tx: &mut S::Tx, facts: Vec<Fact>) -> Result<Outcome, StoreError> {
        let orders: BTreeSet<OrderId> = facts.iter().filter_map(|fact| fact.order_id).collect();
        let owners = tx.owners(&orders).await?;
        let detail = "it was refused by the database, or our code failed over it: the log says which";
        let deferred = facts.into_iter().map(|mut fact| {
            let owner = fact.order_id.and_then(|order| owners.get(&order));
            fact.account_id = owner.map(|(account, _)| *account).or(fact.account_id);
            fact.waits(DeferReason::Poison, detail)
        });
        Ok(Outcome { deferred: deferred.collect(), ..Outcome::default() })
    }

    /// Tries waiting events of some partitions again. Answers whether there may be more that can
    /// take effect now.
    ///
    /// # Errors
    /// [`StoreError`] when the infrastructure failed.
    pub async fn redrive(&self, partitions: &[Partition], now: OffsetDateTime) -> Result<bool, StoreError> {
        match self.redrive_some(partitions, REDRIVE_LEN_MAX, now, false).await {
            Err(error) if error.is_deterministic() => {}
            other => return other,
        }
        // One of them spoils the others: the oldest alone, and if it is that one, it is parked.
        match self.redrive_some(partitions, 1, now, false).await {
            Err(error) if error.is_deterministic() => {
                tracing::error!(error = %platform::telemetry::Chain(&error), "a waiting event cannot take effect");
                self.redrive_some(partitions, 1, now, true).await
            }
            other => other,
        }
    }

    async fn redrive_some(
        &self,
        partitions: &[Partition],
        limit: i64,
        now: OffsetDateTime,
        park: bool,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.begin().await?;
        match caught(self.write_waiting(&mut tx, partitions, limit, now, park)).await {
            Ok(Some((plans, more))) => {
                tx.commit(&plans, now).await?;
                Ok(more)
            }
            Ok(None) => {
                tx.rollback().await;
                Ok(false)
            }
            Err(error) => {
                tx.rollback().await;
                Err(error)
            }
        }
    }

    /// Everything of a try but its commit, and whether there may be more; nothing when none waits.
    async fn write_waiting(
        &self,
        tx: &mut S::Tx,
        partitions: &[Partition],
        limit: i64,
        now: OffsetDateTime,
        park: bool,
    ) -> Result<Option<(Vec<Plan>, bool)>, StoreError> {
        let envelopes = tx.take_deferred(partitions, limit).await?;
        if envelopes.is_empty() {
            return Ok(None);
        }
        let key = |e: &Envelope| (e.producer, e.partition, e.seq);
        let taken: BTreeSet<_> = envelopes.iter().map(key).collect();
        let facts = envelopes.into_iter().map(Fact::new).collect();
        let outcome = if park { self.park(tx, facts).await? } else { self.work(tx, facts, now, false).await? };
        let waits: BTreeSet<_> = outcome.deferred.iter().map(|event| key(&event.envelope)).collect();
        let done: Vec<_> = taken.difference(&waits).copied().collect();
        // Those that were waiting and still do stay as they are. What is new here is parked, or was
        // an orphan until now, and must not be lost when its account is busy.
        let new: Vec<Deferred> = outcome
            .deferred
            .into_iter()
            .filter(|event| event.reason == DeferReason::Poison || !taken.contains(&key(&event.envelope)))
            .collect();
        tx.write(&outcome.plans, now).await?;
        tx.clear_deferred(&done).await?;
        tx.keep_orphans(&outcome.orphans, now).await?;
        tx.defer(&new, now).await?;
        count(&new, 0);
        let more = !done.is_empty() && i64::try_from(taken.len()).is_ok_and(|len| len >= limit);
        Ok(Some((outcome.plans, more)))
    }

    async fn work(
        &self,
        tx: &mut S::Tx,
        mut facts: Vec<Fact>,
        now: OffsetDateTime,
        fresh: bool,
    ) -> Result<Outcome, StoreError> {
        let mut outcome = Outcome::default();
        self.resolve_orders(tx, &mut facts).await?;
        let orders: BTreeSet<OrderId> = facts.iter().filter_map(|fact| fact.order_id).collect();
        let owners = tx.owners(&orders).await?;
        let facts = adopt(facts, &owners, &mut outcome);
        let accounts: BTreeSet<AccountId> = owners.values().map(|(account, _)| *account).collect();
        let locked = tx.lock(&accounts, LockMode::SkipBusy).await?;
        // Read after the lock: an earlier event of the account may have been deferred meanwhile.
        let mut behind = if fresh { tx.with_deferred(&locked).await? } else { BTreeSet::new() };
        let ready: BTreeSet<AccountId> = locked.difference(&behind).copied().collect();
        let snapshot = tx.load(&wants(&facts, &owners, &ready)).await?;
        let mut books = Books::open(snapshot, self.charges, now);
        for fact in facts {
            let Some(account) = fact.account_id else { continue };
            if behind.contains(&account) {
                outcome.deferred.push(fact.waits(DeferReason::Behind, ""));
            } else if !locked.contains(&account) {
                outcome.deferred.push(fact.waits(DeferReason::Busy, ""));
                behind.insert(account);
            } else if let Err(detail) = apply_to(&mut books, &fact) {
                tracing::error!(event_id = %fact.envelope.id, order_id = fact.order_id.map(display), account_id = %account,
                    detail, "an event is parked");
                outcome.deferred.push(fact.waits(DeferReason::Poison, detail));
                behind.insert(account);
            }
        }
        outcome.plans = books.close();
        Ok(outcome)
    }

    /// Finds the order of events that do not name it, and the events that waited for a name.
    async fn resolve_orders(&self, tx: &mut S::Tx, facts: &mut Vec<Fact>) -> Result<(), StoreError> {
        let mut named: BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>> = BTreeMap::new();
        for fact in facts.iter() {
            // A broker event that names its order needs no row; a reply binds the broker's id.
            let reply = matches!(fact.decoded, Ok(Decoded::Gateway(_)));
            if let (Some(key), true) = (fact.broker_order(), reply || fact.order_id.is_none()) {
                let entry = named.entry(key).or_default();
                *entry = entry.or(fact.order_id.filter(|_| reply));
            }
        }
        if named.is_empty() {
            return Ok(());
        }
        let known = tx.bind_broker_orders(&named).await?;
        for fact in facts.iter_mut().filter(|fact| fact.order_id.is_none()) {
            fact.order_id = fact.broker_order().and_then(|key| known.get(&key).copied());
        }
        let bound: BTreeSet<_> = named.into_iter().filter(|(_, order)| order.is_some()).map(|(key, _)| key).collect();
        for envelope in tx.take_orphans(&bound).await? {
            let mut fact = Fact::new(envelope);
            fact.order_id = fact.broker_order().and_then(|key| known.get(&key).copied()).or(fact.order_id);
            facts.push(fact);
        }
        Ok(())
    }
}

/// Gives each event its account. An event of a broker order that is none of ours is kept as an
/// orphan; one that cannot be understood, or a reply to an order that we do not have, is parked.
fn adopt(facts: Vec<Fact>, owners: &BTreeMap<OrderId, (AccountId, Symbol)>, outcome: &mut Outcome) -> Vec<Fact> {
    let mut adopted = Vec::with_capacity(facts.len());
    for mut fact in facts {
        match (fact.order_id.and_then(|id| owners.get(&id)), &fact.decoded) {
            (Some((account, _)), _) => {
                fact.account_id = Some(*account);
                adopted.push(fact);
            }
            (None, Ok(Decoded::Broker(event))) => {
                let key = (event.broker.clone(), event.broker_order_id.clone());
                outcome.orphans.push((key.0, key.1, fact.envelope));
            }
            (None, Ok(Decoded::Gateway(_))) => {
                let detail = "a reply to an order that is not here";
                tracing::error!(event_id = %fact.envelope.id, order_id = fact.order_id.map(display), detail);
                outcome.deferred.push(fact.waits(DeferReason::Poison, detail));
            }
            (None, Err(detail)) => {
                let detail = detail.clone();
                tracing::error!(event_id = %fact.envelope.id, detail, "an event is parked");
                outcome.deferred.push(fact.waits(DeferReason::Poison, detail));
            }
        }
    }
    adopted
}

fn wants(facts: &[Fact], owners: &BTreeMap<OrderId, (AccountId, Symbol)>, ready: &BTreeSet<AccountId>) -> Wants {
    let mut wants = Wants::default();
    for fact in facts {
        let Some((order_id, (account, symbol))) = fact.order_id.and_then(|id| Some((id, owners.get(&id)?))) else {
            continue;
        };
        if !ready.contains(account) {
            continue;
        }
        wants.accounts.insert(*account);
        wants.positions.insert((*account, symbol.clone()));
        wants.orders.insert(order_id);
        if matches!(fact.decoded, Ok(Decoded::Broker(_))) {
            wants.executions.insert(order_id);
        }
    }
    wants
}

fn apply_to(books: &mut Books, fact: &Fact) -> Result<(), String> {
    let id = fact.envelope.id;
    let mut step = fact.order_id.and_then(|order| platform::trace::inner("order.fact", order));
    if let Some(step) = &mut step {
        step.note("event_id", id);
        step.note("event_type", &fact.envelope.kind);
    }
    let applied = match (&fact.decoded, fact.order_id) {
        (Ok(Decoded::Gateway(event)), _) => books.gateway_event(event, id),
        (Ok(Decoded::Broker(event)), Some(order_id)) => books.broker_event(order_id, event, id),
        (Ok(Decoded::Broker(_)), None) => return Err("no order".to_owned()),
        (Err(detail), _) => return Err(detail.clone()),
    };
    applied.map_err(|error| error.to_string())?;
    if tracing::enabled!(target: ORDERS, tracing::Level::DEBUG)
        && let Some(order) = fact.order_id.and_then(|id| books.order(id))
    {
        tracing::debug!(target: ORDERS, order_id = %order.id, client_order_id = %order.client_order_id,
            account_id = %order.account_id, broker_order_id = order.broker_order_id.as_ref().map(display),
            event_id = %id, event_type = fact.envelope.kind, status = order.status().as_str(), "event applied");
    }
    Ok(())
}

/// Turns a panic into an error: it is taken apart like data that the database refuses, until the one
/// event stands alone and is parked. Left to itself it would end the process, meet the same event
/// after the restart, and end it again. Whatever the panic left half done is rolled back.
async fn caught<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result,
        Err(panic) => {
            metrics::counter!("fact_panics_total").increment(1);
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let detail = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(detail, "applying events panicked");
            Err(StoreError::Defect { what: "apply events", detail })
        }
    }
}

fn count(deferred: &[Deferred], events: usize) {
    metrics::counter!("facts_applied_total").increment(u64::try_from(events).unwrap_or(u64::MAX));
    for event in deferred {
        metrics::counter!("facts_deferred_total", "reason" => event.reason.as_str()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_over_an_event_is_an_error_that_would_come_again() {
        let error = caught(async {
            assert!(std::hint::black_box(false), "index out of bounds");
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert!(error.is_deterministic() && error.to_string().contains("index out of bounds"), "{error}");
        assert_eq!(caught(async { Ok(7) }).await.unwrap(), 7);
    }
}
