//! The transaction in which a slice of another process's log takes effect: first the applied
//! position, then the effects, then the events that follow from them.

use super::load::{self, Queue};
use super::store::PgStore;
use super::text::clean;
use super::write;
use crate::application::change::Change;
use crate::application::ports::StoreError;
use crate::application::request::{Loaded, NewRequest, Rank};
use crate::application::rules::ReviewHold;
use crate::domain::state::State;
use contracts::event::{BrokerEvent, Envelope, Producer};
use contracts::{BrokerId, OrderId};
use platform::applied::{self, LogPartition};
use platform::consumer::Slice;
use platform::eventlog::Position;
use platform::warm::WarmTransaction;
use rust_decimal::Decimal;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use time::OffsetDateTime;
use uuid::Uuid;

const OPERATION: &str = "intake";

/// The class of the advisory locks at which orders and their evidence meet. Advisory, since a row
/// lock would be written at every order.
const MEETING_LOCK: i32 = 0x6d65_6574;

/// Few, since locks of a server are few; orders share one without waiting, only evidence of an
/// unknown order has a bucket alone.
const MEETING_BUCKETS: u8 = 64;

/// Who comes to a meeting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meeting {
    /// A transaction that brings orders.
    Order,
    /// One that has evidence of orders that it did not find.
    Evidence,
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::failed(OPERATION, source)
}

/// Where each slice of a transaction begins and ends.
pub(super) type Moves = BTreeMap<LogPartition, (Position, Position)>;

/// An open transaction that holds the applied positions of its slices.
pub struct SliceTransaction<'a> {
    store: &'a PgStore,
    moves: Moves,
    tx: WarmTransaction,
}

/// An event that cannot take effect, for the deferred table.
#[derive(Debug, Clone)]
pub struct DeferredEvent {
    /// The event as it came.
    pub envelope: Envelope,
    /// `poison`, or `behind` an earlier one of the same order.
    pub reason: &'static str,
    /// Why.
    pub detail: String,
}

impl PgStore {
    /// Begins the transaction of slices, of each partition of a log at most one. Those whose position
    /// another copy holds or has moved are not in it; none when nothing is left.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn begin_slices(&self, slices: &[Slice]) -> Result<Option<SliceTransaction<'_>>, StoreError> {
        let log = |slice: &Slice| (slice.producer, slice.partition);
        let mut tx = self.begin(OPERATION).await?;
        let expected = slices.iter().map(|slice| (log(slice), slice.after)).collect();
        let won = applied::claim(&mut tx, &expected).await.map_err(failed)?;
        if won.is_empty() {
            tx.rollback().await.map_err(failed)?;
            return Ok(None);
        }
        let ours = slices.iter().filter(|slice| won.contains(&log(slice)));
        let moves = ours.map(|slice| (log(slice), (slice.after, slice.end()))).collect();
        Ok(Some(SliceTransaction { store: self, moves, tx }))
    }
}

impl<'a> SliceTransaction<'a> {
    pub(super) const fn over(store: &'a PgStore, tx: WarmTransaction) -> Self {
        Self { store, moves: Moves::new(), tx }
    }

    pub(super) fn into_parts(self) -> (&'a PgStore, WarmTransaction) {
        (self.store, self.tx)
    }
}

