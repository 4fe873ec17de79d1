//! One transaction on the order server's database, and the store that opens them.

use super::{at_once, corrupt, failed, read, write};
use crate::application::hub::Hub;
use crate::application::store::{
    Deferred, LockMode, LogPartition, LogPosition, Plan, Snapshot, Store, StoreError, Transaction, Wants,
};
use contracts::event::{Envelope, OrdersEvent, Producer};
use contracts::{AccountId, BrokerId, BrokerOrderId, EventId, OrderId, Partition, Symbol};
use platform::applied;
use platform::bus::Publisher;
use platform::clock::IdSource;
use platform::eventlog::{self, NewEvent, Position};
use platform::warm::{WarmPool, WarmTransaction};
use sqlx::PgPool;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use time::OffsetDateTime;
use uuid::Uuid;

/// The PostgreSQL store.
#[derive(Clone)]
pub struct PgStore {
    pub(super) pool: PgPool,
    /// For what workers do.
    warm: WarmPool,
    publisher: Option<Publisher>,
    hub: Option<Arc<Hub>>,
    ids: Arc<dyn IdSource>,
}

impl PgStore {
    /// A store over a pool. `publisher` carries committed events to the bus; without one consumers
    /// read the feed.
    #[must_use]
    pub fn new(pool: PgPool, publisher: Option<Publisher>, ids: Arc<dyn IdSource>) -> Self {
        Self { warm: WarmPool::over(pool.clone()), pool, publisher, hub: None, ids }
    }

    /// Lets workers use connections of their own: however many reads wait, they never hold up an order.
    #[must_use]
    pub fn working_with(self, warm: WarmPool) -> Self {
        Self { warm, ..self }
    }

    /// Wakes the streams of `hub` after each commit.
    #[must_use]
    pub fn waking(self, hub: Arc<Hub>) -> Self {
        Self { hub: Some(hub), ..self }
    }
}

impl Store for PgStore {
    type Tx = PgTransaction;

    async fn begin(&self) -> Result<PgTransaction, StoreError> {
        let tx = self.warm.begin().await.map_err(failed("begin"))?;
        let (publisher, hub) = (self.publisher.clone(), self.hub.clone());
        Ok(PgTransaction { tx, publisher, hub, ids: Arc::clone(&self.ids) })
    }

    async fn load(&self, wants: &Wants) -> Result<Snapshot, StoreError> {
        let mut conn = self.warm.acquire().await.map_err(failed("acquire a connection"))?;
        read::load(&mut conn, wants).await
    }

    async fn commit_at_once(
        &self,
        plans: &[Plan],
        versions: &BTreeMap<AccountId, i64>,
        now: OffsetDateTime,
    ) -> Result<bool, StoreError> {
        if !at_once::fits(plans) {
            return Ok(false);
        }
        let events = outgoing(plans, &*self.ids, now)?;
        let mut conn = self.warm.acquire().await.map_err(failed("acquire a connection"))?;
        let Some(envelopes) = at_once::write(&mut conn, plans, versions, events, now).await? else { return Ok(false) };
        drop(conn);
        tell(self.publisher.as_ref(), self.hub.as_ref(), envelopes, plans);
        Ok(true)
    }

    async fn reserved(
        &self,
        partitions: &[Partition],
        after: Option<OrderId>,
        limit: i64,
    ) -> Result<Vec<(OrderId, AccountId)>, StoreError> {
        let partitions: Vec<i16> = partitions.iter().map(|p| p.number()).collect();
        let mut conn = self.warm.acquire().await.map_err(failed("acquire a connection"))?;
        let rows = sqlx::query!(
            "select o.id, o.account_id from orders o
             where o.partition = any($1) and o.is_reserved and o.id > $3
               and not exists (select 1 from deferred d where d.account_id = o.account_id and d.reason in ('poison', 'retry'))
               and not exists (select 1 from halts h where h.symbol in ('', o.symbol))
               and not exists (select 1 from accounts a where a.id = o.account_id and a.halt_reason is not null)
             order by o.id limit $2",
            &partitions,
            limit,
            after.map_or(Uuid::nil(), OrderId::as_uuid),
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(failed("read reserved orders"))?;
        Ok(rows.into_iter().map(|row| (OrderId::new(row.id), AccountId::new(row.account_id))).collect())
    }
}

/// An open transaction.
pub struct PgTransaction {
    tx: WarmTransaction,
    publisher: Option<Publisher>,
    hub: Option<Arc<Hub>>,
    ids: Arc<dyn IdSource>,
}

const fn position(at: LogPosition) -> Position {
    Position { seq: at.seq, event_id: at.event_id }
}

fn account_ids(rows: Vec<Uuid>) -> BTreeSet<AccountId> {
    rows.into_iter().map(AccountId::new).collect()
}

fn uuids(accounts: &BTreeSet<AccountId>) -> Vec<Uuid> {
    accounts.iter().map(|id| id.as_uuid()).collect()
}

impl Transaction for PgTransaction {
    async fn claim(&mut self, at: &BTreeMap<LogPartition, LogPosition>) -> Result<BTreeSet<LogPartition>, StoreError> {
        let expected = at.iter().map(|(log, at)| (*log, position(*at))).collect();
        let won = applied::claim(&mut self.tx, &expected).await;
        won.map_err(|e| StoreError::Failed { what: "claim positions", source: Box::new(e) })
    }

