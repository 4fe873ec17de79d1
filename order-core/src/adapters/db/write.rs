//! Writing what a batch changes, set by set, one folded row an account. Row counts are checked: a
//! missing row is an error that rolls everything back, never a shrug.

use super::rows::execution_columns;
use super::{corrupt, failed, operators};
use crate::application::store::{Plan, StoreError, Transition};
use crate::domain::order::Order;
use crate::domain::update::Update;
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
    accounts(conn, plans).await?;
    positions(conn, plans).await?;
    new_orders(conn, plans).await?;
    changed_orders(conn, plans).await?;
    executions(conn, plans, now).await?;
    journal(conn, plans, now).await?;
    transitions(conn, plans, now).await?;
    refusals(conn, plans).await?;
    deposits(conn, plans, now).await?;
    operators::write(conn, plans, now).await
}

async fn accounts(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = plans.iter().map(|plan| plan.account.id.as_uuid()).collect();
    #[cfg(not(oor_without_version_check))]
    let versions: Vec<i64> = plans.iter().map(|plan| plan.account.version).collect();
    let available: Vec<Decimal> = plans.iter().map(|plan| plan.account.cash.available).collect();
    let held: Vec<Decimal> = plans.iter().map(|plan| plan.account.cash.held).collect();
    let shortfall: Vec<Decimal> = plans.iter().map(|plan| plan.account.cash.shortfall).collect();
    #[cfg(oor_without_version_check)]
    let versions = super::mutant::versions_now(conn, &ids).await?;
    let update_seqs: Vec<i64> = plans.iter().map(|plan| plan.account.last_update.seq).collect();
    let update_times: Vec<OffsetDateTime> = plans.iter().map(|plan| plan.account.last_update.at).collect();
    let done = sqlx::query!(
        "update accounts a
         set version = a.version + 1, cash_available = w.available, cash_held = w.held, cash_shortfall = w.shortfall,
             update_seq = w.update_seq, update_at = w.update_at
         from unnest($1::uuid[], $2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[], $6::bigint[],
                     $7::timestamptz[])
             w (id, version, available, held, shortfall, update_seq, update_at)
         where a.id = w.id and a.version = w.version",
        &ids,
        &versions,
        &available,
        &held,
        &shortfall,
        &update_seqs,
        &update_times,
    )
    .execute(conn)
    .await
    .map_err(failed("write accounts"))?;
    check_count("write accounts", plans.len(), done.rows_affected())
}

async fn positions(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let changed: Vec<_> = plans
        .iter()
        .flat_map(|plan| {
            let account = &plan.account;
            plan.changed_positions
                .iter()
                .filter_map(|symbol| Some((account.id.as_uuid(), symbol, account.positions.get(symbol)?)))
        })
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    let accounts: Vec<Uuid> = changed.iter().map(|(account, ..)| *account).collect();
    let symbols: Vec<String> = changed.iter().map(|(_, symbol, _)| symbol.to_string()).collect();
    let available: Vec<Decimal> = changed.iter().map(|(.., p)| p.shares.available).collect();
    let held: Vec<Decimal> = changed.iter().map(|(.., p)| p.shares.held).collect();
    let shortfall: Vec<Decimal> = changed.iter().map(|(.., p)| p.shares.shortfall).collect();
    let cost: Vec<Decimal> = changed.iter().map(|(.., p)| p.cost_basis).collect();
    let done = sqlx::query!(
        "insert into positions (account_id, symbol, shares_available, shares_held, shares_shortfall, cost_basis)
         select * from unnest($1::uuid[], $2::text[], $3::numeric[], $4::numeric[], $5::numeric[], $6::numeric[])
         on conflict (account_id, symbol) do update
         set shares_available = excluded.shares_available, shares_held = excluded.shares_held,
             shares_shortfall = excluded.shares_shortfall, cost_basis = excluded.cost_basis",
        &accounts,
        &symbols,
        &available,
        &held,
        &shortfall,
        &cost,
    )
    .execute(conn)
    .await
    .map_err(failed("write positions"))?;
    check_count("write positions", changed.len(), done.rows_affected())
}

