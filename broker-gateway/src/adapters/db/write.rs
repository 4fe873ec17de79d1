//! Writes changes: set-based, each request only as it was read.

use super::error::RowError;
use super::text::clean;
use crate::application::change::Change;
use crate::domain::state::State;
use contracts::{BrokerOrderId, OrderId};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Why changes could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("requests could not be updated")]
    Requests(#[source] sqlx::Error),
    #[error("attempts could not be inserted")]
    NewAttempts(#[source] sqlx::Error),
    #[error("attempts could not be ended")]
    EndedAttempts(#[source] sqlx::Error),
    #[error("lookups could not be inserted")]
    Lookups(#[source] sqlx::Error),
    #[error("cancel calls could not be written")]
    Cancels(#[source] sqlx::Error),
    #[error("transitions could not be inserted")]
    Transitions(#[source] sqlx::Error),
    #[error(transparent)]
    Row(#[from] RowError),
}

/// Writes everything but the events.
pub(super) async fn write(conn: &mut PgConnection, now: OffsetDateTime, changes: &[Change]) -> Result<(), WriteError> {
    if changes.is_empty() {
        return Ok(());
    }
    update_requests(conn, now, changes).await?;
    insert_attempts(conn, changes).await?;
    end_attempts(conn, now, changes).await?;
    insert_lookups(conn, now, changes).await?;
    insert_cancels(conn, changes).await?;
    end_cancels(conn, now, changes).await?;
    insert_transitions(conn, now, changes).await
}

#[derive(Default)]
struct RequestColumns {
    ids: Vec<Uuid>,
    versions: Vec<i64>,
    states: Vec<String>,
    causes: Vec<Option<String>>,
    due_at: Vec<Option<OffsetDateTime>>,
    due_rank: Vec<i16>,
    attempts: Vec<i32>,
    valid_until: Vec<Option<OffsetDateTime>>,
    asked: Vec<i32>,
    asked_at: Vec<Option<OffsetDateTime>>,
    none_at: Vec<Option<OffsetDateTime>>,
    broker_order_ids: Vec<Option<String>>,
    broker_statuses: Vec<Option<String>>,
    contradictions: Vec<Option<String>>,
    cancel_requested: Vec<i32>,
    cancel_answered: Vec<i32>,
    cancel_tries: Vec<i32>,
    observe_requested: Vec<i32>,
    observe_answered: Vec<i32>,
    observe_tries: Vec<i32>,
}

impl RequestColumns {
    fn of<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        let mut columns = Self::default();
        for change in changes {
            let request = &change.request;
            columns.ids.push(request.order_id.as_uuid());
            columns.versions.push(request.version);
            columns.states.push(request.state.as_str().to_owned());
            columns.causes.push(change.cause.as_deref().map(clean));
            columns.due_at.push(request.due.map(|due| due.at));
            columns.due_rank.push(request.due.map_or(2, |due| due.rank.number()));
            columns.attempts.push(request.attempts);
            columns.valid_until.push(request.valid_until);
            columns.asked.push(i32::try_from(request.asked.count).unwrap_or(i32::MAX));
            columns.asked_at.push(request.asked.last_began_at);
            columns.none_at.push(request.asked.last_none_began_at);
            columns.broker_order_ids.push(request.broker_order_id.as_ref().map(ToString::to_string));
            columns.broker_statuses.push(request.broker_status.as_deref().map(clean));
            columns.contradictions.push(request.contradiction.as_deref().map(clean));
            columns.cancel_requested.push(request.cancel.requested);
            columns.cancel_answered.push(request.cancel.answered);
            columns.cancel_tries.push(request.cancel.tries);
            columns.observe_requested.push(request.observe.requested);
            columns.observe_answered.push(request.observe.answered);
            columns.observe_tries.push(request.observe.tries);
        }
        columns
    }
}

async fn update_requests(conn: &mut PgConnection, now: OffsetDateTime, changes: &[Change]) -> Result<(), WriteError> {
    let c = RequestColumns::of(changes.iter().filter(|change| change.is_of_request()));
    if c.ids.is_empty() {
        return Ok(());
    }
    let done = sqlx::query!(
        r#"
        update requests r set
            version = r.version + 1, state = u.state, cause = coalesce(u.cause, r.cause),
            state_since = case when r.state = u.state then r.state_since else $21 end,
            due_at = u.due_at, due_rank = u.due_rank, attempts = u.attempts, valid_until = u.valid_until,
            asked = u.asked, asked_at = u.asked_at, none_at = u.none_at, broker_order_id = u.broker_order_id,
            broker_status = u.broker_status, contradiction = u.contradiction,
            cancel_requested = u.cancel_requested, cancel_answered = u.cancel_answered,
            cancel_tries = u.cancel_tries, observe_requested = u.observe_requested,
            observe_answered = u.observe_answered, observe_tries = u.observe_tries
        from unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::smallint[],
            $7::int[], $8::timestamptz[], $9::int[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[],
            $14::text[], $15::int[], $16::int[], $17::int[], $18::int[], $19::int[], $20::int[])
            as u (order_id, version, state, cause, due_at, due_rank, attempts, valid_until, asked, asked_at, none_at,
            broker_order_id, broker_status, contradiction, cancel_requested, cancel_answered, cancel_tries,
            observe_requested, observe_answered, observe_tries)
        where r.order_id = u.order_id and r.version = u.version
        "#,
        &c.ids,
        &c.versions,
        &c.states,
        &c.causes as &[Option<String>],
        &c.due_at as &[Option<OffsetDateTime>],
        &c.due_rank,
        &c.attempts,
        &c.valid_until as &[Option<OffsetDateTime>],
        &c.asked,
        &c.asked_at as &[Option<OffsetDateTime>],
        &c.none_at as &[Option<OffsetDateTime>],
        &c.broker_order_ids as &[Option<String>],
        &c.broker_statuses as &[Option<String>],
        &c.contradictions as &[Option<String>],
        &c.cancel_requested,
        &c.cancel_answered,
        &c.cancel_tries,
        &c.observe_requested,
        &c.observe_answered,
        &c.observe_tries,
        now,
    )
    .execute(conn)
    .await
    .map_err(WriteError::Requests)?;
    expect_rows(c.ids.len(), done.rows_affected())
}

fn expect_rows(expected: usize, actual: u64) -> Result<(), WriteError> {
    if usize::try_from(actual) == Ok(expected) { Ok(()) } else { Err(RowError::Moved { expected, actual }.into()) }
}

pub(super) async fn insert_attempts(conn: &mut PgConnection, changes: &[Change]) -> Result<(), WriteError> {
    let new: Vec<_> = changes
        .iter()
        .filter_map(|change| change.new_attempt.as_ref().map(|attempt| (&change.request, attempt)))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    platform::kill_point!("broker-gateway.before-attempt");
    let ids: Vec<Uuid> = new.iter().map(|(request, _)| request.order_id.as_uuid()).collect();
    let numbers: Vec<i32> = new.iter().map(|(_, attempt)| attempt.number).collect();
    let keys: Vec<String> = new.iter().map(|(request, _)| request.key().to_string()).collect();
    let hashes: Vec<Vec<u8>> = new.iter().map(|(_, attempt)| attempt.bytes_hash.to_vec()).collect();
    let valid_until: Vec<Option<OffsetDateTime>> = new.iter().map(|(request, _)| request.valid_until).collect();
    let claimed_at: Vec<OffsetDateTime> = new.iter().map(|(_, attempt)| attempt.claimed_at).collect();
    let send_before: Vec<OffsetDateTime> = new.iter().map(|(_, attempt)| attempt.send_before).collect();
    let give_up_at: Vec<OffsetDateTime> = new.iter().map(|(_, attempt)| attempt.give_up_at).collect();
    sqlx::query!(
        "insert into attempts (order_id, n, broker_key, bytes_hash, valid_until, claimed_at, send_before, give_up_at)
         select order_id, n, broker_key, bytes_hash, valid_until, claimed_at, send_before, give_up_at
         from unnest($1::uuid[], $2::int[], $3::text[], $4::bytea[], $5::timestamptz[], $6::timestamptz[],
             $7::timestamptz[], $8::timestamptz[])
             as u (order_id, n, broker_key, bytes_hash, valid_until, claimed_at, send_before, give_up_at)",
        &ids,
        &numbers,
        &keys,
        &hashes,
        &valid_until as &[Option<OffsetDateTime>],
        &claimed_at,
        &send_before,
        &give_up_at,
    )
    .execute(conn)
    .await
    .map_err(WriteError::NewAttempts)?;
    Ok(())
}

#[derive(Default)]
struct EndColumns {
    ids: Vec<Uuid>,
    numbers: Vec<i32>,
    outcomes: Vec<String>,
    statuses: Vec<Option<i16>>,
    codes: Vec<Option<i64>>,
    details: Vec<Option<String>>,
    durations: Vec<Option<i64>>,
}

fn small(status: Option<u16>) -> Option<i16> {
    status.and_then(|status| i16::try_from(status).ok())
}

async fn end_attempts(conn: &mut PgConnection, now: OffsetDateTime, changes: &[Change]) -> Result<(), WriteError> {
    let mut c = EndColumns::default();
    for change in changes {
        let id = change.request.order_id.as_uuid();
        // An attempt may expire and then get its late result in one change: the result counts.
        let late = |n: &i32| change.ended_attempts.iter().any(|ended| ended.number == *n);
        for number in change.expired_attempts.iter().filter(|n| !late(n)) {
            c.ids.push(id);
            c.numbers.push(*number);
            c.outcomes.push("unknown".to_owned());
            c.statuses.push(None);
            c.codes.push(None);
            c.details.push(Some("no result by the deadline".to_owned()));
            c.durations.push(None);
        }
        for ended in &change.ended_attempts {
            c.ids.push(id);
            c.numbers.push(ended.number);
            c.outcomes.push(ended.outcome.to_owned());
            c.statuses.push(small(ended.trace.http_status));
            c.codes.push(ended.trace.broker_code);
            c.details.push(ended.trace.detail.as_deref().map(clean));
            c.durations.push(ended.trace.duration_us);
        }
    }
    if c.ids.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update attempts a set outcome = u.outcome, ended_at = $8, http_status = u.http_status,
             broker_code = u.broker_code, detail = u.detail, duration_us = u.duration_us
         from unnest($1::uuid[], $2::int[], $3::text[], $4::smallint[], $5::bigint[], $6::text[], $7::bigint[])
             as u (order_id, n, outcome, http_status, broker_code, detail, duration_us)
         where a.order_id = u.order_id and a.n = u.n and (a.outcome is null or a.outcome = 'unknown')",
        &c.ids,
        &c.numbers,
        &c.outcomes,
        &c.statuses as &[Option<i16>],
        &c.codes as &[Option<i64>],
        &c.details as &[Option<String>],
        &c.durations as &[Option<i64>],
        now,
    )
    .execute(conn)
    .await
    .map_err(WriteError::EndedAttempts)?;
    Ok(())
}

async fn insert_lookups(conn: &mut PgConnection, now: OffsetDateTime, changes: &[Change]) -> Result<(), WriteError> {
    // Rare beside attempts: one statement each, bounded by the batch.
    for change in changes {
        for lookup in &change.ended_lookups {
            let (found_id, found_status) = match &lookup.found {
                Some((id, status)) => (Some(clean(id)), Some(clean(status))),
                None => (None, None),
            };
            sqlx::query!(
                "insert into lookups (order_id, n, by, began_at, ended_at, outcome, http_status, broker_order_id,
                     broker_status, detail)
                 values ($1, (select coalesce(max(n), 0) + 1 from lookups where order_id = $1), $2, $3, $4, $5, $6, $7,
                     $8, $9)",
                change.request.order_id.as_uuid(),
                if lookup.by_key { "key" } else { "broker_order_id" },
                lookup.began_at,
                now,
                lookup.outcome,
                small(lookup.trace.http_status),
                found_id,
                found_status,
                lookup.trace.detail.as_deref().map(clean),
            )
            .execute(&mut *conn)
            .await
            .map_err(WriteError::Lookups)?;
        }
    }
    Ok(())
}

async fn insert_cancels(conn: &mut PgConnection, changes: &[Change]) -> Result<(), WriteError> {
    let new: Vec<_> = changes
        .iter()
        .filter_map(|change| change.new_cancel.as_ref().map(|cancel| (change.request.order_id, cancel)))
        .collect();
    if new.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = new.iter().map(|(id, _)| OrderId::as_uuid(*id)).collect();
    let requests: Vec<i32> = new.iter().map(|(_, cancel)| cancel.request).collect();
    let broker_ids: Vec<String> =
        new.iter().map(|(_, cancel)| BrokerOrderId::to_string(&cancel.broker_order_id)).collect();
    let claimed_at: Vec<OffsetDateTime> = new.iter().map(|(_, cancel)| cancel.claimed_at).collect();
    let give_up_at: Vec<OffsetDateTime> = new.iter().map(|(_, cancel)| cancel.give_up_at).collect();
    sqlx::query!(
        "insert into cancel_attempts (order_id, n, request, broker_order_id, claimed_at, give_up_at)
         select u.order_id, (select coalesce(max(c.n), 0) + 1 from cancel_attempts c where c.order_id = u.order_id),
             u.request, u.broker_order_id, u.claimed_at, u.give_up_at
         from unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::timestamptz[])
             as u (order_id, request, broker_order_id, claimed_at, give_up_at)",
        &ids,
        &requests,
        &broker_ids,
        &claimed_at,
        &give_up_at,
    )
    .execute(conn)
    .await
    .map_err(WriteError::Cancels)?;
    Ok(())
}

async fn end_cancels(conn: &mut PgConnection, now: OffsetDateTime, changes: &[Change]) -> Result<(), WriteError> {
    for change in changes {
        for ended in &change.ended_cancels {
            sqlx::query!(
                "update cancel_attempts set outcome = $3, ended_at = $4, http_status = $5, broker_code = $6, detail = $7
                 where order_id = $1 and claimed_at = $2 and outcome is null",
                change.request.order_id.as_uuid(),
                ended.claimed_at,
                ended.outcome,
                now,
                small(ended.trace.http_status),
                ended.trace.broker_code,
                ended.trace.detail.as_deref().map(clean),
            )
            .execute(&mut *conn)
            .await
            .map_err(WriteError::Cancels)?;
        }
    }
    Ok(())
}

async fn insert_transitions(
    conn: &mut PgConnection,
    now: OffsetDateTime,
    changes: &[Change],
) -> Result<(), WriteError> {
    let is_doubt = |state: State| matches!(state, State::Doubt | State::Manual);
    for change in changes {
        let (from, to) = (change.before.state, change.request.state);
        let matters = from != to && (is_doubt(from) || is_doubt(to) || from.is_end_without_life());
        let Some(cause) = change.cause.as_deref().filter(|_| matters) else {
            continue;
        };
        sqlx::query!(
            "insert into transitions (order_id, version, from_state, to_state, cause, at)
             values ($1, $2, $3, $4, $5, $6)",
            change.request.order_id.as_uuid(),
            change.request.version.saturating_add(1),
            from.as_str(),
            to.as_str(),
            clean(cause),
            now,
        )
        .execute(&mut *conn)
        .await
        .map_err(WriteError::Transitions)?;
    }
    Ok(())
}
