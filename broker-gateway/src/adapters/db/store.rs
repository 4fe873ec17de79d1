//! The store of requests on PostgreSQL.

use super::error::is_data_fault;
use super::{load, write};
use crate::application::alarm;
use crate::application::change::Change;
use crate::application::ports::{DatabaseMoment, LaneStore, StoreError};
use crate::application::request::Loaded;
use crate::application::rules::ReviewHold;
use crate::domain::attempt::Attempt;
use contracts::event::{Envelope, Producer};
use contracts::{EventId, OrderId};
use platform::bus::Publisher;
use platform::clock::IdSource;
use platform::eventlog::{self, EventLogError, NewEvent};
use platform::warm::{WarmPool, WarmTransaction};
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

/// Requests, attempts and everything about them. Events go to the log in the same transaction, and
/// to the bus after its commit.
#[derive(Clone)]
pub struct PgStore {
    pool: PgPool,
    /// For what changes requests.
    warm: WarmPool,
    ids: Arc<dyn IdSource>,
    publisher: Option<Publisher>,
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

impl PgStore {
    /// A store on a pool. Without a publisher events are only in the log.
    #[must_use]
    pub fn new(pool: PgPool, ids: Arc<dyn IdSource>, publisher: Option<Publisher>) -> Self {
        Self { warm: WarmPool::over(pool.clone()), pool, ids, publisher }
    }

    /// Lets changes of requests use connections of their own, so that reads never hold them up.
    #[must_use]
    pub fn working_with(self, warm: WarmPool) -> Self {
        Self { warm, ..self }
    }

    /// The pool, for reads that need no transaction.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Begins the work of a process: orders in doubt become due, to be looked up before anything new
    /// of their accounts is sent. Answers the database's time, from which on a lookup counts.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn begin_reviews(&self) -> Result<OffsetDateTime, StoreError> {
        let failed = |source| StoreError::failed("begin reviews", source);
        let mut conn = self.pool.acquire().await.map_err(|source| StoreError::failed("begin reviews", source))?;
        let (began_at, mut is_more) = load::wake_doubts(&mut conn).await.map_err(failed)?;
        while is_more {
            (_, is_more) = load::wake_doubts(&mut conn).await.map_err(failed)?;
        }
        Ok(began_at)
    }

    pub(super) async fn begin(&self, operation: &'static str) -> Result<WarmTransaction, StoreError> {
        self.warm.begin().await.map_err(|source| StoreError::failed(operation, source))
    }

    /// Writes changes and their events, the last thing before the commit.
    pub(super) async fn write(
        &self,
        conn: &mut PgConnection,
        now: OffsetDateTime,
        changes: &[Change],
        operation: &'static str,
    ) -> Result<(), StoreError> {
        write::write(conn, now, changes).await.map_err(|source| StoreError::failed(operation, source))
    }

    /// Appends the events of changes and commits; then tells the bus and raises the alarms.
    pub(super) async fn commit(
        &self,
        mut tx: WarmTransaction,
        now: OffsetDateTime,
        changes: &[Change],
        operation: &'static str,
    ) -> Result<(), StoreError> {
        let envelopes =
            self.append(&mut tx, now, changes).await.map_err(|source| StoreError::failed(operation, source))?;
        tx.commit().await.map_err(|source| StoreError::commit_unknown(operation, source))?;
        if let Some(publisher) = &self.publisher
            && !envelopes.is_empty()
        {
            publisher.committed(envelopes);
        }
        for change in changes {
            let request = &change.request;
            let broker_order = request.broker_order_id.as_ref();
            alarm::raise(request.order_id, Some(request.account_id), broker_order, &change.alarms);
        }
        Ok(())
    }

    async fn append(
        &self,
        conn: &mut PgConnection,
        now: OffsetDateTime,
        changes: &[Change],
    ) -> Result<Vec<Envelope>, EventLogError> {
        let mut events = Vec::new();
        for change in changes {
            let request = &change.request;
            for payload in &change.events {
                let id = EventId::new(self.ids.uuid());
                let (account, order) = (Some(request.account_id), Some(request.order_id));
                let mut event = NewEvent::of(id, request.partition, account, order, now, payload)?;
                if request.traceparent.is_some() {
                    event.traceparent.clone_from(&request.traceparent);
                }
                events.push(event);
            }
        }
        eventlog::append(conn, Producer::BrokerGateway, events).await
    }

    async fn decide_and_commit<F>(
        &self,
        mut tx: WarmTransaction,
        ids: &[Uuid],
        known: HashMap<OrderId, Attempt>,
        decide: F,
        operation: &'static str,
    ) -> Result<u32, StoreError>
    where
        F: FnOnce(DatabaseMoment, Vec<Loaded>) -> Vec<Change> + Send,
    {
        let asked_at = Instant::now();
        let (at, loaded) =
            load::load(&mut tx, ids, known).await.map_err(|source| StoreError::failed(operation, source))?;
        let changes = decide(DatabaseMoment { at, asked_at }, loaded);
        self.write(&mut tx, at, &changes, operation).await?;
        self.commit(tx, at, &changes, operation).await?;
        Ok(u32::try_from(changes.len()).unwrap_or(u32::MAX))
    }
}

impl LaneStore for PgStore {
    async fn claim<F>(&self, limit: u32, hold: Option<ReviewHold>, decide: F) -> Result<u32, StoreError>
    where
        F: FnOnce(DatabaseMoment, Vec<Loaded>) -> Vec<Change> + Send,
    {
        let mut tx = self.begin("claim").await?;
        let ids = load::lock_due(&mut tx, limit, hold).await.map_err(|source| StoreError::failed("claim", source))?;
        if ids.is_empty() {
            tx.rollback().await.map_err(|source| StoreError::failed("claim", source))?;
            return Ok(0);
        }
        self.decide_and_commit(tx, &ids, HashMap::new(), decide, "claim").await
    }

    async fn change<F>(
        &self,
        orders: Vec<OrderId>,
        known: HashMap<OrderId, Attempt>,
        decide: F,
    ) -> Result<(), StoreError>
    where
        F: FnOnce(OffsetDateTime, Vec<Loaded>) -> Vec<Change> + Send,
    {
        let mut tx = self.begin("record").await?;
        let ids: Vec<Uuid> = orders.into_iter().map(OrderId::as_uuid).collect();
        let ids = load::lock(&mut tx, &ids).await.map_err(|source| StoreError::failed("record", source))?;
        match self.decide_and_commit(tx, &ids, known, |now, loaded| decide(now.at, loaded), "record").await {
            Ok(_) => Ok(()),
            // The caller takes it apart.
            Err(error) if is_data_fault(&error) => Err(StoreError::refused("record", error)),
            Err(error) => Err(error),
        }
    }
}