async fn new_orders(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let orders: Vec<&Order> = plans.iter().flat_map(|plan| plan.new_orders.values()).collect();
    if orders.is_empty() {
        return Ok(());
    }
    let col = |f: fn(&Order) -> String| -> Vec<String> { orders.iter().map(|o| f(o)).collect() };
    let ids: Vec<Uuid> = orders.iter().map(|o| o.id.as_uuid()).collect();
    let accounts: Vec<Uuid> = orders.iter().map(|o| o.account_id.as_uuid()).collect();
    let partitions: Vec<i16> = orders.iter().map(|o| o.partition().number()).collect();
    let hashes: Vec<Vec<u8>> = orders.iter().map(|o| o.terms.hash().to_vec()).collect();
    let assets: Vec<Uuid> = orders.iter().map(|o| o.asset_id).collect();
    let quantities: Vec<Decimal> = orders.iter().map(|o| o.terms.quantity().value()).collect();
    let limits: Vec<Option<Decimal>> = orders.iter().map(|o| o.terms.limit_price().map(|p| p.value())).collect();
    let hold_prices: Vec<Decimal> = orders.iter().map(|o| o.hold_price).collect();
    let hold_cash: Vec<Decimal> = orders.iter().map(|o| o.hold.cash).collect();
    let hold_shares: Vec<Decimal> = orders.iter().map(|o| o.hold.shares).collect();
    let cancels: Vec<i32> = orders.iter().map(|o| o.facts.cancel_requests).collect();
    let closed: Vec<bool> = orders.iter().map(|o| o.status().is_terminal()).collect();
    let accepted: Vec<OffsetDateTime> = orders.iter().map(|o| o.times.accepted).collect();
    let updated: Vec<OffsetDateTime> = orders.iter().map(|o| o.times.updated).collect();
    let cancel_at: Vec<Option<OffsetDateTime>> = orders.iter().map(|o| o.times.cancel_requested).collect();
    let ended: Vec<Option<OffsetDateTime>> = orders.iter().map(|o| o.times.ended).collect();
    let done = sqlx::query!(
        "insert into orders (id, account_id, partition, client_order_id, terms_hash, symbol, asset_id, side, order_type,
             time_in_force, quantity, limit_price, hold_price, submit, cancel_requests, hold_cash, hold_shares, status,
             closed, accepted_at, updated_at, cancel_requested_at, ended_at)
         select * from unnest($1::uuid[], $2::uuid[], $3::smallint[], $4::text[], $5::bytea[], $6::text[], $7::uuid[],
             $8::text[], $9::text[], $10::text[], $11::numeric[], $12::numeric[], $13::numeric[], $14::text[],
             $15::integer[], $16::numeric[], $17::numeric[], $18::text[], $19::boolean[], $20::timestamptz[],
             $21::timestamptz[], $22::timestamptz[], $23::timestamptz[])",
        &ids,
        &accounts,
        &partitions,
        &col(|o| o.client_order_id.to_string()),
        &hashes,
        &col(|o| o.terms.symbol().to_string()),
        &assets,
        &col(|o| o.terms.side().as_str().to_owned()),
        &col(|o| o.terms.order_type().as_str().to_owned()),
        &col(|o| o.terms.time_in_force().as_str().to_owned()),
        &quantities,
        &limits as &[Option<Decimal>],
        &hold_prices,
        &col(|o| o.facts.submit.as_str().to_owned()),
        &cancels,
        &hold_cash,
        &hold_shares,
        &col(|o| o.status().as_str().to_owned()),
        &closed,
        &accepted,
        &updated,
        &cancel_at as &[Option<OffsetDateTime>],
        &ended as &[Option<OffsetDateTime>],
    )
    .execute(conn)
    .await
    .map_err(failed("insert orders"))?;
    check_count("insert orders", orders.len(), done.rows_affected())
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

