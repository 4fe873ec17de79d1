//! Locks and reads requests.

use super::error::RowError;
use super::row::{AttemptRow, RequestRow};
use crate::application::ports::DatabaseMoment;
use crate::application::request::{Loaded, Request};
use crate::application::rules::ReviewHold;
use crate::domain::attempt::Attempt;
use crate::domain::state::State;
use contracts::OrderId;
use sqlx::PgConnection;
use std::collections::{HashMap, HashSet};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

/// Why requests could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("requests could not be locked")]
    Lock(#[source] sqlx::Error),
    #[error("what stands before new requests could not be read")]
    Queue(#[source] sqlx::Error),
    #[error("requests could not be read")]
    Read(#[source] sqlx::Error),
    #[error("attempts could not be read")]
    Attempts(#[source] sqlx::Error),
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Locks due requests that nobody else holds: cancels first, then questions, then sends.
///
/// With a hold, a send is left while its account has an attempt that should have ended or was
/// claimed before this process started, or a doubt that no lookup has answered since it began and
/// since the start. Nobody needs to have seen the end of such an attempt for that, so a copy that
/// knows nothing of a dead one holds back too.
pub(super) async fn lock_due(
    conn: &mut PgConnection,
    limit: u32,
    hold: Option<ReviewHold>,
) -> Result<Vec<Uuid>, LoadError> {
    let hold_ms = hold.map_or(0, |hold| i64::try_from(hold.hold_max.whole_milliseconds()).unwrap_or(i64::MAX));
    sqlx::query_scalar!(
        r#"
        select due.order_id
        from unnest(array[0, 1, 2]::smallint[]) as ranks (rank)
        cross join lateral (
            select r.order_id
            from requests r
            where r.due_rank = ranks.rank and r.due_at <= statement_timestamp()
                and (ranks.rank < 2 or not $2 or (
                    r.account_id not in (
                        select d.account_id from requests d
                        where d.unsettled_since is not null and d.state = 'doubt'
                            and (d.none_at is null or d.none_at < greatest(d.state_since, $3))
                            and greatest(d.state_since, $3)
                                > statement_timestamp() - $5::bigint * interval '1 millisecond'
                    )
                    and r.account_id not in (
                        select s.account_id from requests s
                        where s.due_rank = 1 and s.state = 'sending'
                            and s.due_at < greatest(statement_timestamp(), $4)
                    )
                ))
            order by r.due_at, r.order_id
            limit $1
            for update of r skip locked
        ) due
        limit $1
        "#,
        i64::from(limit),
        hold.is_some(),
        hold.map(|hold| hold.since),
        hold.map(|hold| hold.claimed_before_ends),
        hold_ms,
    )
    .fetch_all(conn)
    .await
    .map_err(LoadError::Lock)
}

/// What keeps new orders of some accounts from being claimed with their intake.
#[derive(Debug, Clone)]
pub struct Queue {
    /// The database's time.
    pub moment: DatabaseMoment,
    /// Something is due that nobody has claimed: new orders take their place behind it.
    pub is_long: bool,
    /// Accounts whose new orders wait for a doubt to be looked into.
    pub held: HashSet<Uuid>,
}

/// Reads it, by the rules of [`lock_due`]: what is due and not held back goes first, and an account may be held.
pub(super) async fn queue(
    conn: &mut PgConnection,
    accounts: &[Uuid],
    hold: Option<ReviewHold>,
) -> Result<Queue, LoadError> {
    let asked_at = Instant::now();
    let hold_ms = hold.map_or(0, |hold| i64::try_from(hold.hold_max.whole_milliseconds()).unwrap_or(i64::MAX));
    let row = sqlx::query!(
        r#"
        with held as materialized (
            select d.account_id from requests d
            where $2 and d.unsettled_since is not null and d.state = 'doubt'
                and (d.none_at is null or d.none_at < greatest(d.state_since, $3))
                and greatest(d.state_since, $3) > statement_timestamp() - $5::bigint * interval '1 millisecond'
            union all
            select s.account_id from requests s
            where $2 and s.due_rank = 1 and s.state = 'sending' and s.due_at < greatest(statement_timestamp(), $4)
        )
        select statement_timestamp() as "now!",
            exists (
                select 1 from unnest(array[0, 1, 2]::smallint[]) as ranks (rank)
                cross join lateral (
                    select 1 from requests r
                    where r.due_rank = ranks.rank and r.due_at <= statement_timestamp()
                        and (ranks.rank < 2 or r.account_id not in (select h.account_id from held h))
                    limit 1
                ) due
            ) as "is_long!",
            array(
                select a.id from unnest($1::uuid[]) as a (id) where a.id in (select h.account_id from held h)
            ) as "held!"
        "#,
        accounts,
        hold.is_some(),
        hold.map(|hold| hold.since),
        hold.map(|hold| hold.claimed_before_ends),
        hold_ms,
    )
    .fetch_one(conn)
    .await
    .map_err(LoadError::Queue)?;
    let moment = DatabaseMoment { at: row.now, asked_at };
    Ok(Queue { moment, is_long: row.is_long, held: row.held.into_iter().collect() })
}

/// Makes every doubt due that waits for its next lookup, some at a time. Answers the database's time
/// and whether there may be more.
pub(super) async fn wake_doubts(conn: &mut PgConnection) -> Result<(OffsetDateTime, bool), LoadError> {
    const LEN: i64 = 1000;
    let row = sqlx::query!(
        r#"
        with woken as (
            update requests set version = version + 1, due_at = statement_timestamp()
            where order_id in (
                select order_id from requests
                where unsettled_since is not null and state = 'doubt' and due_at > statement_timestamp()
                order by order_id limit $1 for update skip locked
            )
            returning 1
        )
        select statement_timestamp() as "at!", (select count(*) from woken) as "woken!"
        "#,
        LEN
    )
    .fetch_one(conn)
    .await
    .map_err(LoadError::Lock)?;
    Ok((row.at, row.woken >= LEN))
}

/// Locks requests by id, in the order that every transaction locks them in.
pub(super) async fn lock(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, LoadError> {
    sqlx::query_scalar!("select order_id from requests where order_id = any($1) order by order_id for update", ids)
        .fetch_all(conn)
        .await
        .map_err(LoadError::Lock)
}

/// Reads locked requests with the attempts that matter, and the database's time. The time is read
/// after the locks were had. A known attempt that is the only one of a request that is still being
/// sent is open in the database too, since its end would have changed the state: it is not read.
pub(super) async fn load(
    conn: &mut PgConnection,
    ids: &[Uuid],
    mut known: HashMap<OrderId, Attempt>,
) -> Result<(OffsetDateTime, Vec<Loaded>), LoadError> {
    let rows = sqlx::query_as!(
        RequestRow,
        r#"
        select statement_timestamp() as "now!", order_id, account_id, partition, broker, symbol, side, order_type,
            time_in_force, quantity, limit_price, traceparent, version, state, due_at, due_rank, attempts, valid_until,
            asked, asked_at, none_at, broker_order_id, broker_status, contradiction, cancel_requested,
            cancel_answered, cancel_tries, observe_requested, observe_answered, observe_tries
        from requests where order_id = any($1)
        "#,
        ids
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(LoadError::Read)?;
    let Some(now) = rows.first().map(|row| row.now) else {
        return Ok((OffsetDateTime::UNIX_EPOCH, Vec::new()));
    };
    let requests: Vec<Request> = rows.into_iter().map(Request::try_from).collect::<Result<_, _>>()?;
    let with_attempts: Vec<Uuid> = requests
        .iter()
        .filter(|request| request.attempts > 0 && !request.state.is_alive() && !is_only_known(request, &known))
        .map(|request| request.order_id.as_uuid())
        .collect();
    let mut attempts = load_attempts(conn, &with_attempts).await?;
    let mut loaded: HashMap<Uuid, Loaded> = requests
        .into_iter()
        .map(|request| {
            let of_request = match attempts.remove(&request.order_id) {
                Some(attempts) => attempts,
                None if is_only_known(&request, &known) => known.remove(&request.order_id).into_iter().collect(),
                None => Vec::new(),
            };
            (request.order_id.as_uuid(), (request, of_request))
        })
        .collect();
    // In the order that was asked for: the lane's order of urgency.
    Ok((now, ids.iter().filter_map(|id| loaded.remove(id)).collect()))
}

fn is_only_known(request: &Request, known: &HashMap<OrderId, Attempt>) -> bool {
    request.state == State::Sending
        && request.attempts == 1
        && known.get(&request.order_id).is_some_and(|attempt| attempt.number == 1)
}

async fn load_attempts(conn: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<OrderId, Vec<Attempt>>, LoadError> {
    let mut attempts: HashMap<OrderId, Vec<Attempt>> = HashMap::with_capacity(ids.len());
    if ids.is_empty() {
        return Ok(attempts);
    }
    let rows = sqlx::query_as!(
        AttemptRow,
        "select order_id, n, bytes_hash, claimed_at, give_up_at, outcome, ended_at, broker_code, detail
         from attempts where order_id = any($1) order by order_id, n",
        ids
    )
    .fetch_all(conn)
    .await
    .map_err(LoadError::Attempts)?;
    for row in rows {
        attempts.entry(OrderId::new(row.order_id)).or_default().push(row.try_into()?);
    }
    Ok(attempts)
}
