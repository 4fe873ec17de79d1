//! Reading what a batch needs, accounts (with their versions) before everything else.

use super::rows::{AccountRow, ExecutionRow, OrderRow, PositionRow};
use super::{corrupt, failed};
use crate::application::store::{Snapshot, StoreError, StoredRefusal, Wants};
use contracts::{AccountId, ClientOrderId, OrderId, Symbol};
use sqlx::PgConnection;
use uuid::Uuid;

pub(super) async fn load(conn: &mut PgConnection, wants: &Wants) -> Result<Snapshot, StoreError> {
    let mut snapshot = Snapshot::default();
    let there = accounts(conn, wants, &mut snapshot).await?;
    if there.positions {
        positions(conn, wants, &mut snapshot).await?;
    }
    if there.orders || !wants.orders.is_empty() {
        orders(conn, wants, &mut snapshot).await?;
    }
    if there.refusals {
        refusals(conn, wants, &mut snapshot).await?;
    }
    executions(conn, wants, &mut snapshot).await?;
    deposits(conn, wants, &mut snapshot).await?;
    withdrawals(conn, wants, &mut snapshot).await?;
    Ok(snapshot)
}

/// What of the things that are asked for by name is there, as of the accounts' versions: most new orders
/// find nothing, and then need not look again. What appears later has cost its account the version.
#[derive(Default)]
struct There {
    positions: bool,
    orders: bool,
    refusals: bool,
}

