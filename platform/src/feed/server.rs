//! The serving side of the feed.

use super::{ANSWER_PAYLOAD_LEN_MAX, EventsAnswer, HeadsAnswer, READ_LIMIT_MAX, RefusalBody, Unservable};
use crate::config::Secret;
use crate::eventlog::{self, EventLogError};
use crate::http::require_bearer;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use serde::Deserialize;
use sqlx::PgPool;
use thiserror::Error;

#[derive(Clone)]
struct FeedState {
    pool: PgPool,
    producer: Producer,
}

/// The feed of this process's log, for holders of `peer_token` only:
///
/// - `GET /feed/heads`: the newest event of every partition;
/// - `GET /feed/{partition}?after=SEQ&limit=N`: what follows a place, oldest first. `limit` is 1 to
///   1000; an answer may hold fewer. 410 when the place is beyond the log's end or before its start.
pub fn router(pool: PgPool, producer: Producer, peer_token: Secret) -> Router {
    let routes = Router::new()
        .route("/feed/heads", get(heads))
        .route("/feed/{partition}", get(events))
        .with_state(FeedState { pool, producer });
    require_bearer(routes, peer_token)
}

#[derive(Debug, Error)]
enum Refusal {
    #[error("partition must be a number from 0 to 15")]
    Partition,
    #[error("after must be a number from 0, and limit one from 1 to {READ_LIMIT_MAX}")]
    Query,
    #[error("the log ends before {after}")]
    History { after: i64 },
    #[error("the log no longer holds the event after {after}")]
    Gone { after: i64 },
    #[error("the log could not be read")]
    Log(#[from] EventLogError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, reason) = match &self {
            Self::Partition => (StatusCode::NOT_FOUND, 40_410_000, None),
            Self::Query => (StatusCode::BAD_REQUEST, 40_010_000, None),
            Self::History { .. } => (StatusCode::GONE, 41_010_000, Some(Unservable::History)),
            Self::Gone { .. } => (StatusCode::GONE, 41_010_001, Some(Unservable::Gone)),
            Self::Log(error) => {
                tracing::error!(error = %crate::telemetry::Chain(error), "feed could not read the log");
                (StatusCode::INTERNAL_SERVER_ERROR, 50_010_000, None)
            }
        };
        metrics::counter!("feed_refused_total", "status" => status.as_str().to_owned()).increment(1);
        (status, Json(RefusalBody { code, message: self.to_string(), reason })).into_response()
    }
}

async fn heads(State(state): State<FeedState>) -> Result<Json<HeadsAnswer>, Refusal> {
    let heads = eventlog::heads(&state.pool).await?;
    let heads = heads.into_iter().map(|(partition, position)| (partition, position.into())).collect();
    Ok(Json(HeadsAnswer { producer: state.producer, heads }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    after: i64,
    limit: u32,
}

async fn events(
    State(state): State<FeedState>,
    partition: Result<Path<Partition>, PathRejection>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<EventsAnswer>, Refusal> {
    let Ok(Path(partition)) = partition else { return Err(Refusal::Partition) };
    let Ok(Query(EventsQuery { after, limit })) = query else { return Err(Refusal::Query) };
    if after < 0 || limit == 0 || limit > READ_LIMIT_MAX {
        return Err(Refusal::Query);
    }
    let events = eventlog::read_after(&state.pool, state.producer, partition, after, i64::from(limit)).await?;
    match events.first() {
        Some(first) if first.seq != after.saturating_add(1) => return Err(Refusal::Gone { after }),
        Some(_) => {}
        // Nothing follows: at the end (fine), or beyond it.
        None => {
            let head = eventlog::heads(&state.pool).await?.get(&partition).copied().unwrap_or_default();
            if head.seq < after {
                return Err(Refusal::History { after });
            }
        }
    }
    metrics::counter!("feed_events_served_total").increment(events.len() as u64);
    Ok(Json(EventsAnswer { events: bounded(events) }))
}

/// Cuts the answer where its payloads become too large, but never to nothing.
fn bounded(mut events: Vec<Envelope>) -> Vec<Envelope> {
    let mut len = 0_usize;
    let mut kept = 0_usize;
    for event in &events {
        if len >= ANSWER_PAYLOAD_LEN_MAX {
            break;
        }
        len = len.saturating_add(event.payload.get().len());
        kept += 1;
    }
    events.truncate(kept);
    events
}
