//! What almost every batch writes: balances, new orders, journal lines and steps of orders. One
//! statement, because each costs a round trip and a fixed part that is more than that of a row.

use super::write::check_count;
use super::{corrupt, failed};
use crate::application::store::{Plan, StoreError, Transition};
use crate::domain::account::Account;
use crate::domain::journal::Line;
use crate::domain::order::Order;
use crate::domain::update::Update;
use rust_decimal::Decimal;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Writes them. The accounts' rows are locked, and have the versions that the plans were made from.
#[expect(clippy::too_many_lines, reason = "one statement, with a line a column")]
pub(super) async fn write(conn: &mut PgConnection, plans: &[Plan], now: OffsetDateTime) -> Result<(), StoreError> {
    let a = Accounts::of(plans.iter().map(|plan| &plan.account));
    #[cfg(oor_without_version_check)]
    let a = Accounts { versions: super::mutant::versions_now(conn, &a.ids).await?, ..a };
    let o = Orders::of(plans.iter().flat_map(|plan| plan.new_orders.values()));
    let l = Lines::of(plans.iter().flat_map(|plan| &plan.lines));
    let s = Steps::of(
        plans.iter().flat_map(|plan| plan.transitions.iter().map(|step| (plan.account.id.as_uuid(), step))),
        now,
    );
    let written = sqlx::query!(
        r#"
        with changed_account as (
            update accounts a
            set version = a.version + 1, cash_available = w.available, cash_held = w.held,
                cash_shortfall = w.shortfall, update_seq = w.update_seq, update_at = w.update_at
            from unnest($2::uuid[], $3::bigint[], $4::numeric[], $5::numeric[], $6::numeric[], $7::bigint[],
                        $8::timestamptz[])
                w (id, version, available, held, shortfall, update_seq, update_at)
            where a.id = w.id and a.version = w.version
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
            returning 1
        ),
        line as (
            insert into journal_lines (account_id, order_id, cause, cause_id, asset, debit, credit, amount, at)
            select w.*, $1 from unnest($32::uuid[], $33::uuid[], $34::text[], $35::uuid[], $36::text[], $37::text[],
                $38::text[], $39::numeric[]) w
            returning 1
        ),
        step as (
            insert into order_transitions (order_id, from_status, to_status, cause, cause_id, at, account_id,
                update_seq, event, filled_quantity, filled_notional, position_quantity)
            select * from unnest($40::uuid[], $41::text[], $42::text[], $43::text[], $44::uuid[], $45::timestamptz[],
                $46::uuid[], $47::bigint[], $48::text[], $49::numeric[], $50::numeric[], $51::numeric[])
            returning 1
        )
        select (select count(*) from changed_account) as "accounts!", (select count(*) from new_order) as "orders!",
               (select count(*) from line) as "lines!", (select count(*) from step) as "steps!"
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
    )
    .fetch_one(conn)
    .await
    .map_err(failed("write accounts, orders, journal lines and steps"))?;
    let count = |what, expected, actual| {
        let actual = u64::try_from(actual).map_err(|_| corrupt(what, "a negative count"))?;
        check_count(what, expected, actual)
    };
    count("write accounts", a.ids.len(), written.accounts)?;
    count("insert orders", o.ids.len(), written.orders)?;
    count("append journal lines", l.accounts.len(), written.lines)?;
    count("append transitions", s.orders.len(), written.steps)
}

#[derive(Default)]
pub(super) struct Accounts {
    pub(super) ids: Vec<Uuid>,
    pub(super) versions: Vec<i64>,
    pub(super) available: Vec<Decimal>,
    pub(super) held: Vec<Decimal>,
    pub(super) shortfall: Vec<Decimal>,
    pub(super) update_seqs: Vec<i64>,
    pub(super) update_times: Vec<OffsetDateTime>,
}

impl Accounts {
    pub(super) fn of<'a>(accounts: impl Iterator<Item = &'a Account>) -> Self {
        let mut c = Self::default();
        for account in accounts {
            c.ids.push(account.id.as_uuid());
            c.versions.push(account.version);
            c.available.push(account.cash.available);
            c.held.push(account.cash.held);
            c.shortfall.push(account.cash.shortfall);
            c.update_seqs.push(account.last_update.seq);
            c.update_times.push(account.last_update.at);
        }
        c
    }
}

#[derive(Default)]
pub(super) struct Orders {
    pub(super) ids: Vec<Uuid>,
    pub(super) accounts: Vec<Uuid>,
    pub(super) partitions: Vec<i16>,
    pub(super) client_order_ids: Vec<String>,
    pub(super) hashes: Vec<Vec<u8>>,
    pub(super) symbols: Vec<String>,
    pub(super) assets: Vec<Uuid>,
    pub(super) sides: Vec<String>,
    pub(super) types: Vec<String>,
    pub(super) times_in_force: Vec<String>,
    pub(super) quantities: Vec<Decimal>,
    pub(super) limits: Vec<Option<Decimal>>,
    pub(super) hold_prices: Vec<Decimal>,
    pub(super) submits: Vec<String>,
    pub(super) cancels: Vec<i32>,
    pub(super) hold_cash: Vec<Decimal>,
    pub(super) hold_shares: Vec<Decimal>,
    pub(super) statuses: Vec<String>,
    pub(super) closed: Vec<bool>,
    pub(super) accepted: Vec<OffsetDateTime>,
    pub(super) updated: Vec<OffsetDateTime>,
    pub(super) cancel_at: Vec<Option<OffsetDateTime>>,
    pub(super) ended: Vec<Option<OffsetDateTime>>,
}

