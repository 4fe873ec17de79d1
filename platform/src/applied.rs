//! How far this process has applied another's log: moved only in the transaction of the effect,
//! by conditional update from the old value. Delivery is at least once; the effect is exactly once.

use crate::eventlog::Position;
use contracts::event::Producer;
use contracts::{EventId, Partition};
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a position could not be read or moved.
#[derive(Debug, Error)]
pub enum AppliedError {
    /// Reading failed.
    #[error("could not read applied positions")]
    Read(#[source] sqlx::Error),
    /// Locking the row failed.
    #[error("could not claim an applied position")]
    Claim(#[source] sqlx::Error),
    /// Moving the row failed.
    #[error("could not advance an applied position")]
    Advance(#[source] sqlx::Error),
    /// Somebody moved it between claim and advance, which the row lock rules out.
    #[error("applied position of {producer}/{partition} was not at {from} when it was advanced")]
    NotWhereClaimed {
        /// Whose log.
        producer: Producer,
        /// Which partition.
        partition: Partition,
        /// Where it should have been.
        from: i64,
    },
    /// A row that cannot be.
    #[error("applied positions hold a row that is not valid: {0}")]
    Corrupt(String),
}

/// Whether a position is ours to move in this transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Locked, and where it was expected.
    Won,
    /// Another transaction holds it.
    Held,
    /// It is somewhere else by now.
    Moved(Position),
}

/// All positions in a producer's log.
///
/// # Errors
/// [`AppliedError::Read`] or [`AppliedError::Corrupt`].
pub async fn positions(pool: &PgPool, producer: Producer) -> Result<BTreeMap<Partition, Position>, AppliedError> {
    let rows = sqlx::query!(
        "select partition, seq, event_id from applied where producer = $1 order by partition",
        producer.as_str()
    )
    .fetch_all(pool)
    .await
    .map_err(AppliedError::Read)?;
    rows.into_iter()
        .map(|row| {
            let partition = Partition::new(row.partition).map_err(|e| AppliedError::Corrupt(e.to_string()))?;
            Ok((partition, Position { seq: row.seq, event_id: row.event_id.map(EventId::new) }))
        })
        .collect()
}

/// Locks a position for this transaction if nobody else holds it and it is where it is expected.
/// Must be the first statement of the transaction.
///
/// # Errors
/// [`AppliedError::Claim`].
pub async fn claim(
    conn: &mut PgConnection,
    producer: Producer,
    partition: Partition,
    expected: Position,
) -> Result<Claim, AppliedError> {
    let row = sqlx::query!(
        "select seq, event_id from applied where producer = $1 and partition = $2 for update skip locked",
        producer.as_str(),
        partition.number(),
    )
    .fetch_optional(conn)
    .await
    .map_err(AppliedError::Claim)?;
    Ok(match row {
        None => Claim::Held,
        Some(row) => {
            let actual = Position { seq: row.seq, event_id: row.event_id.map(EventId::new) };
            if actual == expected { Claim::Won } else { Claim::Moved(actual) }
        }
    })
}

/// Moves a claimed position.
///
/// # Errors
/// [`AppliedError`]; the transaction must be rolled back.
pub async fn advance(
    conn: &mut PgConnection,
    producer: Producer,
    partition: Partition,
    from: Position,
    to: Position,
) -> Result<(), AppliedError> {
    let done = sqlx::query!(
        "update applied set seq = $4, event_id = $5 where producer = $1 and partition = $2 and seq = $3",
        producer.as_str(),
        partition.number(),
        from.seq,
        to.seq,
        to.event_id.map(EventId::as_uuid),
    )
    .execute(conn)
    .await
    .map_err(AppliedError::Advance)?;
    if done.rows_affected() == 1 {
        Ok(())
    } else {
        Err(AppliedError::NotWhereClaimed { producer, partition, from: from.seq })
    }
}
