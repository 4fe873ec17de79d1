//! Writing what a batch changes, set by set, one folded row an account. Row counts are checked: a
//! missing row is an error that rolls everything back, never a shrug.

use super::rows::execution_columns;
use super::{corrupt, entries, failed, operators};
use crate::application::store::{Plan, StoreError};
use crate::domain::order::Order;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

pub(super) fn check_count(what: &'static str, expected: usize, actual: u64) -> Result<(), StoreError> {
    if u64::try_from(expected).ok() == Some(actual) {
        Ok(())
    } else {
        Err(corrupt(what, format!("{actual} of {expected} rows were written")))
    }
}

pub(super) async fn write(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    if plans.is_empty() {
        return Ok(());
    }
    entries::write(conn, plans, now).await?;
    positions(conn, plans).await?;
    changed_orders(conn, plans).await?;
    executions(conn, plans, now).await?;
    refusals(conn, plans).await?;
    deposits(conn, plans, now).await?;
    operators::write(conn, plans, now).await
}

/// The columns of the holdings that plans change.
#[derive(Default)]
pub(super) struct Positions {
    pub(super) accounts: Vec<Uuid>,
    pub(super) symbols: Vec<String>,
    pub(super) available: Vec<Decimal>,
    pub(super) held: Vec<Decimal>,
    pub(super) shortfall: Vec<Decimal>,
    pub(super) cost: Vec<Decimal>,
}

impl Positions {
    pub(super) fn of(plans: &[Plan]) -> Self {
        let mut c = Self::default();
        for plan in plans {
            for symbol in &plan.changed_positions {
                let Some(position) = plan.account.positions.get(symbol) else { continue };
                c.accounts.push(plan.account.id.as_uuid());
                c.symbols.push(symbol.to_string());
                c.available.push(position.shares.available);
                c.held.push(position.shares.held);
                c.shortfall.push(position.shares.shortfall);
                c.cost.push(position.cost_basis);
            }
        }
        c
    }
}