    #[cfg(oor_without_version_check)]
    async fn winners(&mut self, versions: &BTreeMap<AccountId, i64>) -> Result<BTreeSet<AccountId>, StoreError> {
        self.lock(&versions.keys().copied().collect(), LockMode::SkipBusy).await
    }

    #[cfg(not(oor_without_version_check))]
    async fn winners(&mut self, versions: &BTreeMap<AccountId, i64>) -> Result<BTreeSet<AccountId>, StoreError> {
        let ids: Vec<Uuid> = versions.keys().map(|id| id.as_uuid()).collect();
        let expected: Vec<i64> = versions.values().copied().collect();
        let rows = sqlx::query_scalar!(
            "select a.id from accounts a join unnest($1::uuid[], $2::bigint[]) w (id, version) on a.id = w.id
             where a.version = w.version
             order by a.id
             for no key update of a skip locked",
            &ids,
            &expected,
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("lock accounts by version"))?;
        Ok(account_ids(rows))
    }

    async fn lock(
        &mut self,
        accounts: &BTreeSet<AccountId>,
        mode: LockMode,
    ) -> Result<BTreeSet<AccountId>, StoreError> {
        if accounts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let ids = uuids(accounts);
        let rows = match mode {
            LockMode::SkipBusy => {
                sqlx::query_scalar!(
                    "select id from accounts where id = any($1) order by id for no key update skip locked",
                    &ids
                )
                .fetch_all(&mut *self.tx)
                .await
            }
            LockMode::Wait => {
                sqlx::query_scalar!("select id from accounts where id = any($1) order by id for no key update", &ids)
                    .fetch_all(&mut *self.tx)
                    .await
            }
        };
        rows.map(account_ids).map_err(failed("lock accounts"))
    }

    async fn owners(
        &mut self,
        orders: &BTreeSet<OrderId>,
    ) -> Result<BTreeMap<OrderId, (AccountId, Symbol)>, StoreError> {
        let ids = read::order_ids(orders.iter().copied());
        let rows = sqlx::query!("select id, account_id, symbol from orders where id = any($1)", &ids)
            .fetch_all(&mut *self.tx)
            .await
            .map_err(failed("read owners of orders"))?;
        rows.into_iter()
            .map(|row| {
                let symbol = Symbol::new(row.symbol).map_err(|e| corrupt("read owners of orders", e))?;
                Ok((OrderId::new(row.id), (AccountId::new(row.account_id), symbol)))
            })
            .collect()
    }

    async fn with_deferred(&mut self, accounts: &BTreeSet<AccountId>) -> Result<BTreeSet<AccountId>, StoreError> {
        if accounts.is_empty() {
            return Ok(BTreeSet::new());
        }
        let rows = sqlx::query_scalar!(
            r#"select distinct account_id as "account_id!" from deferred where account_id = any($1)"#,
            &uuids(accounts)
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("read waiting accounts"))?;
        Ok(account_ids(rows))
    }

    async fn load(&mut self, wants: &Wants) -> Result<Snapshot, StoreError> {
        read::load(&mut self.tx, wants).await
    }

    async fn bind_broker_orders(
        &mut self,
        orders: &BTreeMap<(BrokerId, BrokerOrderId), Option<OrderId>>,
    ) -> Result<BTreeMap<(BrokerId, BrokerOrderId), OrderId>, StoreError> {
        let brokers: Vec<String> = orders.keys().map(|(broker, _)| broker.to_string()).collect();
        let ids: Vec<String> = orders.keys().map(|(_, id)| id.to_string()).collect();
        let ours: Vec<Option<Uuid>> = orders.values().map(|order| order.map(OrderId::as_uuid)).collect();
        let rows = sqlx::query!(
            "insert into broker_orders as b (broker, broker_order_id, order_id)
             select * from unnest($1::text[], $2::text[], $3::uuid[]) w (broker, broker_order_id, order_id)
             order by w.broker, w.broker_order_id
             on conflict (broker, broker_order_id) do update set order_id = coalesce(b.order_id, excluded.order_id)
             returning broker, broker_order_id, order_id",
            &brokers,
            &ids,
            &ours as &[Option<Uuid>],
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("bind broker orders"))?;
        let mut known = BTreeMap::new();
        for row in rows {
            let Some(order) = row.order_id else { continue };
            let broker = BrokerId::new(row.broker).map_err(|e| corrupt("bind broker orders", e))?;
            let id = BrokerOrderId::new(row.broker_order_id).map_err(|e| corrupt("bind broker orders", e))?;
            known.insert((broker, id), OrderId::new(order));
        }
        Ok(known)
    }