impl Orders {
    pub(super) fn of<'a>(orders: impl Iterator<Item = &'a Order>) -> Self {
        let mut c = Self::default();
        for order in orders {
            c.ids.push(order.id.as_uuid());
            c.accounts.push(order.account_id.as_uuid());
            c.partitions.push(order.partition().number());
            c.client_order_ids.push(order.client_order_id.to_string());
            c.hashes.push(order.terms.hash().to_vec());
            c.symbols.push(order.terms.symbol().to_string());
            c.assets.push(order.asset_id);
            c.sides.push(order.terms.side().as_str().to_owned());
            c.types.push(order.terms.order_type().as_str().to_owned());
            c.times_in_force.push(order.terms.time_in_force().as_str().to_owned());
            c.quantities.push(order.terms.quantity().value());
            c.limits.push(order.terms.limit_price().map(|price| price.value()));
            c.hold_prices.push(order.hold_price);
            c.submits.push(order.facts.submit.as_str().to_owned());
            c.cancels.push(order.facts.cancel_requests);
            c.hold_cash.push(order.hold.cash);
            c.hold_shares.push(order.hold.shares);
            c.statuses.push(order.status().as_str().to_owned());
            c.closed.push(order.status().is_terminal());
            c.accepted.push(order.times.accepted);
            c.updated.push(order.times.updated);
            c.cancel_at.push(order.times.cancel_requested);
            c.ended.push(order.times.ended);
        }
        c
    }
}

#[derive(Default)]
pub(super) struct Lines {
    pub(super) accounts: Vec<Uuid>,
    pub(super) orders: Vec<Option<Uuid>>,
    pub(super) causes: Vec<String>,
    pub(super) cause_ids: Vec<Uuid>,
    pub(super) assets: Vec<String>,
    pub(super) debits: Vec<String>,
    pub(super) credits: Vec<String>,
    pub(super) amounts: Vec<Decimal>,
}

impl Lines {
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Line>) -> Self {
        let mut c = Self::default();
        for line in lines {
            c.accounts.push(line.account_id.as_uuid());
            c.orders.push(line.order_id.map(contracts::OrderId::as_uuid));
            c.causes.push(line.cause.kind.to_owned());
            c.cause_ids.push(line.cause.id);
            c.assets.push(line.asset.clone());
            c.debits.push(line.debit.as_str().to_owned());
            c.credits.push(line.credit.as_str().to_owned());
            c.amounts.push(line.amount);
        }
        c
    }
}

#[derive(Default)]
pub(super) struct Steps {
    pub(super) orders: Vec<Uuid>,
    pub(super) from: Vec<Option<String>>,
    pub(super) to: Vec<String>,
    pub(super) causes: Vec<String>,
    pub(super) cause_ids: Vec<Uuid>,
    pub(super) times: Vec<OffsetDateTime>,
    pub(super) owners: Vec<Option<Uuid>>,
    pub(super) seqs: Vec<Option<i64>>,
    pub(super) events: Vec<Option<String>>,
    pub(super) filled: Vec<Option<Decimal>>,
    pub(super) notionals: Vec<Option<Decimal>>,
    pub(super) positions: Vec<Option<Decimal>>,
}

impl Steps {
    pub(super) fn of<'a>(steps: impl Iterator<Item = (Uuid, &'a Transition)>, now: OffsetDateTime) -> Self {
        let mut c = Self::default();
        for (account, step) in steps {
            let told = told(step);
            c.orders.push(step.order_id.as_uuid());
            c.from.push(step.from.map(|status| status.as_str().to_owned()));
            c.to.push(step.to.as_str().to_owned());
            c.causes.push(step.cause.kind.to_owned());
            c.cause_ids.push(step.cause.id);
            c.times.push(told.map_or(now, |update| update.mark.at));
            c.owners.push(told.map(|_| account));
            c.seqs.push(told.map(|update| update.mark.seq));
            c.events.push(told.map(|update| update.event.as_str().to_owned()));
            c.filled.push(told.map(|update| update.filled_quantity).filter(|quantity| !quantity.is_zero()));
            c.notionals.push(told.map(|update| update.filled_notional).filter(|money| !money.is_zero()));
            c.positions.push(told.and_then(|update| update.position_quantity));
        }
        c
    }
}

/// What is told of a step. Nothing in the build without the version check: the numbers are unique and
/// would guard in its place.
fn told(step: &Transition) -> Option<Update> {
    step.update.filter(|_| !cfg!(oor_without_version_check))
}
