//! This process's part of an order's story.

use super::PgStore;
use super::errors::failed;
use crate::application::explain::{Doubtful, Found, MATCHES_MAX, Match, OwnRow, RefusalRecord, StoryStore};
use crate::application::query::QueryError;
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::decimal::plain;
use contracts::{AccountId, OrderId};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// Most rows of one kind.
const ROWS_MAX: i64 = 1_000;

/// Longest journal of an account that is looked through for an order's lines.
const STATEMENT_TIMEOUT: &str = "10s";

#[async_trait]
impl StoryStore for PgStore {
    async fn find(&self, id: &str, account: Option<AccountId>) -> Result<Found, QueryError> {
        let mut ids = self.by_our_names(id).await?;
        ids.extend(self.by_client_id(id, account).await?);
        let ids: Vec<OrderId> = ids.into_iter().map(OrderId::new).collect();
        let mut orders = self.matches(&ids).await?;
        orders.retain(|order| account.is_none_or(|account| account.as_uuid() == order.account_id));
        Ok(Found { orders, refusals: self.refused(id, account).await? })
    }

    async fn matches(&self, orders: &[OrderId]) -> Result<Vec<Match>, QueryError> {
        sqlx::query_as!(
            Match,
            "select id as order_id, account_id, client_order_id, status, accepted_at
             from orders where id = any($1) order by id limit $2",
            &super::read::order_ids(orders.iter().copied()),
            MATCHES_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("find orders"))
    }

    async fn rows(&self, order: &Order) -> Result<(Vec<OwnRow>, bool), QueryError> {
        let id = order.id.as_uuid();
        let mut rows = self.transitions(id).await?;
        let parts =
            [self.journal(order).await?, self.executions(id).await?, self.log(id).await?, self.waiting(id).await?];
        let full = |len: usize| i64::try_from(len).is_ok_and(|len| len >= ROWS_MAX);
        let truncated = full(rows.len()) || parts.iter().any(|part| full(part.len()));
        rows.extend(parts.into_iter().flatten());
        Ok((rows, truncated))
    }

    async fn doubtful(&self, limit: i64) -> Result<Vec<Doubtful>, QueryError> {
        sqlx::query_as!(
            Doubtful,
            "select id as order_id, account_id, status, reason, updated_at
             from orders where doubtful_since is not null order by doubtful_since limit $1",
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read doubtful orders"))
    }
}

impl PgStore {
    /// By our order's or event's id, the broker's id, or an execution's. There are few brokers, so each
    /// of them is looked for under its own name.
    async fn by_our_names(&self, id: &str) -> Result<Vec<Uuid>, QueryError> {
        sqlx::query_scalar!(
            r#"
            with recursive brokers as (
                (select broker from broker_orders order by broker limit 1)
                union all
                select (select o.broker from broker_orders o where o.broker > b.broker order by o.broker limit 1)
                from brokers b where b.broker is not null
            )
            select o.id as "id!" from orders o where o.id = $1
            union select e.order_id from executions e where e.event_id = $1
            union select l.order_id from event_log l where l.event_id = $1 and l.order_id is not null
            union select e.order_id from executions e where e.execution_id = $2
            union select o.order_id from brokers b
                join broker_orders o on o.broker = b.broker and o.broker_order_id = $2
                where o.order_id is not null
            limit $3
            "#,
            Uuid::try_parse(id).ok(),
            id,
            MATCHES_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("find an order"))
    }

    /// The client's names are unique within an account, so every account is asked; orders have no index
    /// across accounts, which each of them would pay for.
    async fn by_client_id(&self, id: &str, account: Option<AccountId>) -> Result<Vec<Uuid>, QueryError> {
        sqlx::query_scalar!(
            r#"
            select o.id as "id!"
            from accounts a cross join lateral
                (select id from orders where account_id = a.id and client_order_id = $1) o
            where $2::uuid is null or a.id = $2
            limit $3
            "#,
            id,
            account.map(AccountId::as_uuid),
            MATCHES_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("find an order by the client's name"))
    }

    async fn refused(&self, id: &str, account: Option<AccountId>) -> Result<Vec<RefusalRecord>, QueryError> {
        sqlx::query_as!(
            RefusalRecord,
            r#"
            select r.account_id as "account_id!", r.client_order_id as "client_order_id!",
                   r.http_status as "http_status!", r.code as "code!", r.message as "message!",
                   r.refused_at as "refused_at!"
            from accounts a cross join lateral
                (select account_id, client_order_id, http_status, code, message, refused_at
                 from refusals where account_id = a.id and client_order_id = $1) r
            where $2::uuid is null or a.id = $2
            limit $3
            "#,
            id,
            account.map(AccountId::as_uuid),
            MATCHES_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("find refused requests"))
    }