    async fn keep_orphans(
        &mut self,
        orphans: &[(BrokerId, BrokerOrderId, Envelope)],
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if orphans.is_empty() {
            return Ok(());
        }
        let events: Vec<Uuid> = orphans.iter().map(|(.., e)| e.id.as_uuid()).collect();
        let brokers: Vec<String> = orphans.iter().map(|(broker, ..)| broker.to_string()).collect();
        let ids: Vec<String> = orphans.iter().map(|(_, id, _)| id.to_string()).collect();
        let envelopes = encode(orphans.iter().map(|(.., e)| e))?;
        sqlx::query!(
            "insert into orphans (event_id, broker, broker_order_id, envelope, kept_at)
             select w.*, $5 from unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) w
             on conflict (event_id) do nothing",
            &events,
            &brokers,
            &ids,
            &envelopes,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(failed("keep orphans"))?;
        metrics::counter!("orphans_kept_total").increment(u64::try_from(orphans.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    async fn take_orphans(
        &mut self,
        orders: &BTreeSet<(BrokerId, BrokerOrderId)>,
    ) -> Result<Vec<Envelope>, StoreError> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let (brokers, ids): (Vec<String>, Vec<String>) =
            orders.iter().map(|(broker, id)| (broker.to_string(), id.to_string())).unzip();
        let rows = sqlx::query_scalar!(
            "delete from orphans o using unnest($1::text[], $2::text[]) w (broker, broker_order_id)
             where o.broker = w.broker and o.broker_order_id = w.broker_order_id
             returning o.envelope",
            &brokers,
            &ids,
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("take orphans"))?;
        decode(rows)
    }

    async fn write(&mut self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        write::write(&mut self.tx, plans, now).await
    }

    async fn defer(&mut self, events: &[Deferred], now: OffsetDateTime) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let producers: Vec<String> = events.iter().map(|d| d.envelope.producer.to_string()).collect();
        let partitions: Vec<i16> = events.iter().map(|d| d.envelope.partition.number()).collect();
        let seqs: Vec<i64> = events.iter().map(|d| d.envelope.seq).collect();
        let accounts: Vec<Option<Uuid>> = events.iter().map(|d| d.account_id.map(AccountId::as_uuid)).collect();
        let orders: Vec<Option<Uuid>> = events.iter().map(|d| d.order_id.map(OrderId::as_uuid)).collect();
        let reasons: Vec<String> = events.iter().map(|d| d.reason.as_str().to_owned()).collect();
        let details: Vec<String> = events.iter().map(|d| d.detail.replace('\0', "")).collect();
        let envelopes = encode(events.iter().map(|d| &d.envelope))?;
        sqlx::query!(
            "insert into deferred (producer, partition, seq, account_id, order_id, reason, detail, envelope, deferred_at)
             select w.*, $9 from unnest($1::text[], $2::smallint[], $3::bigint[], $4::uuid[], $5::uuid[], $6::text[],
                 $7::text[], $8::text[]) w
             on conflict (producer, partition, seq) do update set reason = excluded.reason, detail = excluded.detail",
            &producers,
            &partitions,
            &seqs,
            &accounts as &[Option<Uuid>],
            &orders as &[Option<Uuid>],
            &reasons,
            &details,
            &envelopes,
            now,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(failed("defer events"))?;
        Ok(())
    }

    async fn take_deferred(&mut self, partitions: &[Partition], limit: i64) -> Result<Vec<Envelope>, StoreError> {
        let partitions: Vec<i16> = partitions.iter().map(|p| p.number()).collect();
        // One at a time tries what waits of a log's partition, in its order, and nobody applies new
        // events of it meanwhile: a second copy would take the next event of the same account.
        let held = sqlx::query!(
            "select a.producer, a.partition from applied a
             where a.partition = any($1) and exists (select 1 from deferred d where d.producer = a.producer
                 and d.partition = a.partition and d.reason in ('busy', 'behind', 'retry'))
             order by a.producer, a.partition
             for update of a skip locked",
            &partitions,
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("claim the positions of waiting events"))?;
        let (producers, partitions): (Vec<String>, Vec<i16>) =
            held.into_iter().map(|row| (row.producer, row.partition)).unzip();
        if producers.is_empty() {
            return Ok(Vec::new());
        }
        // A statement of its own: it must see what was committed before the positions were had.
        let rows = sqlx::query_scalar!(
            "select d.envelope from deferred d
             join unnest($1::text[], $2::smallint[]) h (producer, partition)
                 on h.producer = d.producer and h.partition = d.partition
             where d.reason in ('busy', 'behind', 'retry') and not exists
                 (select 1 from deferred p where p.account_id = d.account_id and p.reason = 'poison')
             order by d.producer, d.partition, d.seq
             limit $3
             for update of d",
            &producers,
            &partitions,
            limit,
        )
        .fetch_all(&mut *self.tx)
        .await
        .map_err(failed("take waiting events"))?;
        decode(rows)
    }

    async fn clear_deferred(&mut self, events: &[(Producer, Partition, i64)]) -> Result<(), StoreError> {
        let producers: Vec<String> = events.iter().map(|(producer, ..)| producer.to_string()).collect();
        let partitions: Vec<i16> = events.iter().map(|(_, partition, _)| partition.number()).collect();
        let seqs: Vec<i64> = events.iter().map(|(.., seq)| *seq).collect();
        sqlx::query!(
            "delete from deferred d using unnest($1::text[], $2::smallint[], $3::bigint[]) w (producer, partition, seq)
             where d.producer = w.producer and d.partition = w.partition and d.seq = w.seq",
            &producers,
            &partitions,
            &seqs,
        )
        .execute(&mut *self.tx)
        .await
        .map_err(failed("clear waiting events"))?;
        Ok(())
    }

    async fn advance(&mut self, moves: &BTreeMap<LogPartition, (LogPosition, LogPosition)>) -> Result<(), StoreError> {
        let moves = moves.iter().map(|(log, (from, to))| (*log, (position(*from), position(*to)))).collect();
        let moved = applied::advance(&mut self.tx, &moves).await;
        moved.map_err(|e| StoreError::Failed { what: "advance positions", source: Box::new(e) })
    }

    async fn rollback(self) {
        if let Err(error) = self.tx.rollback().await {
            tracing::debug!(%error, "a transaction could not be rolled back; its connection is gone");
        }
    }

    async fn commit(mut self, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
        let events = outgoing(plans, &*self.ids, now)?;
        let envelopes = eventlog::append(&mut self.tx, Producer::OrderCore, events)
            .await
            .map_err(|e| StoreError::Failed { what: "append events", source: Box::new(e) })?;
        self.tx.commit().await.map_err(|e| StoreError::CommitUnknown { source: Box::new(e) })?;
        tell(self.publisher.as_ref(), self.hub.as_ref(), envelopes, plans);
        Ok(())
    }
}

/// Hands on what is committed: the events to the bus, the updates to the streams.
fn tell(publisher: Option<&Publisher>, hub: Option<&Arc<Hub>>, envelopes: Vec<Envelope>, plans: &[Plan]) {
    if let (Some(publisher), false) = (publisher, envelopes.is_empty()) {
        publisher.committed(envelopes);
    }
    if let Some(hub) = hub {
        hub.committed(plans);
    }
}

fn outgoing(plans: &[Plan], ids: &dyn IdSource, now: OffsetDateTime) -> Result<Vec<NewEvent>, StoreError> {
    let mut events = Vec::new();
    for plan in plans {
        let account = plan.account.id;
        let partition = Partition::of_account(account);
        for event in &plan.events {
            let id = EventId::new(ids.uuid());
            let order: Option<OrderId> = Some(OrdersEvent::order_id(event));
            let new = NewEvent::of(id, partition, Some(account), order, now, event)
                .map_err(|e| StoreError::Failed { what: "build an event", source: Box::new(e) })?;
            events.push(new);
        }
    }
    Ok(events)
}

fn encode<'a>(envelopes: impl Iterator<Item = &'a Envelope>) -> Result<Vec<String>, StoreError> {
    envelopes
        .map(|e| {
            serde_json::to_string(e).map_err(|e| StoreError::Failed { what: "write an envelope", source: Box::new(e) })
        })
        .collect()
}

fn decode(rows: Vec<String>) -> Result<Vec<Envelope>, StoreError> {
    rows.into_iter().map(|text| serde_json::from_str(&text).map_err(|e| corrupt("read an envelope", e))).collect()
}
