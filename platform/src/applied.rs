//! How far this process has applied another's log: moved only in the transaction of the effect,
//! by conditional update from the old value. Delivery is at least once; the effect is exactly once.

use crate::eventlog::Position;
use contracts::event::Producer;
use contracts::{EventId, Partition};
use sqlx::{PgConnection, PgPool};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;
use uuid::Uuid;

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

/// One partition of a producer's log.
pub type LogPartition = (Producer, Partition);

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

/// Locks positions for this transaction that nobody else holds and that are where they are expected;
/// answers those, the others are held or moved by another transaction. Must be the first statement of
/// the transaction.
///
/// # Errors
/// [`AppliedError::Claim`], or [`AppliedError::Corrupt`] for a row that is no position.
pub async fn claim(
    conn: &mut PgConnection,
    expected: &BTreeMap<LogPartition, Position>,
) -> Result<BTreeSet<LogPartition>, AppliedError> {
    let (producers, partitions) = columns(expected.keys());
    let rows = sqlx::query!(
        "select a.producer, a.partition, a.seq, a.event_id from applied a
         join unnest($1::text[], $2::smallint[]) w (producer, partition)
             on a.producer = w.producer and a.partition = w.partition
         order by a.producer, a.partition
         for update of a skip locked",
        &producers,
        &partitions,
    )
    .fetch_all(conn)
    .await
    .map_err(AppliedError::Claim)?;
    let mut won = BTreeSet::new();
    for row in rows {
        let partition = Partition::new(row.partition).map_err(|e| AppliedError::Corrupt(e.to_string()))?;
        let actual = Position { seq: row.seq, event_id: row.event_id.map(EventId::new) };
        let ours = |((producer, of), at): &(&LogPartition, &Position)| {
            producer.as_str() == row.producer && *of == partition && **at == actual
        };
        won.extend(expected.iter().find(ours).map(|(log, _)| *log));
    }
    Ok(won)
}

/// Moves claimed positions, each from the first to the second place.
///
/// # Errors
/// [`AppliedError`]; the transaction must be rolled back.
pub async fn advance(
    conn: &mut PgConnection,
    moves: &BTreeMap<LogPartition, (Position, Position)>,
) -> Result<(), AppliedError> {
    let (producers, partitions) = columns(moves.keys());
    let from: Vec<i64> = moves.values().map(|(from, _)| from.seq).collect();
    let to: Vec<i64> = moves.values().map(|(_, to)| to.seq).collect();
    let events: Vec<Option<Uuid>> = moves.values().map(|(_, to)| to.event_id.map(EventId::as_uuid)).collect();
    let moved = sqlx::query!(
        "update applied a set seq = w.seq, event_id = w.event_id
         from unnest($1::text[], $2::smallint[], $3::bigint[], $4::bigint[], $5::uuid[])
             w (producer, partition, from_seq, seq, event_id)
         where a.producer = w.producer and a.partition = w.partition and a.seq = w.from_seq
         returning a.producer, a.partition",
        &producers,
        &partitions,
        &from,
        &to,
        &events as &[Option<Uuid>],
    )
    .fetch_all(conn)
    .await
    .map_err(AppliedError::Advance)?;
    let is_moved = |(producer, partition): &LogPartition| {
        moved.iter().any(|row| row.producer == producer.as_str() && row.partition == partition.number())
    };
    match moves.iter().find(|(log, _)| !is_moved(log)) {
        None => Ok(()),
        Some(((producer, partition), (from, _))) => {
            Err(AppliedError::NotWhereClaimed { producer: *producer, partition: *partition, from: from.seq })
        }
    }
}

fn columns<'a>(logs: impl Iterator<Item = &'a LogPartition>) -> (Vec<String>, Vec<i16>) {
    logs.map(|(producer, partition)| (producer.as_str().to_owned(), partition.number())).unzip()
}
