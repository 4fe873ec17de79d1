//! A batch that meets nobody, in one statement and so in one round trip: the winners, what they write, their
//! events, the commit. What costs a transaction most is paid for each statement and each wait, whatever it carries.
//!
//! It does what [`super::transaction`] does statement by statement, in the same order of locks: accounts by their
//! ids, skipping what others hold; the rows of the log's heads after everything is written. Where one account has
//! lost its version, nothing is written, and the caller goes the longer way, which lets its neighbours win.

use super::entries::{Accounts, Lines, Orders, Steps};
use super::failed;
use super::write::Positions;
use crate::application::store::{Plan, StoreError};
use contracts::AccountId;
use contracts::event::{Envelope, Producer};
use platform::eventlog::{self, NewEvent};
use rust_decimal::Decimal;
use sqlx::PgConnection;
use std::collections::BTreeMap;
use time::OffsetDateTime;
use uuid::Uuid;

/// Whether all that these plans change can be written so: new orders, money, holdings and events.
pub(super) fn fits(plans: &[Plan]) -> bool {
    // The proof that tests notice a missing version check needs the writes one by one.
    !cfg!(oor_without_version_check)
        && plans.iter().all(|plan| {
            plan.changed_orders.is_empty()
                && plan.executions.is_empty()
                && plan.refusals.is_empty()
                && plan.deposits.is_empty()
                && plan.withdrawals.is_empty()
                && plan.actions.is_empty()
                && !plan.halt_changed
        })
}