async fn positions(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let c = Positions::of(plans);
    if c.accounts.is_empty() {
        return Ok(());
    }
    let done = sqlx::query!(
        "insert into positions (account_id, symbol, shares_available, shares_held, shares_shortfall, cost_basis)
         select * from unnest($1::uuid[], $2::text[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[])
         on conflict (account_id, symbol) do update
         set shares_available = excluded.shares_available, shares_held = excluded.shares_held,
             shares_shortfall = excluded.shares_shortfall, cost_basis = excluded.cost_basis",
        &c.accounts,
        &c.symbols,
        &c.available,
        &c.held,
        &c.shortfall,
        &c.cost,
    )
    .execute(conn)
    .await
    .map_err(failed("write positions"))?;
    check_count("write positions", c.accounts.len(), done.rows_affected())
}

async fn changed_orders(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let orders: Vec<&Order> = plans.iter().flat_map(|plan| plan.changed_orders.values()).collect();
    if orders.is_empty() {
        return Ok(());
    }
    let text = |f: fn(&Order) -> Option<String>| -> Vec<Option<String>> { orders.iter().map(|o| f(o)).collect() };
    let number = |f: fn(&Order) -> Decimal| -> Vec<Decimal> { orders.iter().map(|o| f(o)).collect() };
    let ids: Vec<Uuid> = orders.iter().map(|o| o.id.as_uuid()).collect();
    let manual: Vec<bool> = orders.iter().map(|o| o.facts.manual).collect();
    let cancels: Vec<i32> = orders.iter().map(|o| o.facts.cancel_requests).collect();
    let refused: Vec<i32> = orders.iter().map(|o| o.facts.cancels_refused).collect();
    let end_counts: Vec<Option<Decimal>> = orders.iter().map(|o| o.facts.broker_end_quantity).collect();
    let submits: Vec<String> = orders.iter().map(|o| o.facts.submit.as_str().to_owned()).collect();
    let statuses: Vec<String> = orders.iter().map(|o| o.status().as_str().to_owned()).collect();
    let closed: Vec<bool> = orders.iter().map(|o| o.status().is_terminal()).collect();
    let updated: Vec<OffsetDateTime> = orders.iter().map(|o| o.times.updated).collect();
    let cancel_at: Vec<Option<OffsetDateTime>> = orders.iter().map(|o| o.times.cancel_requested).collect();
    let ended: Vec<Option<OffsetDateTime>> = orders.iter().map(|o| o.times.ended).collect();
    let done = sqlx::query!(
        "update orders o
         set submit = w.submit, manual = w.manual, cancel_requests = w.cancel_requests,
             cancels_refused = w.cancels_refused, broker_end = w.broker_end,
             broker_end_quantity = w.broker_end_quantity, gross_quantity = w.gross_quantity,
             net_quantity = w.net_quantity, net_notional = w.net_notional, hold_cash = w.hold_cash,
             hold_shares = w.hold_shares, commission = w.commission, broker = w.broker,
             broker_order_id = w.broker_order_id, reason = w.reason, status = w.status, closed = w.closed,
             updated_at = w.updated_at, cancel_requested_at = w.cancel_requested_at, ended_at = w.ended_at
         from unnest($1::uuid[], $2::text[], $3::boolean[], $4::integer[], $5::integer[], $6::text[], $7::numeric[],
                     $8::numeric[], $9::numeric[], $10::numeric[], $11::numeric[], $12::numeric[], $13::numeric[],
                     $14::text[], $15::text[], $16::text[], $17::text[], $18::boolean[], $19::timestamptz[],
                     $20::timestamptz[], $21::timestamptz[])
             w (id, submit, manual, cancel_requests, cancels_refused, broker_end, broker_end_quantity, gross_quantity,
                net_quantity, net_notional, hold_cash, hold_shares, commission, broker, broker_order_id, reason, status,
                closed, updated_at, cancel_requested_at, ended_at)
         where o.id = w.id",
        &ids,
        &submits,
        &manual,
        &cancels,
        &refused,
        &text(|o| o.facts.broker_end.map(|end| end.as_str().to_owned())) as &[Option<String>],
        &end_counts as &[Option<Decimal>],
        &number(|o| o.facts.executed.gross_quantity),
        &number(|o| o.facts.executed.net_quantity),
        &number(|o| o.facts.executed.net_notional),
        &number(|o| o.hold.cash),
        &number(|o| o.hold.shares),
        &number(|o| o.commission),
        &text(|o| o.broker.as_ref().map(ToString::to_string)) as &[Option<String>],
        &text(|o| o.broker_order_id.as_ref().map(ToString::to_string)) as &[Option<String>],
        &text(|o| o.reason.clone()) as &[Option<String>],
        &statuses,
        &closed,
        &updated,
        &cancel_at as &[Option<OffsetDateTime>],
        &ended as &[Option<OffsetDateTime>],
    )
    .execute(conn)
    .await
    .map_err(failed("update orders"))?;
    check_count("update orders", orders.len(), done.rows_affected())
}

async fn executions(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let rows: Vec<_> = plans
        .iter()
        .flat_map(|plan| plan.executions.iter().map(|(order, execution)| (plan.account.id, order, execution)))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns: Vec<_> = rows.iter().map(|(.., execution)| execution_columns(&execution.kind)).collect();
    let events: Vec<Uuid> = rows.iter().map(|(.., e)| e.event_id.as_uuid()).collect();
    let orders: Vec<Uuid> = rows.iter().map(|(_, order, _)| order.as_uuid()).collect();
    let accounts: Vec<Uuid> = rows.iter().map(|(account, ..)| account.as_uuid()).collect();
    let kinds: Vec<String> = columns.iter().map(|(kind, ..)| (*kind).to_owned()).collect();
    let ids: Vec<String> = rows.iter().map(|(.., e)| e.execution_id.to_string()).collect();
    let previous: Vec<Option<String>> = columns.iter().map(|(_, previous, _)| previous.map(str::to_owned)).collect();
    let quantities: Vec<Option<Decimal>> = columns.iter().map(|(.., figures)| figures.map(|f| f.0)).collect();
    let prices: Vec<Option<Decimal>> = columns.iter().map(|(.., figures)| figures.map(|f| f.1)).collect();
    let times: Vec<OffsetDateTime> = rows.iter().map(|(.., e)| e.at).collect();
    let done = sqlx::query!(
        "insert into executions (event_id, order_id, account_id, kind, execution_id, previous_execution_id, quantity,
             price, at, applied_at)
         select w.*, $10 from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[],
             $7::numeric[], $8::numeric[], $9::timestamptz[]) w",
        &events,
        &orders,
        &accounts,
        &kinds,
        &ids,
        &previous as &[Option<String>],
        &quantities as &[Option<Decimal>],
        &prices as &[Option<Decimal>],
        &times,
        now,
    )
    .execute(conn)
    .await
    .map_err(failed("insert executions"))?;
    check_count("insert executions", rows.len(), done.rows_affected())
}

