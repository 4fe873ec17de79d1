//! From understood events to facts, contradictions and log entries, inside one transaction.

use super::cumulative::{self, Derived};
use super::error::sorted_log;
use super::facts::{self, Recorded};
use super::orders::{self, Settlement};
use super::parked;
use crate::application::ports::{StoreError, Stored};
use crate::domain::binding::Binding;
use crate::domain::identity::completed_event_id;
use crate::domain::reading::{BrokerProfile, Poison, RawFrame, ReadEvent, Reading, read_frame};
use contracts::event::{BrokerEvent, Producer};
use contracts::ids::EventId;
use platform::eventlog::{self, NewEvent};
use platform::telemetry::ORDERS;
use sqlx::PgConnection;
use std::borrow::Cow;
use time::OffsetDateTime;

/// An event whose bytes are new.
#[derive(Debug)]
pub(super) struct Fresh<'a> {
    pub(super) read: &'a ReadEvent,
    pub(super) raw: &'a RawFrame,
    pub(super) position: Option<String>,
}

impl<'a> Fresh<'a> {
    pub(super) const fn new(read: &'a ReadEvent, raw: &'a RawFrame, position: Option<String>) -> Self {
        Self { read, raw, position }
    }
}

/// An event with the binding of its broker order.
#[derive(Debug)]
pub(super) struct Bound<'a> {
    pub(super) fresh: Fresh<'a>,
    pub(super) binding: Binding,
}

/// A frame to park.
#[derive(Debug)]
pub(super) struct ToPark<'a> {
    pub(super) raw: &'a RawFrame,
    pub(super) position: Option<String>,
    pub(super) poison: Poison,
}

/// A contradiction to record.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) reason: &'static str,
    pub(super) broker_order_id: String,
    pub(super) event_id: EventId,
    pub(super) known: String,
    pub(super) seen: String,
    pub(super) sha256: [u8; 32],
}

/// What one transaction is going to write.
pub(super) struct Writing<'a> {
    pub(super) profile: &'a BrokerProfile,
    pub(super) now: OffsetDateTime,
    /// In order of arrival.
    pub(super) events: Vec<Fresh<'a>>,
    parked: Vec<ToPark<'a>>,
    suspects: Vec<Suspect>,
    log: Vec<NewEvent>,
}

impl<'a> Writing<'a> {
    pub(super) const fn new(profile: &'a BrokerProfile, now: OffsetDateTime) -> Self {
        Self { profile, now, events: Vec::new(), parked: Vec::new(), suspects: Vec::new(), log: Vec::new() }
    }

    pub(super) fn park(&mut self, raw: &'a RawFrame, position: Option<String>, poison: Poison) {
        self.parked.push(ToPark { raw, position, poison });
    }

    /// Writes everything. The log comes last: the head rows that it locks are what others wait for.
    pub(super) async fn write(mut self, conn: &mut PgConnection, stored: &mut Stored) -> Result<(), StoreError> {
        let events = std::mem::take(&mut self.events);
        if !events.is_empty() {
            self.write_events(conn, events, stored).await?;
        }
        stored.parked += parked::insert(conn, self.profile, &self.parked, self.now).await?;
        let suspects = facts::insert_suspects(conn, self.profile, &self.suspects, self.now).await?;
        stored.terms_differ += suspects.iter().filter(|reason| *reason == "terms_differ").count() as u64;
        stored.envelopes = eventlog::append(conn, Producer::FillReceiver, self.log).await.map_err(sorted_log)?;
        Ok(())
    }

    /// Writes a parked event that is understood now; its bytes are stored. Answers why it still
    /// cannot be, and then nothing may be committed.
    pub(super) async fn write_redriven(
        mut self,
        conn: &mut PgConnection,
        stored: &mut Stored,
    ) -> Result<Option<Poison>, StoreError> {
        let events = std::mem::take(&mut self.events);
        self.write_events(conn, events, stored).await?;
        if let Some(parked) = self.parked.pop() {
            return Ok(Some(parked.poison));
        }
        self.write(conn, stored).await?;
        Ok(None)
    }