/// Writes and commits; none when an account has lost its version and so nothing was written.
#[expect(clippy::too_many_lines, reason = "one statement, with a line a column")]
pub(super) async fn write(
    conn: &mut PgConnection,
    plans: &[Plan],
    versions: &BTreeMap<AccountId, i64>,
    events: Vec<NewEvent>,
    now: OffsetDateTime,
) -> Result<Option<Vec<Envelope>>, StoreError> {
    // In the order of their ids, as everybody locks them.
    let by_id: BTreeMap<AccountId, &Plan> = plans.iter().map(|plan| (plan.account.id, plan)).collect();
    if by_id.len() != plans.len() || !by_id.keys().eq(versions.keys()) {
        return Ok(None);
    }
    let a = Accounts::of(by_id.values().map(|plan| &plan.account));
    let o = Orders::of(plans.iter().flat_map(|plan| plan.new_orders.values()));
    let l = Lines::of(plans.iter().flat_map(|plan| &plan.lines));
    let s = Steps::of(
        plans.iter().flat_map(|plan| plan.transitions.iter().map(|step| (plan.account.id.as_uuid(), step))),
        now,
    );
    let h = Positions::of(plans);
    let e = eventlog::Columns::of(&events);
    let rows =
        [a.ids.len(), o.ids.len(), l.accounts.len(), s.orders.len(), h.accounts.len()].into_iter().sum::<usize>();
    let rows = i64::try_from(rows).unwrap_or(i64::MAX);
    let written = sqlx::query!(
        r#"
        with won as materialized (
            select a.id from accounts a join unnest($2::uuid[], $3::bigint[]) w (id, version) on a.id = w.id
            where a.version = w.version
            order by a.id
            for no key update of a skip locked
        ),
        ours as materialized (
            select count(*) = cardinality($2::uuid[]) as yes from won
        ),
        changed_account as (
            update accounts a
            set version = a.version + 1, cash_available = w.available, cash_held = w.held,
                cash_shortfall = w.shortfall, update_seq = w.update_seq, update_at = w.update_at
            from unnest($2::uuid[], $3::bigint[], $4::numeric[], $5::numeric[], $6::numeric[], $7::bigint[],
                        $8::timestamptz[])
                w (id, version, available, held, shortfall, update_seq, update_at)
            where a.id = w.id and a.version = w.version and (select yes from ours)
            returning 1
        ),
        new_order as (
            insert into orders (id, account_id, partition, client_order_id, terms_hash, symbol, asset_id, side,
                order_type, time_in_force, quantity, limit_price, hold_price, submit, cancel_requests, hold_cash,
                hold_shares, status, closed, accepted_at, updated_at, cancel_requested_at, ended_at)
            select * from unnest($9::uuid[], $10::uuid[], $11::smallint[], $12::text[], $13::bytea[], $14::text[],
                $15::uuid[], $16::text[], $17::text[], $18::text[], $19::numeric[], $20::numeric[], $21::numeric[],
                $22::text[], $23::integer[], $24::numeric[], $25::numeric[], $26::text[], $27::boolean[],
                $28::timestamptz[], $29::timestamptz[], $30::timestamptz[], $31::timestamptz[])
            where (select yes from ours)
            returning 1
        ),
        line as (
            insert into journal_lines (account_id, order_id, cause, cause_id, asset, debit, credit, amount, at)
            select w.*, $1 from unnest($32::uuid[], $33::uuid[], $34::text[], $35::uuid[], $36::text[], $37::text[],
                $38::text[], $39::numeric[]) w
            where (select yes from ours)
            returning 1
        ),
        step as (
            insert into order_transitions (order_id, from_status, to_status, cause, cause_id, at, account_id,
                update_seq, event, filled_quantity, filled_notional, position_quantity)
            select * from unnest($40::uuid[], $41::text[], $42::text[], $43::text[], $44::uuid[], $45::timestamptz[],
                $46::uuid[], $47::bigint[], $48::text[], $49::numeric[], $50::numeric[], $51::numeric[])
            where (select yes from ours)
            returning 1
        ),
        holding as (
            insert into positions (account_id, symbol, shares_available, shares_held, shares_shortfall, cost_basis)
            select * from unnest($52::uuid[], $53::text[], $54::numeric[], $55::numeric[], $56::numeric[], $57::numeric[])
            where (select yes from ours)
            on conflict (account_id, symbol) do update
            set shares_available = excluded.shares_available, shares_held = excluded.shares_held,
                shares_shortfall = excluded.shares_shortfall, cost_basis = excluded.cost_basis
            returning 1
        ),
        new_event as (
            select *
            from unnest($58::smallint[], $59::bigint[], $60::uuid[], $61::uuid[], $62::text[], $63::smallint[],
                        $64::uuid[], $65::uuid[], $66::timestamptz[], $67::text[], $68::text[])
                as e (partition, ordinal, event_id, prev_id, type, version, account_id, order_id, at, traceparent, payload)
        ),
        last_event as (
            select distinct on (partition) partition, ordinal, event_id
            from new_event
            order by partition, ordinal desc
        ),
        written as materialized (
            select (select count(*) from changed_account) + (select count(*) from new_order) + (select count(*) from line)
                 + (select count(*) from step) + (select count(*) from holding) as rows
        ),
        head as (
            select h.partition, h.seq, h.event_id
            from event_heads h
            where h.partition in (select partition from last_event) and (select yes from ours) and (select rows from written) > 0
            order by h.partition
            for no key update of h
        ),
        moved as (
            update event_heads h
            set seq = head.seq + l.ordinal, event_id = l.event_id
            from head join last_event l on l.partition = head.partition
            where h.partition = head.partition
            returning h.partition
        ),
        logged as (
            insert into event_log (partition, seq, event_id, prev_id, type, version, account_id, order_id, at, traceparent, payload)
            select e.partition, head.seq + e.ordinal, e.event_id, coalesce(e.prev_id, head.event_id), e.type, e.version,
                   e.account_id, e.order_id, e.at, e.traceparent, e.payload
            from new_event e
            join head on head.partition = e.partition
            join moved on moved.partition = e.partition
            returning event_id, seq, prev_id
        )
        select (select yes from ours) as "ours!", p.ids, p.seqs, p.previous as "previous: Vec<Option<Uuid>>",
               -- A missing row is an error, which takes everything back.
               1 / case when (select rows from written) = case when (select yes from ours) then $69::bigint else 0 end
                         and p.count = case when (select yes from ours) then cardinality($60::uuid[]) else 0 end
                        then 1 else 0 end as "complete!"
        from (select count(*) as count, array_agg(event_id order by event_id) as ids,
                     array_agg(seq order by event_id) as seqs, array_agg(prev_id order by event_id) as previous
              from logged) p
        "#,
        now,
        &a.ids,
        &a.versions,
        &a.available,
        &a.held,
        &a.shortfall,
        &a.update_seqs,
        &a.update_times,
        &o.ids,
        &o.accounts,
        &o.partitions,
        &o.client_order_ids,
        &o.hashes,
        &o.symbols,
        &o.assets,
        &o.sides,
        &o.types,
        &o.times_in_force,
        &o.quantities,
        &o.limits as &[Option<Decimal>],
        &o.hold_prices,
        &o.submits,
        &o.cancels,
        &o.hold_cash,
        &o.hold_shares,
        &o.statuses,
        &o.closed,
        &o.accepted,
        &o.updated,
        &o.cancel_at as &[Option<OffsetDateTime>],
        &o.ended as &[Option<OffsetDateTime>],
        &l.accounts,
        &l.orders as &[Option<Uuid>],
        &l.causes,
        &l.cause_ids,
        &l.assets,
        &l.debits,
        &l.credits,
        &l.amounts,
        &s.orders,
        &s.from as &[Option<String>],
        &s.to,
        &s.causes,
        &s.cause_ids,
        &s.times,
        &s.owners as &[Option<Uuid>],
        &s.seqs as &[Option<i64>],
        &s.events as &[Option<String>],
        &s.filled as &[Option<Decimal>],
        &s.notionals as &[Option<Decimal>],
        &s.positions as &[Option<Decimal>],
        &h.accounts,
        &h.symbols,
        &h.available,
        &h.held,
        &h.shortfall,
        &h.cost,
        &e.partitions,
        &e.ordinals,
        &e.ids,
        &e.previous as &[Option<Uuid>],
        &e.kinds,
        &e.versions,
        &e.accounts as &[Option<Uuid>],
        &e.orders as &[Option<Uuid>],
        &e.times,
        &e.traces as &[Option<String>],
        &e.payloads,
        rows,
    )
    .fetch_one(conn)
    .await
    .map_err(unless_refused)?;
    if !written.ours {
        return Ok(None);
    }
    let (ids, seqs, previous) =
        (written.ids.unwrap_or_default(), written.seqs.unwrap_or_default(), written.previous.unwrap_or_default());
    let places = ids.into_iter().zip(seqs).zip(previous).map(|((id, seq), previous)| (id, seq, previous));
    let placed = eventlog::placed(Producer::OrderCore, events, places);
    // It is committed; only nobody can say where its events stand. Whoever looks it up finds it.
    placed.map(Some).map_err(|e| StoreError::CommitUnknown { source: Box::new(e) })
}

/// Classes of SQLSTATE that a server says of a statement that it has taken back: data, integrity, transaction
/// rollback (deadlock, serialization), syntax and access, resources, limits, state of objects.
const REFUSALS: [&str; 7] = ["22", "23", "40", "42", "53", "54", "55"];
/// A statement that was cancelled, such as by its time limit, which cannot strike after the commit.
const CANCELED: &str = "57014";
/// Of those classes, the one that says that nobody knows.
const COMPLETION_UNKNOWN: &str = "40003";

/// The commit is part of the statement, so only what the server itself refused is known not to have happened.
fn unless_refused(error: sqlx::Error) -> StoreError {
    let code = error.as_database_error().and_then(|e| e.code().map(std::borrow::Cow::into_owned)).unwrap_or_default();
    if code == CANCELED || code != COMPLETION_UNKNOWN && REFUSALS.iter().any(|class| code.starts_with(class)) {
        return failed("write and commit a batch")(error);
    }
    StoreError::CommitUnknown { source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_does_not_come_from_the_server_leaves_the_commit_unknown() {
        for error in [sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()), sqlx::Error::WorkerCrashed] {
            assert!(matches!(unless_refused(error), StoreError::CommitUnknown { .. }));
        }
    }
}