    async fn transitions(&self, order: Uuid) -> Result<Vec<OwnRow>, QueryError> {
        let rows = sqlx::query!(
            "select at, from_status, to_status, cause, cause_id
             from order_transitions where order_id = $1 order by id limit $2",
            order,
            ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read transitions"))?;
        let row = rows.into_iter().map(|row| OwnRow {
            at: row.at,
            kind: "transition",
            data: json!({"from": row.from_status, "to": row.to_status, "cause": row.cause, "cause_id": row.cause_id}),
        });
        Ok(row.collect())
    }

    async fn journal(&self, order: &Order) -> Result<Vec<OwnRow>, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("read journal lines"))?;
        sqlx::query!("select set_config('statement_timeout', $1, true)", STATEMENT_TIMEOUT)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("read journal lines"))?;
        let rows = sqlx::query!(
            "select at, cause, cause_id, asset, debit, credit, amount
             from journal_lines where account_id = $1 and order_id = $2 order by id limit $3",
            order.account_id.as_uuid(),
            order.id.as_uuid(),
            ROWS_MAX,
        )
        .fetch_all(&mut *tx)
        .await
        .map_err(failed("read journal lines"))?;
        let row = rows.into_iter().map(|row| OwnRow {
            at: row.at,
            kind: "journal",
            data: json!({
                "cause": row.cause,
                "cause_id": row.cause_id,
                "asset": row.asset,
                "debit": row.debit,
                "credit": row.credit,
                "amount": plain(row.amount),
            }),
        });
        Ok(row.collect())
    }

    async fn executions(&self, order: Uuid) -> Result<Vec<OwnRow>, QueryError> {
        let rows = sqlx::query!(
            "select applied_at, event_id, kind, execution_id, previous_execution_id, quantity, price, at
             from executions where order_id = $1 order by applied_at, event_id limit $2",
            order,
            ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read executions"))?;
        let row = rows.into_iter().map(|row| OwnRow {
            at: row.applied_at,
            kind: "execution",
            data: json!({
                "event_id": row.event_id,
                "kind": row.kind,
                "execution_id": row.execution_id,
                "previous_execution_id": row.previous_execution_id,
                "quantity": row.quantity.map(plain),
                "price": row.price.map(plain),
                "at_broker": row.at.format(&Rfc3339).ok(),
            }),
        });
        Ok(row.collect())
    }

    async fn log(&self, order: Uuid) -> Result<Vec<OwnRow>, QueryError> {
        let rows = sqlx::query!(
            "select at, partition, seq, event_id, type as kind, traceparent, payload
             from event_log where order_id = $1 order by seq limit $2",
            order,
            ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read the log"))?;
        let row = rows.into_iter().map(|row| OwnRow {
            at: row.at,
            kind: "event",
            data: json!({
                "partition": row.partition,
                "seq": row.seq,
                "event_id": row.event_id,
                "type": row.kind,
                "traceparent": row.traceparent,
                "payload": as_json(row.payload),
            }),
        });
        Ok(row.collect())
    }

    /// Events of the other processes that have not taken effect yet.
    async fn waiting(&self, order: Uuid) -> Result<Vec<OwnRow>, QueryError> {
        let rows = sqlx::query!(
            "select deferred_at, producer, partition, seq, reason, detail, envelope
             from deferred where order_id = $1 order by deferred_at, producer, seq limit $2",
            order,
            ROWS_MAX,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read waiting events"))?;
        let row = rows.into_iter().map(|row| OwnRow {
            at: row.deferred_at,
            kind: "waiting_event",
            data: json!({
                "producer": row.producer,
                "partition": row.partition,
                "seq": row.seq,
                "reason": row.reason,
                "detail": row.detail,
                "envelope": as_json(row.envelope),
            }),
        });
        Ok(row.collect())
    }
}

/// What is stored as JSON text is shown as JSON; what is none is shown as the text that it is.
fn as_json(text: String) -> Value {
    match RawValue::from_string(text.clone()) {
        Ok(raw) => serde_json::to_value(raw).unwrap_or(Value::String(text)),
        Err(_) => Value::String(text),
    }
}