async fn journal(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let lines: Vec<_> = plans.iter().flat_map(|plan| plan.lines.iter()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let accounts: Vec<Uuid> = lines.iter().map(|l| l.account_id.as_uuid()).collect();
    let orders: Vec<Option<Uuid>> = lines.iter().map(|l| l.order_id.map(contracts::OrderId::as_uuid)).collect();
    let causes: Vec<String> = lines.iter().map(|l| l.cause.kind.to_owned()).collect();
    let cause_ids: Vec<Uuid> = lines.iter().map(|l| l.cause.id).collect();
    let assets: Vec<String> = lines.iter().map(|l| l.asset.clone()).collect();
    let debits: Vec<String> = lines.iter().map(|l| l.debit.as_str().to_owned()).collect();
    let credits: Vec<String> = lines.iter().map(|l| l.credit.as_str().to_owned()).collect();
    let amounts: Vec<Decimal> = lines.iter().map(|l| l.amount).collect();
    let done = sqlx::query!(
        "insert into journal_lines (account_id, order_id, cause, cause_id, asset, debit, credit, amount, at)
         select w.*, $9 from unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[],
             $8::numeric[]) w",
        &accounts,
        &orders as &[Option<Uuid>],
        &causes,
        &cause_ids,
        &assets,
        &debits,
        &credits,
        &amounts,
        now,
    )
    .execute(conn)
    .await
    .map_err(failed("append journal lines"))?;
    check_count("append journal lines", lines.len(), done.rows_affected())
}

/// What is told of a step. Nothing in the build without the version check: the numbers are unique and
/// would guard in its place.
fn told(step: &Transition) -> Option<Update> {
    step.update.filter(|_| !cfg!(oor_without_version_check))
}

async fn transitions(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let rows: Vec<_> =
        plans.iter().flat_map(|plan| plan.transitions.iter().map(|step| (plan.account.id.as_uuid(), step))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let (accounts, rows): (Vec<Uuid>, Vec<&Transition>) = rows.into_iter().unzip();
    let orders: Vec<Uuid> = rows.iter().map(|t| t.order_id.as_uuid()).collect();
    let from: Vec<Option<String>> = rows.iter().map(|t| t.from.map(|status| status.as_str().to_owned())).collect();
    let to: Vec<String> = rows.iter().map(|t| t.to.as_str().to_owned()).collect();
    let causes: Vec<String> = rows.iter().map(|t| t.cause.kind.to_owned()).collect();
    let cause_ids: Vec<Uuid> = rows.iter().map(|t| t.cause.id).collect();
    let times: Vec<OffsetDateTime> = rows.iter().map(|t| told(t).map_or(now, |update| update.mark.at)).collect();
    let owners: Vec<Option<Uuid>> =
        accounts.iter().zip(&rows).map(|(account, t)| told(t).is_some().then_some(*account)).collect();
    let seqs: Vec<Option<i64>> = rows.iter().map(|t| told(t).map(|update| update.mark.seq)).collect();
    let events: Vec<Option<String>> =
        rows.iter().map(|t| told(t).map(|update| update.event.as_str().to_owned())).collect();
    let figure = |f: fn(&Update) -> Option<Decimal>| -> Vec<Option<Decimal>> {
        rows.iter().map(|t| told(t).as_ref().and_then(f)).collect()
    };
    let filled = figure(|u| Some(u.filled_quantity).filter(|quantity| !quantity.is_zero()));
    let notionals = figure(|u| Some(u.filled_notional).filter(|money| !money.is_zero()));
    let done = sqlx::query!(
        "insert into order_transitions (order_id, from_status, to_status, cause, cause_id, at, account_id, update_seq,
             event, filled_quantity, filled_notional, position_quantity)
         select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::uuid[], $6::timestamptz[],
             $7::uuid[], $8::bigint[], $9::text[], $10::numeric[], $11::numeric[], $12::numeric[])",
        &orders,
        &from as &[Option<String>],
        &to,
        &causes,
        &cause_ids,
        &times,
        &owners as &[Option<Uuid>],
        &seqs as &[Option<i64>],
        &events as &[Option<String>],
        &filled as &[Option<Decimal>],
        &notionals as &[Option<Decimal>],
        &figure(|u| u.position_quantity) as &[Option<Decimal>],
    )
    .execute(conn)
    .await
    .map_err(failed("append transitions"))?;
    check_count("append transitions", rows.len(), done.rows_affected())
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