async fn accounts(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<There, StoreError> {
    let mut there = There::default();
    if wants.accounts.is_empty() {
        return Ok(there);
    }
    let ids: Vec<Uuid> = wants.accounts.iter().map(|id| id.as_uuid()).collect();
    let (holders, symbols) = position_names(wants);
    let (owners, names) = client_ids(wants);
    // What is halted for everybody comes along, so that no copy remembers it.
    let rows = sqlx::query_as!(
        AccountRow,
        r#"
        select a.id, a.version, a.status, a.halt_reason, a.currency, a.cash_available, a.cash_held, a.cash_shortfall,
               a.update_seq, a.update_at,
               exists (select 1 from deferred d where d.account_id = a.id and d.reason in ('poison', 'retry')) as "parked!",
               array(select h.symbol from halts h
                     where h.symbol = '' or h.symbol = any($2)
                        or h.symbol in (select o.symbol from orders o where o.id = any($3))) as "halts!",
               exists (select 1 from positions p join unnest($4::uuid[], $2::text[]) w (account_id, symbol)
                           on p.account_id = w.account_id and p.symbol = w.symbol)
               or exists (select 1 from positions p where p.account_id = any($1) and p.shares_shortfall > 0)
                   as "with_positions!",
               exists (select 1 from orders o join unnest($5::uuid[], $6::text[]) w (account_id, client_order_id)
                           on o.account_id = w.account_id and o.client_order_id = w.client_order_id) as "with_orders!",
               exists (select 1 from refusals r join unnest($5::uuid[], $6::text[]) w (account_id, client_order_id)
                           on r.account_id = w.account_id and r.client_order_id = w.client_order_id)
                   as "with_refusals!"
        from accounts a
        where a.id = any($1)
        "#,
        &ids,
        &symbols,
        &order_ids(wants.orders.iter().copied()),
        &holders,
        &owners,
        &names,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read accounts"))?;
    for row in rows {
        there = There { positions: row.with_positions, orders: row.with_orders, refusals: row.with_refusals };
        let parked = row.parked;
        for symbol in &row.halts {
            if symbol.is_empty() {
                snapshot.halts.market = true;
            } else {
                snapshot.halts.symbols.insert(Symbol::new(symbol).map_err(|e| corrupt("read halts", e))?);
            }
        }
        let account = row.into_account().map_err(|e| corrupt("read accounts", e))?;
        if parked {
            snapshot.parked.insert(account.id);
        }
        snapshot.accounts.insert(account.id, account);
    }
    Ok(there)
}

fn position_names(wants: &Wants) -> (Vec<Uuid>, Vec<String>) {
    wants.positions.iter().map(|(account, symbol)| (account.as_uuid(), symbol.to_string())).unzip()
}

async fn positions(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    let (accounts, symbols) = position_names(wants);
    let all: Vec<Uuid> = wants.accounts.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        PositionRow,
        r#"
        select p.account_id as "account_id!", p.symbol as "symbol!", p.shares_available as "shares_available!",
               p.shares_held as "shares_held!", p.shares_shortfall as "shares_shortfall!", p.cost_basis as "cost_basis!"
        from positions p join unnest($1::uuid[], $2::text[]) w (account_id, symbol)
            on p.account_id = w.account_id and p.symbol = w.symbol
        union
        select account_id, symbol, shares_available, shares_held, shares_shortfall, cost_basis
        from positions where account_id = any($3) and shares_shortfall > 0
        "#,
        &accounts,
        &symbols,
        &all,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read positions"))?;
    for row in rows {
        let (account, symbol, position) = row.into_position().map_err(|e| corrupt("read positions", e))?;
        if let Some(account) = snapshot.accounts.get_mut(&account) {
            account.positions.insert(symbol, position);
        }
    }
    Ok(())
}

async fn orders(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = wants.orders.iter().map(|id| id.as_uuid()).collect();
    let (accounts, names) = client_ids(wants);
    let rows = sqlx::query_as!(
        OrderRow,
        r#"
        select o.id as "id!", o.account_id as "account_id!", o.client_order_id as "client_order_id!",
               o.symbol as "symbol!", o.asset_id as "asset_id!", o.side as "side!", o.order_type as "order_type!",
               o.time_in_force as "time_in_force!", o.quantity as "quantity!", o.limit_price,
               o.hold_price as "hold_price!", o.submit as "submit!", o.manual as "manual!",
               o.cancel_requests as "cancel_requests!", o.cancels_refused as "cancels_refused!", o.broker_end,
               o.broker_end_quantity, o.gross_quantity as "gross_quantity!", o.net_quantity as "net_quantity!",
               o.net_notional as "net_notional!", o.hold_cash as "hold_cash!", o.hold_shares as "hold_shares!",
               o.commission as "commission!", o.broker, o.broker_order_id, o.reason, o.accepted_at as "accepted_at!",
               o.updated_at as "updated_at!", o.cancel_requested_at, o.ended_at
        from orders o where o.id = any($1)
        union all
        select o.id, o.account_id, o.client_order_id, o.symbol, o.asset_id, o.side, o.order_type,
               o.time_in_force, o.quantity, o.limit_price, o.hold_price, o.submit, o.manual,
               o.cancel_requests, o.cancels_refused, o.broker_end,
               o.broker_end_quantity, o.gross_quantity, o.net_quantity, o.net_notional, o.hold_cash, o.hold_shares,
               o.commission, o.broker, o.broker_order_id, o.reason, o.accepted_at, o.updated_at,
               o.cancel_requested_at, o.ended_at
        from orders o join unnest($2::uuid[], $3::text[]) w (account_id, client_order_id)
            on o.account_id = w.account_id and o.client_order_id = w.client_order_id
        "#,
        &ids,
        &accounts,
        &names,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read orders"))?;
    for row in rows {
        let order = row.into_order().map_err(|e| corrupt("read orders", e))?;
        snapshot.orders.insert(order.id, order);
    }
    Ok(())
}

fn client_ids(wants: &Wants) -> (Vec<Uuid>, Vec<String>) {
    wants.client_ids.iter().map(|(account, name)| (account.as_uuid(), name.to_string())).unzip()
}

async fn refusals(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    let (accounts, names) = client_ids(wants);
    let rows = sqlx::query!(
        r#"
        select r.account_id, r.client_order_id, r.terms_hash, r.http_status, r.code, r.message, r.refused_at
        from refusals r join unnest($1::uuid[], $2::text[]) w (account_id, client_order_id)
            on r.account_id = w.account_id and r.client_order_id = w.client_order_id
        "#,
        &accounts,
        &names,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read refusals"))?;
    for row in rows {
        let name = ClientOrderId::new(row.client_order_id).map_err(|e| corrupt("read refusals", e))?;
        let account_id = AccountId::new(row.account_id);
        let bad = |_| corrupt("read refusals", "a number is out of range");
        let refusal = StoredRefusal {
            account_id,
            client_order_id: name.clone(),
            terms_hash: row.terms_hash.try_into().map_err(|_| corrupt("read refusals", "hash length"))?,
            status: u16::try_from(row.http_status).map_err(bad)?,
            code: u32::try_from(row.code).map_err(bad)?,
            message: row.message,
            at: row.refused_at,
        };
        snapshot.refusals.insert((account_id, name), refusal);
    }
    Ok(())
}

async fn executions(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    if wants.executions.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = wants.executions.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_as!(
        ExecutionRow,
        "select event_id, order_id, kind, execution_id, previous_execution_id, quantity, price, at
         from executions where order_id = any($1)",
        &ids,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read executions"))?;
    for row in rows {
        let (order, execution) = row.into_execution().map_err(|e| corrupt("read executions", e))?;
        snapshot.executions.entry(order).or_default().push(execution);
    }
    Ok(())
}

async fn deposits(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    if wants.deposits.is_empty() {
        return Ok(());
    }
    let (accounts, references): (Vec<Uuid>, Vec<String>) =
        wants.deposits.iter().map(|(account, reference)| (account.as_uuid(), reference.clone())).unzip();
    let rows = sqlx::query!(
        r#"
        select d.account_id, d.reference, d.amount
        from deposits d join unnest($1::uuid[], $2::text[]) w (account_id, reference)
            on d.account_id = w.account_id and d.reference = w.reference
        "#,
        &accounts,
        &references,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read deposits"))?;
    for row in rows {
        snapshot.deposits.insert((AccountId::new(row.account_id), row.reference), row.amount);
    }
    Ok(())
}

async fn withdrawals(conn: &mut PgConnection, wants: &Wants, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    if wants.withdrawals.is_empty() {
        return Ok(());
    }
    let (accounts, references): (Vec<Uuid>, Vec<String>) =
        wants.withdrawals.iter().map(|(account, reference)| (account.as_uuid(), reference.clone())).unzip();
    let rows = sqlx::query!(
        "select d.account_id, d.reference, d.amount
         from withdrawals d join unnest($1::uuid[], $2::text[]) w (account_id, reference)
             on d.account_id = w.account_id and d.reference = w.reference",
        &accounts,
        &references,
    )
    .fetch_all(conn)
    .await
    .map_err(failed("read withdrawals"))?;
    for row in rows {
        snapshot.withdrawals.insert((AccountId::new(row.account_id), row.reference), row.amount);
    }
    Ok(())
}

pub(super) fn order_ids(ids: impl IntoIterator<Item = OrderId>) -> Vec<Uuid> {
    ids.into_iter().map(OrderId::as_uuid).collect()
}
