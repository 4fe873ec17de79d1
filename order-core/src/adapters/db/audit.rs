//! The invariants as queries, each listing what breaks it, all in one repeatable-read snapshot:
//! read one by one they would see different moments and cry wolf.

use super::{PgStore, errors};
use crate::application::audit::{Audit, Violation, finding};
use crate::application::query::QueryError;
use async_trait::async_trait;
use platform::invariants::{Inspector, LOG_GAPLESS, LOG_TAIL_LEN, Round, Turn, log_gaps, snapshot};
use sqlx::{PgConnection, Postgres, Transaction};
use std::error::Error;
use uuid::Uuid;

fn failed(source: sqlx::Error) -> QueryError {
    errors::failed("audit the books")(source)
}

#[async_trait]
impl Audit for PgStore {
    async fn audit(&self) -> Result<Vec<Violation>, QueryError> {
        let mut tx = self.snapshot().await?;
        sqlx::query!("set local statement_timeout = '60s'").execute(&mut *tx).await.map_err(failed)?;
        let mut found = of_accounts(&mut tx, None).await?;
        found.extend(of_all(&mut tx, None).await?);
        Ok(found)
    }
}

#[async_trait]
impl Inspector for PgStore {
    async fn inspect(&self, turn: Turn, len_max: u32) -> Result<Round, Box<dyn Error + Send + Sync>> {
        let mut tx = self.snapshot().await?;
        let accounts = match turn {
            Turn::Recent => in_use(&mut tx, len_max).await?,
            Turn::After(account) => next(&mut tx, account, len_max).await?,
        };
        let mut violations = of_accounts(&mut tx, Some(&accounts)).await?;
        violations.extend(of_all(&mut tx, Some(LOG_TAIL_LEN)).await?);
        Ok(Round { examined: accounts, findings: violations.into_iter().filter_map(finding).collect() })
    }

    async fn next_subject(&self, after: Uuid) -> Result<Option<Uuid>, Box<dyn Error + Send + Sync>> {
        let mut conn = self.pool.acquire().await?;
        Ok(next(&mut conn, after, 1).await?.first().copied())
    }
}

impl PgStore {
    /// One moment, whatever is committed meanwhile.
    async fn snapshot(&self) -> Result<Transaction<'static, Postgres>, QueryError> {
        let mut tx = snapshot(&self.pool).await.map_err(failed)?;
        // The same statement serves some accounts by index and all of them by a scan.
        sqlx::query!("set local plan_cache_mode = 'force_custom_plan'").execute(&mut *tx).await.map_err(failed)?;
        Ok(tx)
    }
}