    async fn write_events(
        &mut self,
        conn: &mut PgConnection,
        events: Vec<Fresh<'a>>,
        stored: &mut Stored,
    ) -> Result<(), StoreError> {
        let Settlement { mut bindings, completed, second_orders } =
            orders::settle(conn, self.profile, &events, self.now).await?;
        stored.second_orders += second_orders.len() as u64;
        self.suspects.extend(second_orders);
        let mut bound = Vec::with_capacity(events.len());
        for fresh in events {
            let event = &fresh.read.event;
            let id = &event.broker_order_id;
            let shown = Binding::of(&self.profile.broker, id, event.broker_client_order_id.as_deref());
            let binding = bindings.get_mut(id).ok_or_else(|| StoreError::Corrupt(format!("no binding of {id}")))?;
            match binding.absorb(&shown) {
                Ok(_) => bound.push(Bound { binding: binding.clone(), fresh }),
                Err(poison) => self.park(fresh.raw, fresh.position, poison),
            }
        }
        self.log_completed(conn, &completed, stored).await?;
        let derived = self.derive_fills(conn, &bound).await?;
        let bound = with_derived(bound, &derived);
        let Recorded { inserted, repeated, suspects } = facts::record(conn, self.profile, &bound, self.now).await?;
        stored.inserted += inserted.len() as u64;
        stored.repeated += repeated;
        self.suspects.extend(suspects);
        for event in bound {
            // Of two frames of one fact in a batch, the first is the one that was inserted.
            let Bound { fresh, binding } = event;
            if inserted.get(&fresh.read.event_id) == Some(&fresh.raw.sha256()) {
                self.append(fresh.read.event_id, &binding, &fresh.read.event)?;
            }
        }
        Ok(())
    }

    /// The fills that the increases of cumulative figures are, by the place of the event that showed them.
    async fn derive_fills(
        &mut self,
        conn: &mut PgConnection,
        bound: &[Bound<'a>],
    ) -> Result<Vec<(usize, Reading)>, StoreError> {
        let shown: Vec<&Fresh<'a>> = bound.iter().map(|event| &event.fresh).collect();
        let Derived { fills, suspects, poison } = cumulative::derive(conn, self.profile, &shown, self.now).await?;
        self.suspects.extend(suspects);
        for (place, poison) in poison {
            if let Some(fresh) = shown.get(place) {
                self.park(fresh.raw, fresh.position.clone(), poison);
            }
        }
        Ok(fills)
    }

    /// Orders that turned out to be ours: what was logged without them is logged again with them.
    async fn log_completed(
        &mut self,
        conn: &mut PgConnection,
        completed: &[(String, Binding)],
        stored: &mut Stored,
    ) -> Result<(), StoreError> {
        for (broker_order_id, binding) in completed {
            let Some(order_id) = binding.order_id else { continue };
            for orphan in facts::adopt_orphans(conn, self.profile, broker_order_id, order_id).await? {
                match read_frame(self.profile, RawFrame::new(orphan.body)).outcome {
                    Ok(read) => {
                        self.append(completed_event_id(orphan.event_id, order_id), binding, &read.event)?;
                        stored.completed += 1;
                    }
                    // The bytes were an event once: only another version of this program refuses them.
                    Err(poison) => tracing::error!(
                        event_id = %orphan.event_id,
                        detail = poison.detail,
                        "stored bytes of an orphan can no longer be read; it stays without its order"
                    ),
                }
            }
        }
        Ok(())
    }

    /// Logs an event with what is known about its order from other events.
    fn append(&mut self, id: EventId, binding: &Binding, event: &BrokerEvent) -> Result<(), StoreError> {
        let event = completed(event, binding);
        let new = NewEvent::of(id, binding.partition, None, binding.order_id, self.now, &*event).map_err(sorted_log)?;
        if let Some(mut step) = binding.order_id.and_then(|order| platform::trace::inner("broker.event", order)) {
            step.note("event_id", id);
        }
        tracing::debug!(target: ORDERS, order_id = binding.order_id.map(display), broker_order_id = %event.broker_order_id,
            broker_key = binding.client_order_id, event_id = %id, event_type = new.kind, "broker event logged");
        self.log.push(new);
        Ok(())
    }
}

/// Each derived fill in front of the event that showed it.
fn with_derived<'b>(bound: Vec<Bound<'b>>, derived: &'b [(usize, Reading)]) -> Vec<Bound<'b>> {
    let mut all = Vec::with_capacity(bound.len() + derived.len());
    for (place, event) in bound.into_iter().enumerate() {
        for (_, reading) in derived.iter().filter(|(of, _)| *of == place) {
            if let Ok(read) = &reading.outcome {
                let position = event.fresh.position.clone();
                all.push(Bound { binding: event.binding.clone(), fresh: Fresh::new(read, &reading.raw, position) });
            }
        }
        all.push(event);
    }
    all
}

fn completed<'e>(event: &'e BrokerEvent, binding: &Binding) -> Cow<'e, BrokerEvent> {
    if event.order_id == binding.order_id && event.broker_client_order_id == binding.client_order_id {
        return Cow::Borrowed(event);
    }
    let mut event = event.clone();
    event.order_id = binding.order_id;
    event.broker_client_order_id.clone_from(&binding.client_order_id);
    Cow::Owned(event)
}
