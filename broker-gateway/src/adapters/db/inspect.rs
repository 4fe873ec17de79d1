//! The invariants of the gateway as queries over some requests, in one snapshot.

use super::store::PgStore;
use crate::application::ports::StoreError;
use async_trait::async_trait;
use platform::invariants::{Check, Finding, Inspector, LOG_GAPLESS, Round, Turn, log_findings, snapshot};
use sqlx::PgConnection;
use std::error::Error;
use std::sync::Arc;
use uuid::Uuid;

const ONE_BROKER_ORDER: Check = Check { invariant: "I2", name: "request_has_one_broker_order" };
const ONE_SENDING: Check = Check { invariant: "I2", name: "sent_again_only_under_enforced_key" };
const ENDED_ALIVE: Check = Check { invariant: "I6", name: "ended_without_life_never_filled" };
const ENDED_BY_SILENCE: Check = Check { invariant: "I7", name: "doubt_ends_by_evidence" };
const NO_POISON: Check = Check { invariant: "I8", name: "nothing_is_poison" };

/// What is checked.
pub const CHECKS: &[Check] = &[ONE_BROKER_ORDER, ONE_SENDING, ENDED_ALIVE, ENDED_BY_SILENCE, NO_POISON, LOG_GAPLESS];

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::failed("checking invariants", source)
}

/// Looks at requests.
pub struct RequestInspector {
    /// Where they are.
    pub store: Arc<PgStore>,
    /// Whether the broker takes a key once, so that sending again under it is safe.
    pub keys_are_enforced: bool,
}

#[async_trait]
impl Inspector for RequestInspector {
    async fn inspect(&self, turn: Turn, len_max: u32) -> Result<Round, Box<dyn Error + Send + Sync>> {
        let mut tx = snapshot(self.store.pool()).await.map_err(failed)?;
        let len_max = i64::from(len_max);
        let examined = match turn {
            Turn::Recent => recent(&mut tx, len_max).await?,
            Turn::After(order) => next(&mut tx, order, len_max).await?,
        };
        let mut findings = Vec::new();
        findings.extend(found(ONE_BROKER_ORDER, broker_orders(&mut tx, &examined).await?));
        if !self.keys_are_enforced {
            findings.extend(found(ONE_SENDING, sendings(&mut tx, &examined).await?));
        }
        findings.extend(found(ENDED_ALIVE, filled(&mut tx, &examined).await?));
        findings.extend(found(ENDED_BY_SILENCE, silent(&mut tx, &examined).await?));
        findings.extend(found(NO_POISON, poison(&mut tx).await?));
        findings.extend(log_findings(&mut tx).await.map_err(failed)?);
        Ok(Round { examined, findings })
    }

    async fn next_subject(&self, after: Uuid) -> Result<Option<Uuid>, Box<dyn Error + Send + Sync>> {
        let mut conn = self.store.pool().acquire().await?;
        Ok(next(&mut conn, after, 1).await?.first().copied())
    }
}

struct Line {
    order_id: Option<Uuid>,
    detail: String,
}

fn found(check: Check, lines: Vec<Line>) -> impl Iterator<Item = Finding> {
    lines.into_iter().map(move |Line { order_id, detail }| Finding { check, subject: order_id, detail })
}

async fn recent(conn: &mut PgConnection, len_max: i64) -> Result<Vec<Uuid>, StoreError> {
    sqlx::query_scalar!("select order_id from requests order by order_id desc limit $1", len_max)
        .fetch_all(conn)
        .await
        .map_err(failed)
}

async fn next(conn: &mut PgConnection, after: Uuid, len_max: i64) -> Result<Vec<Uuid>, StoreError> {
    sqlx::query_scalar!("select order_id from requests where order_id > $1 order by order_id limit $2", after, len_max)
        .fetch_all(conn)
        .await
        .map_err(failed)
}

/// Everything that was ever said about a request names the same broker order.
async fn broker_orders(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, StoreError> {
    sqlx::query_as!(
        Line,
        r#"
        select order_id, format('order %s is %s', order_id, string_agg(distinct broker_order_id, ' and ')) as "detail!"
        from (
            select order_id, broker_order_id from requests where order_id = any($1)
            union all
            select order_id, broker_order_id from evidence where order_id = any($1)
            union all
            select order_id, broker_order_id from lookups where order_id = any($1)
        ) said
        where broker_order_id is not null
        group by order_id
        having count(distinct broker_order_id) > 1
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// Where keys are not enforced, only one attempt may have reached the broker.
async fn sendings(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, StoreError> {
    sqlx::query_as!(
        Line,
        r#"
        select order_id, format('order %s has %s attempts that may have arrived', order_id, count(*)) as "detail!"
        from attempts
        where order_id = any($1) and (outcome is null or outcome in ('accepted', 'duplicate', 'unknown'))
        group by order_id
        having count(*) > 1
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// What we said is not at the broker was never executed there.
async fn filled(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, StoreError> {
    sqlx::query_as!(
        Line,
        r#"
        select r.order_id, format('order %s is %s, and broker order %s filled %s', r.order_id, r.state,
                                  min(e.broker_order_id), max(e.cumulative)) as "detail!"
        from requests r join evidence e on e.order_id = r.order_id
        where r.order_id = any($1) and r.state in ('refused', 'not_sent', 'absent') and e.cumulative > 0
        group by r.order_id, r.state
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// A request with an attempt that may have arrived ends only by what the broker said since: a "none" to
/// a question, an event, or the decision of two persons.
async fn silent(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, StoreError> {
    sqlx::query_as!(
        Line,
        r#"
        select r.order_id, format('order %s is %s, attempt %s may have arrived, nothing is known of it', r.order_id,
                                  r.state, max(a.n)) as "detail!"
        from requests r join attempts a on a.order_id = r.order_id
        where r.order_id = any($1) and r.state in ('refused', 'not_sent', 'absent')
          and (a.outcome is null or a.outcome in ('accepted', 'duplicate', 'unknown'))
          and not exists (select 1 from lookups l
                          where l.order_id = r.order_id and l.outcome = 'none' and l.began_at >= a.claimed_at)
          and not exists (select 1 from evidence e where e.order_id = r.order_id)
          and (select count(distinct s.person) from settlement_approvals s where s.order_id = r.order_id) < 2
        group by r.order_id, r.state
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}

/// An event that can never be applied is one that a request lacks.
async fn poison(conn: &mut PgConnection) -> Result<Vec<Line>, StoreError> {
    sqlx::query_as!(
        Line,
        r#"
        select null::uuid as order_id, format('%s events, one of them %s/%s/%s of order %s', count(*), min(producer),
                                              min(partition), min(seq), min(order_id::text)) as "detail!"
        from deferred where reason = 'poison'
        having count(*) > 0
        "#
    )
    .fetch_all(conn)
    .await
    .map_err(failed)
}
