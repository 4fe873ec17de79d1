//! What every process checks alike: its event log.

use super::{Check, Finding};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};

/// The event log has no gap, and its head is its last event.
pub const LOG_GAPLESS: Check = Check { invariant: "I8", name: "log_is_gapless" };

/// Events at the end of each partition's log that a round looks at.
pub const LOG_TAIL_LEN: i64 = 500;

/// A transaction in which every query of a round sees the same.
///
/// # Errors
/// The database's.
pub async fn snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query!("set transaction isolation level repeatable read, read only").execute(&mut *tx).await?;
    Ok(tx)
}

/// What is wrong with the event log of a process, a sentence a partition: with all of it, or with the
/// last events of each partition.
///
/// # Errors
/// The database's.
pub async fn log_gaps(conn: &mut PgConnection, tail_len: Option<i64>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select format('partition %s: head %s, %s of its last %s events, last %s', h.partition, h.seq, count(e.seq),
                      least(h.seq, $1), max(e.seq)) as "detail!"
        from event_heads h
        left join event_log e on e.partition = h.partition and e.seq > h.seq - coalesce($1, h.seq)
        group by h.partition, h.seq
        having least(h.seq, $1) <> count(e.seq) or h.seq <> coalesce(max(e.seq), 0)
        "#,
        tail_len
    )
    .fetch_all(conn)
    .await
}

/// The same as findings, of the last events.
///
/// # Errors
/// The database's.
pub async fn log_findings(conn: &mut PgConnection) -> Result<impl Iterator<Item = Finding>, sqlx::Error> {
    let gaps = log_gaps(conn, Some(LOG_TAIL_LEN)).await?;
    Ok(gaps.into_iter().map(|detail| Finding { check: LOG_GAPLESS, subject: None, detail }))
}