/// What can be said of each account by itself; `only` these, or all.
async fn of_accounts(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Violation>, QueryError> {
    let mut found = Vec::new();
    found.extend(list("balance_is_journal_sum", balances(conn, only).await?));
    found.extend(list("journal_replay_never_overspends", replay(conn, only).await?));
    found.extend(list("held_is_what_orders_hold", holds(conn, only).await?));
    found.extend(list("order_executed_is_ledger_sum", executed(conn, only).await?));
    found.extend(list("doubt_ends_by_evidence", doubts(conn, only).await?));
    // The build for the proof tells no updates, and must fail for money alone.
    if !cfg!(oor_without_version_check) {
        found.extend(list("updates_are_gapless", updates(conn, only).await?));
    }
    Ok(found)
}

/// What belongs to no account; of the log all events, or its last ones.
async fn of_all(conn: &mut PgConnection, log_tail: Option<i64>) -> Result<Vec<Violation>, QueryError> {
    let mut found = Vec::new();
    found.extend(list("nothing_is_parked", parked(conn).await?));
    let gaps = log_gaps(conn, log_tail).await.map_err(failed)?;
    let gaps = gaps.into_iter().map(|detail| Line { account_id: None, detail }).collect();
    found.extend(list(LOG_GAPLESS.name, gaps));
    Ok(found)
}

/// Accounts of the newest orders.
async fn in_use(conn: &mut PgConnection, len_max: u32) -> Result<Vec<Uuid>, QueryError> {
    sqlx::query_scalar!(
        r#"select distinct account_id as "account_id!" from (
               select account_id from orders order by id desc limit $1
           ) newest"#,
        i64::from(len_max)
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

async fn next(conn: &mut PgConnection, after: Uuid, len_max: u32) -> Result<Vec<Uuid>, QueryError> {
    sqlx::query_scalar!("select id from accounts where id > $1 order by id limit $2", after, i64::from(len_max))
        .fetch_all(conn)
        .await
        .map_err(failed)
}

/// A line of an answer: the account, if it is one's, and what is wrong.
struct Line {
    account_id: Option<Uuid>,
    detail: String,
}

fn list(invariant: &'static str, lines: Vec<Line>) -> impl Iterator<Item = Violation> {
    lines.into_iter().map(move |Line { account_id, detail }| Violation { invariant, detail, account_id })
}

/// Each customer's bucket is what its journal lines add up to, in both directions.
async fn balances(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        with moved as (
            select account_id, asset, credit as ledger, amount from journal_lines
            where ($1::uuid[] is null or account_id = any($1))
            union all
            select account_id, asset, debit, -amount from journal_lines
            where ($1::uuid[] is null or account_id = any($1))
        ),
        summed as (
            select account_id, asset, ledger, sum(amount) as amount
            from moved where ledger in ('available', 'held', 'shortfall')
            group by 1, 2, 3
        ),
        stored as (
            select a.id as account_id, a.currency as asset, l.ledger, l.amount
            from accounts a cross join lateral (values ('available', a.cash_available), ('held', a.cash_held),
                ('shortfall', -a.cash_shortfall)) l (ledger, amount)
            where ($1::uuid[] is null or a.id = any($1))
            union all
            select p.account_id, p.symbol, l.ledger, l.amount
            from positions p cross join lateral (values ('available', p.shares_available), ('held', p.shares_held),
                ('shortfall', -p.shares_shortfall)) l (ledger, amount)
            where ($1::uuid[] is null or p.account_id = any($1))
        )
        select account_id, format('%s %s %s: stored %s, journal %s', account_id, asset, ledger, stored.amount, summed.amount) as "detail!"
        from summed full join stored using (account_id, asset, ledger)
        where coalesce(summed.amount, 0) <> coalesce(stored.amount, 0)
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// Read again line by line, nothing available and nothing held was ever below zero: at no moment did
/// executions and open holds come to more than what was paid in (a shortfall is a ledger of its own).
/// Lines of one cause take effect together.
async fn replay(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        with moved as (
            select id, account_id, asset, credit as ledger, amount, cause, cause_id from journal_lines
            where ($1::uuid[] is null or account_id = any($1))
            union all
            select id, account_id, asset, debit, -amount, cause, cause_id from journal_lines
            where ($1::uuid[] is null or account_id = any($1))
        ),
        steps as (
            select account_id, asset, ledger, cause, cause_id, max(id) as id, sum(amount) as amount
            from moved where ledger in ('available', 'held') group by 1, 2, 3, 4, 5
        ),
        running as (
            select *, sum(amount) over (partition by account_id, asset, ledger order by id) as balance from steps
        )
        select account_id, format('%s %s %s: %s after %s %s', account_id, asset, ledger, balance, cause, cause_id) as "detail!"
        from running where balance < 0
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// What accounts hold is what their orders hold, and an order at its end holds nothing.
async fn holds(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        with wanted as (
            select account_id, 'cash' as asset, sum(hold_cash) as amount from orders
            where ($1::uuid[] is null or account_id = any($1)) group by 1
            union all
            select account_id, symbol, sum(hold_shares) from orders
            where ($1::uuid[] is null or account_id = any($1)) group by 1, 2
        ),
        stored as (
            select id as account_id, 'cash' as asset, cash_held as amount from accounts
            where ($1::uuid[] is null or id = any($1))
            union all
            select account_id, symbol, shares_held from positions
            where ($1::uuid[] is null or account_id = any($1))
        )
        select account_id, format('%s %s: stored %s, orders %s', account_id, asset, stored.amount, wanted.amount) as "detail!"
        from wanted full join stored using (account_id, asset)
        where coalesce(wanted.amount, 0) <> coalesce(stored.amount, 0)
        union all
        select account_id, format('order %s is %s and holds %s cash, %s shares', id, status, hold_cash, hold_shares)
        from orders where closed and (hold_cash <> 0 or hold_shares <> 0)
          and ($1::uuid[] is null or account_id = any($1))
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// An order's executed figures are its ledger's sums (orders with busts or corrections are added up
/// by the domain's own function elsewhere).
async fn executed(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        with ledger as (
            select order_id, sum(quantity) as quantity, sum(quantity * price) as notional
            from executions
            where ($1::uuid[] is null or order_id = any(array(select id from orders where account_id = any($1))))
            group by order_id having bool_and(kind = 'fill')
        )
        select o.account_id, format('order %s: stored %s for %s, ledger %s for %s', o.id, o.net_quantity, o.net_notional,
                      l.quantity, l.notional) as "detail!"
        from orders o left join ledger l on l.order_id = o.id
        where ($1::uuid[] is null or o.account_id = any($1))
          and not exists (select 1 from executions e where e.order_id = o.id and e.kind <> 'fill')
          and (o.net_quantity <> coalesce(l.quantity, 0) or o.net_notional <> coalesce(l.notional, 0))
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// Every exit from doubt names an event of the gateway or of a broker as its cause.
async fn doubts(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        select o.account_id, format('order %s left doubt for %s because of %s', t.order_id, t.to_status, t.cause) as "detail!"
        from order_transitions t join orders o on o.id = t.order_id
        where ($1::uuid[] is null or t.order_id = any(array(select id from orders where account_id = any($1))))
          and from_status = 'in_doubt' and to_status <> 'in_doubt' and cause !~ '^(gateway|broker)\.'
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// A parked event is one that a customer's account lacks.
async fn parked(conn: &mut PgConnection) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        select null::uuid as account_id, format('%s/%s/%s of account %s: %s', producer, partition, seq, account_id, detail) as "detail!"
        from deferred where reason in ('poison', 'retry') limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// The updates of an account are numbered without a gap, up to the number that the account has, and
/// their times never go back.
async fn updates(conn: &mut PgConnection, only: Option<&[Uuid]>) -> Result<Vec<Line>, QueryError> {
    sqlx::query_as!(
        Line,
        r#"
        with told as (
            select account_id, count(*) as updates, max(update_seq) as last, bool_or(earlier > at) as back
            from (
                select account_id, update_seq, at,
                       lag(at) over (partition by account_id order by update_seq) as earlier
                from order_transitions
                where update_seq is not null and ($1::uuid[] is null or account_id = any($1))
            ) t
            group by account_id
        )
        select a.id as account_id, format('account %s: head %s, %s updates, last %s, times go back: %s', a.id, a.update_seq, t.updates,
                      t.last, t.back) as "detail!"
        from accounts a left join told t on t.account_id = a.id
        where (a.update_seq <> coalesce(t.updates, 0) or a.update_seq <> coalesce(t.last, 0) or t.back)
          and ($1::uuid[] is null or a.id = any($1))
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}
