//! Connecting at the right place, also when the broker no longer replays that far.

use super::ports::{Chunks, ConnectError, EventSource, EventStore, StoreError};
use crate::domain::cursor::{Cursor, CursorMove, ResumeFacts};
use thiserror::Error;

/// Why no connection came about.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// The broker.
    #[error("could not connect to the broker's stream")]
    Connect(#[from] ConnectError),
    /// The store.
    #[error("could not record where reading resumes")]
    Store(#[from] StoreError),
}

/// A connection, and the cursor from which it is read.
pub struct Resumed {
    /// The body.
    pub chunks: Chunks,
    /// The cursor as stored now.
    pub cursor: Cursor,
}

/// Connects at the cursor minus the overlap. Where the broker refuses that because it is too long
/// ago, tries what is less long ago, and records the stretch in between as unproven once a
/// connection stands: a broker that refuses everything has another reason, and proves no loss.
///
/// # Errors
/// [`ResumeError`] of the last attempt.
pub async fn resume<S: EventStore, B: EventSource>(
    store: &S,
    source: &B,
    facts: ResumeFacts,
) -> Result<Resumed, ResumeError> {
    let mut refused = None;
    for since in facts.candidates() {
        match source.connect(since, None).await {
            Ok(chunks) => {
                let cursor = record_unproven(store, &facts, since, refused.is_some()).await?;
                return Ok(Resumed { chunks, cursor });
            }
            Err(error @ ConnectError::ReplayRefused { .. }) => {
                tracing::warn!(error = %platform::telemetry::Chain(&error), %since, "broker does not replay from there");
                refused = Some(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    // There is always a candidate, so there is always a refusal here.
    Err(refused.map_or(ConnectError::Deadline, |error| error).into())
}

async fn record_unproven<S: EventStore>(
    store: &S,
    facts: &ResumeFacts,
    since: Cursor,
    refused: bool,
) -> Result<Cursor, StoreError> {
    let Some(range) = facts.unproven_until(since) else { return Ok(facts.cursor) };
    let moved = CursorMove { from: facts.cursor, to: facts.cursor.max(since) };
    let reason = if refused { "replay refused" } else { "outside the replay window" };
    store.record_unproven(moved, range, reason, facts.now).await?;
    metrics::counter!("fill_receiver_unproven_ranges_total").increment(1);
    tracing::error!(from = %range.0, until = %range.1, reason, "events of this stretch were not replayed");
    Ok(moved.to)
}