impl SliceTransaction<'_> {
    /// Where each slice of this transaction ends.
    #[must_use]
    pub fn ends(&self) -> BTreeMap<LogPartition, Position> {
        self.moves.iter().map(|(log, (_, to))| (*log, *to)).collect()
    }

    /// Those of the orders that have an earlier event in the deferred table.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn blocked(&mut self, producer: Producer, orders: &[Uuid]) -> Result<HashSet<Uuid>, StoreError> {
        let rows = sqlx::query_scalar!(
            r#"select distinct order_id as "order_id!" from deferred where producer = $1 and order_id = any($2)"#,
            producer.as_str(),
            orders
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed)?;
        Ok(rows.into_iter().collect())
    }

    /// Makes orders and evidence of the same order meet: the transaction that brings an order and the
    /// one that finds it missing go one after the other, whichever comes first. Until the end of the
    /// transaction; before any request is locked.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn meet(&mut self, orders: &[Uuid], who: Meeting) -> Result<(), StoreError> {
        // Buckets in ascending order, so that nobody waits in a circle.
        let buckets: BTreeSet<i32> = orders.iter().map(|id| i32::from(id.as_bytes()[15] % MEETING_BUCKETS)).collect();
        let buckets: Vec<i32> = buckets.into_iter().collect();
        if buckets.is_empty() {
            return Ok(());
        }
        match who {
            Meeting::Order => {
                sqlx::query!(
                    "select count(pg_advisory_xact_lock_shared($1, bucket)) from unnest($2::int[]) as b (bucket)",
                    MEETING_LOCK,
                    &buckets
                )
                .fetch_one(&mut *self.tx)
                .await
                .map_err(failed)?;
            }
            Meeting::Evidence => {
                sqlx::query!(
                    "select count(pg_advisory_xact_lock($1, bucket)) from unnest($2::int[]) as b (bucket)",
                    MEETING_LOCK,
                    &buckets
                )
                .fetch_one(&mut *self.tx)
                .await
                .map_err(failed)?;
            }
        }
        Ok(())
    }

    /// What keeps new orders of these accounts from being sent straight away, by the lane's own rules.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn queue(&mut self, accounts: &[Uuid], hold: Option<ReviewHold>) -> Result<Queue, StoreError> {
        load::queue(&mut self.tx, accounts, hold).await.map_err(failed)
    }

    /// Inserts new requests: those that are claimed already as their claims say, with their attempts, and all others
    /// due at once. A claim counts only where its request was inserted.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn insert(
        &mut self,
        broker: &BrokerId,
        new: &[NewRequest],
        mut claims: HashMap<OrderId, Change>,
    ) -> Result<Inserted, StoreError> {
        if new.is_empty() {
            return Ok(Inserted::default());
        }
        let ids: Vec<Uuid> = new.iter().map(|r| r.order_id.as_uuid()).collect();
        let hashes: Vec<Vec<u8>> = new.iter().map(|r| r.content_hash().to_vec()).collect();
        let inserted = self.insert_rows(broker, new, &claims, &ids, &hashes).await?;
        claims.retain(|order_id, _| inserted.contains(&order_id.as_uuid()));
        let claimed: Vec<Change> = claims.into_values().collect();
        write::insert_attempts(&mut self.tx, &claimed).await.map_err(failed)?;
        let claimed = claimed.iter().map(|change| change.request.order_id).collect();
        let others = if inserted.len() == new.len() { Vec::new() } else { self.others(&ids, &hashes).await? };
        Ok(Inserted { claimed, others })
    }

    /// Those of the orders that are here with other content.
    async fn others(&mut self, ids: &[Uuid], hashes: &[Vec<u8>]) -> Result<Vec<OrderId>, StoreError> {
        let others = sqlx::query_scalar!(
            "select r.order_id from requests r
             join unnest($1::uuid[], $2::bytea[]) as u (order_id, content_hash) on u.order_id = r.order_id
             where r.content_hash <> u.content_hash",
            ids,
            hashes
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed)?;
        Ok(others.into_iter().map(OrderId::new).collect())
    }

    async fn insert_rows(
        &mut self,
        broker: &BrokerId,
        new: &[NewRequest],
        claims: &HashMap<OrderId, Change>,
        ids: &[Uuid],
        hashes: &[Vec<u8>],
    ) -> Result<HashSet<Uuid>, StoreError> {
        let claimed = |of: &NewRequest| claims.get(&of.order_id).map(|change| &change.request);
        let state = |of: &NewRequest| claimed(of).map_or(State::Queued, |request| request.state).as_str().to_owned();
        let due = |of: &NewRequest| claimed(of).and_then(|request| request.due);
        let cause = |of: &NewRequest| claims.get(&of.order_id).and_then(|change| change.cause.as_deref().map(clean));
        let states: Vec<String> = new.iter().map(state).collect();
        let causes: Vec<Option<String>> = new.iter().map(cause).collect();
        let due_at: Vec<Option<OffsetDateTime>> = new.iter().map(|r| due(r).map(|due| due.at)).collect();
        let ranks: Vec<i16> = new.iter().map(|r| due(r).map_or(Rank::Send, |due| due.rank).number()).collect();
        let attempts: Vec<i32> = new.iter().map(|r| claimed(r).map_or(0, |request| request.attempts)).collect();
        let valid: Vec<Option<OffsetDateTime>> =
            new.iter().map(|r| claimed(r).and_then(|request| request.valid_until)).collect();
        let accounts: Vec<Uuid> = new.iter().map(|r| r.account_id.as_uuid()).collect();
        let partitions: Vec<i16> = new.iter().map(|r| r.broker_key.partition().number()).collect();
        let symbols: Vec<String> = new.iter().map(|r| r.terms.symbol().to_string()).collect();
        let sides: Vec<String> = new.iter().map(|r| r.terms.side().as_str().to_owned()).collect();
        let types: Vec<String> = new.iter().map(|r| r.terms.order_type().as_str().to_owned()).collect();
        let forces: Vec<String> = new.iter().map(|r| r.terms.time_in_force().as_str().to_owned()).collect();
        let quantities: Vec<Decimal> = new.iter().map(|r| r.terms.quantity().value()).collect();
        let limits: Vec<Option<Decimal>> = new.iter().map(|r| r.terms.limit_price().map(|p| p.value())).collect();
        let accepted: Vec<OffsetDateTime> = new.iter().map(|r| r.accepted_at).collect();
        let traces: Vec<Option<String>> = new.iter().map(|r| r.traceparent.as_deref().map(clean)).collect();
        sqlx::query_scalar!(
            "insert into requests (order_id, account_id, partition, broker, content_hash, symbol, side, order_type,
                 time_in_force, quantity, limit_price, accepted_at, traceparent, received_at, state, state_since, cause,
                 due_at, due_rank, attempts, valid_until)
             select order_id, account_id, partition, $1, content_hash, symbol, side, order_type, time_in_force, quantity,
                 limit_price, accepted_at, traceparent, statement_timestamp(), state, statement_timestamp(),
                 coalesce(cause, 'asked for by the order server'), coalesce(due_at, statement_timestamp()), due_rank,
                 attempts, valid_until
             from unnest($2::uuid[], $3::uuid[], $4::smallint[], $5::bytea[], $6::text[], $7::text[], $8::text[],
                 $9::text[], $10::numeric[], $11::numeric[], $12::timestamptz[], $13::text[], $14::text[], $15::text[],
                 $16::timestamptz[], $17::smallint[], $18::int[], $19::timestamptz[])
                 as u (order_id, account_id, partition, content_hash, symbol, side, order_type, time_in_force, quantity,
                 limit_price, accepted_at, traceparent, state, cause, due_at, due_rank, attempts, valid_until)
             on conflict (order_id) do nothing
             returning order_id",
            broker.as_str(),
            ids,
            &accounts,
            &partitions,
            hashes,
            &symbols,
            &sides,
            &types,
            &forces,
            &quantities,
            &limits as &[Option<Decimal>],
            &accepted,
            &traces as &[Option<String>],
            &states,
            &causes as &[Option<String>],
            &due_at as &[Option<OffsetDateTime>],
            &ranks,
            &attempts,
            &valid as &[Option<OffsetDateTime>],
        )
        .fetch_all(&mut *self.tx)
        .await
        .map(|ids| ids.into_iter().collect())
        .map_err(failed)
    }

    /// Which of the orders need a look because of their evidence: those that are not known to live
    /// under the same broker id, and those that come to their end. An order that lives stays so,
    /// therefore the others need no lock.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn known(&mut self, orders: &[Uuid]) -> Result<HashMap<Uuid, (String, Option<String>)>, StoreError> {
        let rows =
            sqlx::query!("select order_id, state, broker_order_id from requests where order_id = any($1)", orders)
                .fetch_all(&mut *self.tx)
                .await
                .map_err(failed)?;
        Ok(rows.into_iter().map(|row| (row.order_id, (row.state, row.broker_order_id))).collect())
    }

    /// Evidence that came before its order.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn early_evidence(&mut self, orders: &[Uuid]) -> Result<Vec<EarlyEvidence>, StoreError> {
        sqlx::query_as!(
            EarlyEvidence,
            "select order_id, broker, broker_order_id, order_status, cumulative, symbol, side from evidence
             where order_id = any($1) and effect = 'order unknown' order by recorded_at, at",
            orders
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed)
    }

    /// Stores evidence that changed something, or whose order is not here.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn insert_evidence(
        &mut self,
        evidence: &[(Uuid, OrderId, &BrokerEvent, &'static str)],
    ) -> Result<(), StoreError> {
        for (event_id, order_id, event, effect) in evidence {
            sqlx::query!(
                "insert into evidence (event_id, order_id, broker, broker_order_id, event, order_status, cumulative, at,
                     recorded_at, effect, symbol, side)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, statement_timestamp(), $9, $10, $11)
                 on conflict (event_id) do nothing",
                event_id,
                order_id.as_uuid(),
                event.broker.as_str(),
                event.broker_order_id.as_str(),
                clean(&event.event),
                clean(&event.order_status),
                event.cumulative_quantity,
                event.at,
                *effect,
                event.symbol.as_str(),
                event.side.as_str(),
            )
            .execute(&mut *self.tx)
            .await
            .map_err(failed)?;
        }
        Ok(())
    }

    /// Locks requests, in the order that every transaction locks them in. Once a transaction.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn lock(&mut self, orders: &[Uuid]) -> Result<(), StoreError> {
        if !orders.is_empty() {
            load::lock(&mut self.tx, orders).await.map_err(failed)?;
        }
        Ok(())
    }

    /// Reads locked requests.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn load(&mut self, orders: &[Uuid]) -> Result<(OffsetDateTime, Vec<Loaded>), StoreError> {
        if orders.is_empty() {
            return Ok((OffsetDateTime::UNIX_EPOCH, Vec::new()));
        }
        load::load(&mut self.tx, orders, HashMap::new()).await.map_err(failed)
    }

    /// Closes locked requests that live under these broker ids and owe nothing but a cancel, which
    /// is done with then. The short way of what a case does; answers which were closed.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn close(&mut self, closes: &[(Uuid, &BrokerEvent)]) -> Result<HashSet<Uuid>, StoreError> {
        if closes.is_empty() {
            return Ok(HashSet::new());
        }
        let ids: Vec<Uuid> = closes.iter().map(|(order, _)| *order).collect();
        let broker_ids: Vec<String> = closes.iter().map(|(_, event)| event.broker_order_id.to_string()).collect();
        let statuses: Vec<String> = closes.iter().map(|(_, event)| clean(&event.order_status)).collect();
        let rows = sqlx::query_scalar!(
            "update requests r set version = r.version + 1, state = 'closed', state_since = statement_timestamp(),
                 cause = 'the broker says that it is at its end', broker_status = u.broker_status, due_at = null,
                 cancel_answered = r.cancel_requested, cancel_tries = 0
             from unnest($1::uuid[], $2::text[], $3::text[]) as u (order_id, broker_order_id, broker_status)
             where r.order_id = u.order_id and r.broker_order_id = u.broker_order_id and r.state = 'live'
                 and r.observe_answered = r.observe_requested
             returning r.order_id",
            &ids,
            &broker_ids,
            &statuses,
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed)?;
        Ok(rows.into_iter().collect())
    }

    /// Puts events aside.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn defer(&mut self, events: &[DeferredEvent]) -> Result<(), StoreError> {
        for event in events {
            let envelope = &event.envelope;
            let text = serde_json::to_string(envelope).map_err(failed)?;
            sqlx::query!(
                "insert into deferred (producer, partition, seq, account_id, order_id, reason, detail, envelope, deferred_at)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, statement_timestamp())
                 on conflict (producer, partition, seq) do update
                     set reason = excluded.reason, detail = excluded.detail",
                envelope.producer.as_str(),
                envelope.partition.number(),
                envelope.seq,
                envelope.account_id.map(contracts::AccountId::as_uuid),
                envelope.order_id.map(OrderId::as_uuid),
                event.reason,
                clean(&event.detail),
                text,
            )
            .execute(&mut *self.tx)
            .await
            .map_err(failed)?;
        }
        Ok(())
    }

    /// Writes changes, moves the positions, appends the events and commits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn finish(mut self, now: OffsetDateTime, changes: &[Change]) -> Result<(), StoreError> {
        self.store.write(&mut self.tx, now, changes, OPERATION).await?;
        applied::advance(&mut self.tx, &self.moves).await.map_err(failed)?;
        platform::kill_point!("broker-gateway.before-intake-commit");
        self.store.commit(self.tx, now, changes, OPERATION).await?;
        platform::kill_point!("broker-gateway.after-intake-commit");
        Ok(())
    }
}

/// What became of new requests.
#[derive(Debug, Clone, Default)]
pub struct Inserted {
    /// Claimed with it: their attempts are written.
    pub claimed: HashSet<OrderId>,
    /// Here already, with other content.
    pub others: Vec<OrderId>,
}

/// Evidence that came before its order.
#[derive(Debug, Clone)]
pub struct EarlyEvidence {
    /// Our order.
    pub order_id: Uuid,
    /// Which broker.
    pub broker: String,
    /// The broker's id of it.
    pub broker_order_id: String,
    /// The broker's status word.
    pub order_status: String,
    /// Shares filled.
    pub cumulative: Option<Decimal>,
    /// Of which share; none in rows that did not keep it.
    pub symbol: Option<String>,
    /// Bought or sold; none in rows that did not keep it.
    pub side: Option<String>,
}
