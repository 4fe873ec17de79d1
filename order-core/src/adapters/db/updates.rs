//! What streams read.

use super::PgStore;
use crate::application::query::QueryError;
use crate::application::updates::{StoredUpdate, ToldExecution, UpdateReads};
use crate::domain::status::Status;
use crate::domain::update::{UpdateEvent, UpdateMark};
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, ExecutionId, OrderId, OrderTerms, Price, Quantity, Symbol};
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use time::OffsetDateTime;
use uuid::Uuid;

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> QueryError {
    move |source| QueryError::Store { what, source: Box::new(source) }
}

fn valid<T, E: std::fmt::Display>(value: Result<T, E>) -> Result<T, QueryError> {
    value.map_err(|error| QueryError::Corrupt { what: "update", detail: error.to_string() })
}

struct UpdateRow {
    update_seq: i64,
    at: OffsetDateTime,
    event: String,
    to_status: String,
    filled_quantity: Option<Decimal>,
    filled_notional: Option<Decimal>,
    position_quantity: Option<Decimal>,
    order_id: Uuid,
    client_order_id: String,
    symbol: String,
    asset_id: Uuid,
    side: String,
    order_type: String,
    time_in_force: String,
    quantity: Decimal,
    limit_price: Option<Decimal>,
    accepted_at: OffsetDateTime,
    cancel_requested_at: Option<OffsetDateTime>,
    ended_at: Option<OffsetDateTime>,
    execution_id: Option<String>,
    previous_execution_id: Option<String>,
    execution_quantity: Option<Decimal>,
    execution_price: Option<Decimal>,
    busted_quantity: Option<Decimal>,
    busted_price: Option<Decimal>,
    execution_at: Option<OffsetDateTime>,
}

impl UpdateRow {
    fn into_update(self, account_id: AccountId) -> Result<StoredUpdate, QueryError> {
        let terms = OrderTerms::new(
            valid(Symbol::new(self.symbol))?,
            valid(self.side.parse())?,
            valid(self.order_type.parse())?,
            valid(self.time_in_force.parse())?,
            valid(Quantity::new(self.quantity))?,
            self.limit_price.map(|price| valid(Price::new(price))).transpose()?,
        );
        let status = Status::parse(&self.to_status).ok_or_else(|| format!("unknown status {}", self.to_status));
        let status = valid(status)?;
        let event = UpdateEvent::parse(&self.event).ok_or_else(|| format!("unknown event {}", self.event));
        let execution = match (self.execution_id, self.execution_at, self.position_quantity) {
            (Some(id), Some(at), Some(position_quantity)) => Some(ToldExecution {
                execution_id: valid(ExecutionId::new(id))?,
                previous: self.previous_execution_id.map(|id| valid(ExecutionId::new(id))).transpose()?,
                quantity: self.execution_quantity.or(self.busted_quantity.map(|quantity| -quantity)),
                price: self.execution_price.or(self.busted_price),
                at,
                position_quantity,
            }),
            _ => None,
        };
        Ok(StoredUpdate {
            account_id,
            mark: UpdateMark { seq: self.update_seq, at: self.at },
            event: valid(event)?,
            order_id: OrderId::new(self.order_id),
            client_order_id: valid(ClientOrderId::new(self.client_order_id))?,
            terms: valid(terms)?,
            asset_id: self.asset_id,
            accepted_at: self.accepted_at,
            cancel_requested_at: self.cancel_requested_at.filter(|at| *at <= self.at),
            // The row knows the last end alone; an earlier one was at the time of its update.
            ended_at: status.is_terminal().then(|| self.ended_at.filter(|at| *at <= self.at).unwrap_or(self.at)),
            status,
            filled_quantity: self.filled_quantity.unwrap_or_default(),
            filled_notional: self.filled_notional.unwrap_or_default(),
            execution,
        })
    }
}

#[async_trait]
impl UpdateReads for PgStore {
    async fn update_heads(&self, accounts: &[AccountId]) -> Result<Vec<(AccountId, i64)>, QueryError> {
        let ids: Vec<Uuid> = accounts.iter().map(|id| id.as_uuid()).collect();
        let rows = sqlx::query!("select id, update_seq from accounts where id = any($1)", &ids)
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read heads of updates"))?;
        Ok(rows.into_iter().map(|row| (AccountId::new(row.id), row.update_seq)).collect())
    }

    async fn updates(&self, account: AccountId, after: i64, limit: i64) -> Result<Vec<StoredUpdate>, QueryError> {
        let rows = sqlx::query_as!(
            UpdateRow,
            r#"
            select t.update_seq as "update_seq!", t.at, t.event as "event!", t.to_status, t.filled_quantity,
                   t.filled_notional, t.position_quantity, t.order_id, o.client_order_id, o.symbol, o.asset_id, o.side,
                   o.order_type, o.time_in_force, o.quantity, o.limit_price, o.accepted_at, o.cancel_requested_at,
                   o.ended_at, e.execution_id as "execution_id?", e.previous_execution_id,
                   e.quantity as execution_quantity, e.price as execution_price, b.quantity as "busted_quantity?",
                   b.price as "busted_price?", e.at as "execution_at?"
            from order_transitions t
            join orders o on o.id = t.order_id
            left join executions e on e.event_id = t.cause_id and t.position_quantity is not null
            left join lateral (
                select p.quantity, p.price from executions p
                where e.kind = 'bust' and p.order_id = t.order_id and p.execution_id = e.previous_execution_id
                  and p.quantity is not null
                order by p.applied_at desc limit 1
            ) b on true
            where t.account_id = $1 and t.update_seq > $2
            order by t.update_seq
            limit $3
            "#,
            account.as_uuid(),
            after,
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read updates"))?;
        rows.into_iter().map(|row| row.into_update(account)).collect()
    }

    /// Times rise with the numbers, so this halves the account's numbers until it has the place.
    async fn update_before(&self, account: AccountId, at: OffsetDateTime) -> Result<i64, QueryError> {
        sqlx::query_scalar!(
            r#"
            with recursive search (low, high) as (
                select 1::bigint, update_seq + 1 from accounts where id = $1
                union all
                select case when probe.at < $2 then s.low + (s.high - s.low) / 2 + 1 else s.low end,
                       case when probe.at < $2 then s.high else s.low + (s.high - s.low) / 2 end
                from search s
                cross join lateral (
                    select t.at from order_transitions t
                    where t.account_id = $1 and t.update_seq = s.low + (s.high - s.low) / 2
                ) probe
                where s.low < s.high
            )
            select low - 1 as "seq!" from search where low = high
            "#,
            account.as_uuid(),
            at,
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("find an update by its time"))
        .map(Option::unwrap_or_default)
    }

    async fn update_time(&self, account: AccountId, seq: i64) -> Result<Option<OffsetDateTime>, QueryError> {
        sqlx::query_scalar!(
            "select at from order_transitions where account_id = $1 and update_seq = $2",
            account.as_uuid(),
            seq
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("find an update"))
    }

    async fn valid_keys(&self, key_ids: &[String]) -> Result<BTreeSet<String>, QueryError> {
        let rows = sqlx::query_scalar!(
            "select key_id from api_keys
             where key_id = any($1) and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())",
            key_ids,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("look keys up"))?;
        Ok(rows.into_iter().collect())
    }
}
