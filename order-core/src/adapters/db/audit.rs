//! The invariants as queries, each listing what breaks it, all in one repeatable-read snapshot:
//! read one by one they would see different moments and cry wolf.

use super::{PgStore, errors};
use crate::application::audit::{Audit, Violation};
use crate::application::query::QueryError;
use async_trait::async_trait;
use sqlx::PgConnection;

fn failed(source: sqlx::Error) -> QueryError {
    errors::failed("audit the books")(source)
}

#[async_trait]
impl Audit for PgStore {
    async fn audit(&self) -> Result<Vec<Violation>, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed)?;
        sqlx::query!("set transaction isolation level repeatable read, read only")
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
        sqlx::query!("set local statement_timeout = '60s'").execute(&mut *tx).await.map_err(failed)?;
        let mut found = Vec::new();
        found.extend(list("balance_is_journal_sum", balances(&mut tx).await?));
        found.extend(list("journal_replay_never_overspends", replay(&mut tx).await?));
        found.extend(list("held_is_what_orders_hold", holds(&mut tx).await?));
        found.extend(list("order_executed_is_ledger_sum", executed(&mut tx).await?));
        found.extend(list("doubt_ends_by_evidence", doubts(&mut tx).await?));
        found.extend(list("nothing_is_parked", parked(&mut tx).await?));
        found.extend(list("log_is_gapless", log(&mut tx).await?));
        // The build for the proof tells no updates, and must fail for money alone.
        if !cfg!(oor_without_version_check) {
            found.extend(list("updates_are_gapless", updates(&mut tx).await?));
        }
        Ok(found)
    }
}

fn list(invariant: &'static str, details: Vec<String>) -> impl Iterator<Item = Violation> {
    details.into_iter().map(move |detail| Violation { invariant, detail })
}

/// Each customer's bucket is what its journal lines add up to, in both directions.
async fn balances(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        with moved as (
            select account_id, asset, credit as ledger, amount from journal_lines
            union all
            select account_id, asset, debit, -amount from journal_lines
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
            union all
            select p.account_id, p.symbol, l.ledger, l.amount
            from positions p cross join lateral (values ('available', p.shares_available), ('held', p.shares_held),
                ('shortfall', -p.shares_shortfall)) l (ledger, amount)
        )
        select format('%s %s %s: stored %s, journal %s', account_id, asset, ledger, stored.amount, summed.amount) as "detail!"
        from summed full join stored using (account_id, asset, ledger)
        where coalesce(summed.amount, 0) <> coalesce(stored.amount, 0)
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// Read again line by line, nothing available and nothing held was ever below zero: at no moment did
/// executions and open holds come to more than what was paid in (a shortfall is a ledger of its own).
/// Lines of one cause take effect together.
async fn replay(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        with moved as (
            select id, account_id, asset, credit as ledger, amount, cause, cause_id from journal_lines
            union all
            select id, account_id, asset, debit, -amount, cause, cause_id from journal_lines
        ),
        steps as (
            select account_id, asset, ledger, cause, cause_id, max(id) as id, sum(amount) as amount
            from moved where ledger in ('available', 'held') group by 1, 2, 3, 4, 5
        ),
        running as (
            select *, sum(amount) over (partition by account_id, asset, ledger order by id) as balance from steps
        )
        select format('%s %s %s: %s after %s %s', account_id, asset, ledger, balance, cause, cause_id) as "detail!"
        from running where balance < 0
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// What accounts hold is what their orders hold, and an order at its end holds nothing.
async fn holds(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        with wanted as (
            select account_id, 'cash' as asset, sum(hold_cash) as amount from orders group by 1
            union all
            select account_id, symbol, sum(hold_shares) from orders group by 1, 2
        ),
        stored as (
            select id as account_id, 'cash' as asset, cash_held as amount from accounts
            union all
            select account_id, symbol, shares_held from positions
        )
        select format('%s %s: stored %s, orders %s', account_id, asset, stored.amount, wanted.amount) as "detail!"
        from wanted full join stored using (account_id, asset)
        where coalesce(wanted.amount, 0) <> coalesce(stored.amount, 0)
        union all
        select format('order %s is %s and holds %s cash, %s shares', id, status, hold_cash, hold_shares)
        from orders where closed and (hold_cash <> 0 or hold_shares <> 0)
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// An order's executed figures are its ledger's sums (orders with busts or corrections are added up
/// by the domain's own function elsewhere).
async fn executed(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        with ledger as (
            select order_id, sum(quantity) as quantity, sum(quantity * price) as notional
            from executions group by order_id having bool_and(kind = 'fill')
        )
        select format('order %s: stored %s for %s, ledger %s for %s', o.id, o.net_quantity, o.net_notional,
                      l.quantity, l.notional) as "detail!"
        from orders o left join ledger l on l.order_id = o.id
        where not exists (select 1 from executions e where e.order_id = o.id and e.kind <> 'fill')
          and (o.net_quantity <> coalesce(l.quantity, 0) or o.net_notional <> coalesce(l.notional, 0))
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// Every exit from doubt names an event of the gateway or of a broker as its cause.
async fn doubts(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        select format('order %s left doubt for %s because of %s', order_id, to_status, cause) as "detail!"
        from order_transitions
        where from_status = 'in_doubt' and to_status <> 'in_doubt' and cause !~ '^(gateway|broker)\.'
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// A parked event is one that a customer's account lacks.
async fn parked(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        select format('%s/%s/%s of account %s: %s', producer, partition, seq, account_id, detail) as "detail!"
        from deferred where reason = 'poison' limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// The event log has no gap, and its head is its last event.
async fn log(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        select format('partition %s: head %s, %s events, last %s', h.partition, h.seq, count(e.seq), max(e.seq)) as "detail!"
        from event_heads h left join event_log e on e.partition = h.partition
        group by h.partition, h.seq
        having h.seq <> count(e.seq) or h.seq <> coalesce(max(e.seq), 0)
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// The updates of an account are numbered without a gap, up to the number that the account has, and
/// their times never go back.
async fn updates(conn: &mut PgConnection) -> Result<Vec<String>, QueryError> {
    sqlx::query_scalar!(
        r#"
        with told as (
            select account_id, count(*) as updates, max(update_seq) as last, bool_or(earlier > at) as back
            from (
                select account_id, update_seq, at,
                       lag(at) over (partition by account_id order by update_seq) as earlier
                from order_transitions where update_seq is not null
            ) t
            group by account_id
        )
        select format('account %s: head %s, %s updates, last %s, times go back: %s', a.id, a.update_seq, t.updates,
                      t.last, t.back) as "detail!"
        from accounts a left join told t on t.account_id = a.id
        where a.update_seq <> coalesce(t.updates, 0) or a.update_seq <> coalesce(t.last, 0) or t.back
        limit 100
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}
