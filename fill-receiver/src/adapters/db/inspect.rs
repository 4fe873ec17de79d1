//! The invariants of the receiver as queries over some events, in one snapshot.

use super::PgStore;
use async_trait::async_trait;
use platform::invariants::{Check, Finding, Inspector, LOG_GAPLESS, Round, Turn, log_findings, snapshot};
use sqlx::PgConnection;
use std::error::Error;
use uuid::Uuid;

const LOGGED: Check = Check { invariant: "I3", name: "stored_event_is_logged" };
const NOTHING_PARKED: Check = Check { invariant: "I3", name: "nothing_is_parked" };
const ONE_BROKER_ORDER: Check = Check { invariant: "I2", name: "order_has_one_broker_order" };

/// What is checked.
pub const CHECKS: &[Check] = &[LOGGED, NOTHING_PARKED, ONE_BROKER_ORDER, LOG_GAPLESS];

#[async_trait]
impl Inspector for PgStore {
    async fn inspect(&self, turn: Turn, len_max: u32) -> Result<Round, Box<dyn Error + Send + Sync>> {
        let mut tx = snapshot(&self.pool).await?;
        let len_max = i64::from(len_max);
        let examined = match turn {
            Turn::Recent => recent(&mut tx, len_max).await?,
            Turn::After(event) => next(&mut tx, event, len_max).await?,
        };
        let mut findings = Vec::new();
        findings.extend(found(LOGGED, unlogged(&mut tx, &examined).await?));
        findings.extend(found(ONE_BROKER_ORDER, broker_orders(&mut tx, &examined).await?));
        findings.extend(found(NOTHING_PARKED, parked(&mut tx).await?));
        findings.extend(log_findings(&mut tx).await?);
        Ok(Round { examined, findings })
    }

    async fn next_subject(&self, after: Uuid) -> Result<Option<Uuid>, Box<dyn Error + Send + Sync>> {
        let mut conn = self.pool.acquire().await?;
        Ok(next(&mut conn, after, 1).await?.first().copied())
    }
}

struct Line {
    event_id: Option<Uuid>,
    detail: String,
}

fn found(check: Check, lines: Vec<Line>) -> impl Iterator<Item = Finding> {
    lines.into_iter().map(move |Line { event_id, detail }| Finding { check, subject: event_id, detail })
}

/// The events of the broker orders that were seen last: what came without a log entry cannot be found
/// by the log.
async fn recent(conn: &mut PgConnection, len_max: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select s.event_id
        from (select order_id from broker_orders where order_id is not null order by order_id desc limit $1) o
        join broker_events s on s.order_id = o.order_id
        limit $1
        "#,
        len_max
    )
    .fetch_all(conn)
    .await
}

async fn next(conn: &mut PgConnection, after: Uuid, len_max: i64) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select event_id from broker_events where event_id > $1 order by event_id limit $2",
        after,
        len_max
    )
    .fetch_all(conn)
    .await
}

/// Whatever is stored was passed on.
async fn unlogged(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as!(
        Line,
        r#"
        select s.event_id as "event_id?", format('event %s (%s) of broker order %s, order %s, is in no log', s.event_id,
                                   s.kind, s.broker_order_id, s.order_id) as "detail!"
        from broker_events s
        where s.event_id = any($1) and not exists (select 1 from event_log e where e.event_id = s.event_id)
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
}

/// One of our orders is one broker order.
async fn broker_orders(conn: &mut PgConnection, only: &[Uuid]) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as!(
        Line,
        r#"
        select s.event_id as "event_id?", format('order %s is %s and %s', s.order_id, s.broker_order_id,
                                   b.broker_order_id) as "detail!"
        from broker_events s
        join broker_orders b on b.order_id = s.order_id and b.broker_order_id <> s.broker_order_id
        where s.event_id = any($1)
        limit 100
        "#,
        only
    )
    .fetch_all(conn)
    .await
}

/// A frame that could not be read may be a fill that an account lacks.
async fn parked(conn: &mut PgConnection) -> Result<Vec<Line>, sqlx::Error> {
    sqlx::query_as!(
        Line,
        r#"
        select null::uuid as event_id, format('%s frames, the first is %s', count(*), min(id)) as "detail!"
        from parked where settled_at is null
        having count(*) > 0
        "#
    )
    .fetch_all(conn)
    .await
}