async fn refusals(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let rows: Vec<_> = plans.iter().flat_map(|plan| plan.refusals.iter()).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let narrow = |_| corrupt("keep refusals", "a number is out of range");
    let accounts: Vec<Uuid> = rows.iter().map(|r| r.account_id.as_uuid()).collect();
    let names: Vec<String> = rows.iter().map(|r| r.client_order_id.to_string()).collect();
    let hashes: Vec<Vec<u8>> = rows.iter().map(|r| r.terms_hash.to_vec()).collect();
    let statuses: Vec<i16> = rows.iter().map(|r| i16::try_from(r.status)).collect::<Result<_, _>>().map_err(narrow)?;
    let codes: Vec<i32> = rows.iter().map(|r| i32::try_from(r.code)).collect::<Result<_, _>>().map_err(narrow)?;
    let messages: Vec<String> = rows.iter().map(|r| r.message.clone()).collect();
    let times: Vec<OffsetDateTime> = rows.iter().map(|r| r.at).collect();
    let done = sqlx::query!(
        "insert into refusals (account_id, client_order_id, terms_hash, http_status, code, message, refused_at)
         select * from unnest($1::uuid[], $2::text[], $3::bytea[], $4::smallint[], $5::integer[], $6::text[],
             $7::timestamptz[])
         on conflict (account_id, client_order_id) do update
         set terms_hash = excluded.terms_hash, http_status = excluded.http_status, code = excluded.code,
             message = excluded.message, refused_at = excluded.refused_at",
        &accounts,
        &names,
        &hashes,
        &statuses,
        &codes,
        &messages,
        &times,
    )
    .execute(conn)
    .await
    .map_err(failed("keep refusals"))?;
    check_count("keep refusals", rows.len(), done.rows_affected())
}

async fn deposits(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let rows: Vec<_> =
        plans.iter().flat_map(|plan| plan.deposits.iter().map(|deposit| (plan.account.id, deposit))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let accounts: Vec<Uuid> = rows.iter().map(|(account, _)| account.as_uuid()).collect();
    let references: Vec<String> = rows.iter().map(|(_, (reference, _))| reference.clone()).collect();
    let amounts: Vec<Decimal> = rows.iter().map(|(_, (_, amount))| *amount).collect();
    let done = sqlx::query!(
        "insert into deposits (account_id, reference, amount, at)
         select w.*, $4 from unnest($1::uuid[], $2::text[], $3::numeric[]) w",
        &accounts,
        &references,
        &amounts,
        now,
    )
    .execute(conn)
    .await
    .map_err(failed("insert deposits"))?;
    check_count("insert deposits", rows.len(), done.rows_affected())
}
