//! Writing what operators change of an account, beside its balances.

use super::write::check_count;
use super::{actions, failed};
use crate::application::store::{Plan, StoreError};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Writes halts, withdrawals and the record of both. The accounts are locked.
pub(super) async fn write(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    halts(conn, plans).await?;
    withdrawals(conn, plans, now).await?;
    let done: Vec<_> = plans.iter().flat_map(|plan| plan.actions.iter()).collect();
    actions::append(conn, &done, now).await.map_err(failed("record actions"))
}

async fn halts(conn: &mut PgConnection, plans: &[Plan]) -> Result<(), StoreError> {
    let changed: Vec<_> = plans.iter().filter(|plan| plan.halt_changed).map(|plan| &plan.account).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = changed.iter().map(|account| account.id.as_uuid()).collect();
    let reasons: Vec<Option<String>> = changed.iter().map(|account| account.halt_reason.clone()).collect();
    let done = sqlx::query!(
        "update accounts a set halt_reason = w.reason from unnest($1::uuid[], $2::text[]) w (id, reason)
         where a.id = w.id",
        &ids,
        &reasons as &[Option<String>],
    )
    .execute(conn)
    .await
    .map_err(failed("write halts of accounts"))?;
    check_count("write halts of accounts", changed.len(), done.rows_affected())
}

async fn withdrawals(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let rows: Vec<_> =
        plans.iter().flat_map(|plan| plan.withdrawals.iter().map(|row| (plan.account.id, row))).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let accounts: Vec<Uuid> = rows.iter().map(|(account, _)| account.as_uuid()).collect();
    let references: Vec<String> = rows.iter().map(|(_, (reference, _))| reference.clone()).collect();
    let amounts: Vec<Decimal> = rows.iter().map(|(_, (_, amount))| *amount).collect();
    let done = sqlx::query!(
        "insert into withdrawals (account_id, reference, amount, at)
         select w.*, $4 from unnest($1::uuid[], $2::text[], $3::numeric[]) w",
        &accounts,
        &references,
        &amounts,
        now,
    )
    .execute(conn)
    .await
    .map_err(failed("insert withdrawals"))?;
    check_count("insert withdrawals", rows.len(), done.rows_affected())
}
