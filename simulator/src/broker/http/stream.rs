//! The stream of trade events.
//!
//! A stream that was given a starting point first replays everything after it, however slowly it
//! reads; once it has caught up it is live, and one that lags too far behind then loses events and
//! is told how many.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use contracts::alpaca::codes;
use futures_util::stream;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime, Time};
use tokio::sync::{OwnedSemaphorePermit, watch};
use ulid::Ulid;

use super::deliver::hang_up;
use super::{error, invalid};
use crate::broker::fact::{Shown, StoredEvent};
use crate::broker::shared::{Shared, Stopped};

/// Events that are read at once.
const BATCH_MAX: usize = 256;

const HEARTBEAT: Bytes = Bytes::from_static(b":heartbeat\n\n");

/// Where a stream ends.
#[derive(Debug, Clone, Copy)]
enum Until {
    Id(Ulid),
    Time(OffsetDateTime),
}

impl Until {
    fn is_before(self, event: &StoredEvent) -> bool {
        match self {
            Self::Id(id) => event.event_id > id,
            Self::Time(at) => event.at > at,
        }
    }

    /// Whether no later event can belong to the stream.
    fn has_passed(self, now: OffsetDateTime) -> bool {
        match self {
            Self::Id(id) => i128::from(id.timestamp_ms()) < now.unix_timestamp_nanos() / 1_000_000,
            Self::Time(at) => at < now,
        }
    }
}

/// Where a stream starts.
#[derive(Debug, Clone, Copy)]
enum Since {
    Id(Ulid),
    Time(OffsetDateTime),
}

struct Reader {
    shared: Arc<Shared>,
    position: u64,
    /// Events from here on are live, not replayed.
    live_from: u64,
    caught_up: bool,
    until: Option<Until>,
    heartbeat: Duration,
    buffer_max: u64,
    head: watch::Receiver<u64>,
    resets: watch::Receiver<u64>,
    greeted: bool,
    finished: bool,
    _open: Open,
}

/// A place among the streams, counted for as long as it is taken.
pub(super) struct Open(#[expect(dead_code, reason = "gives its place back when dropped")] OwnedSemaphorePermit);

impl Open {
    pub(super) fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("sim_streams_open").increment(1);
        Self(permit)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("sim_streams_open").decrement(1);
    }
}

/// `GET /v2/events/trades`.
pub(super) async fn trades(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (since, until) = match range(&query) {
        Ok(range) => range,
        Err(message) => return invalid(message),
    };
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return error(StatusCode::TOO_MANY_REQUESTS, codes::RATE_LIMITED, "too many streams");
    };
    let (mut head, mut resets) = (shared.follow_head(), shared.follow_resets());
    head.mark_unchanged();
    resets.mark_unchanged();
    let start = shared.with(|exchange| {
        // Without replay a stream starts now, whatever was asked for.
        let since = since.filter(|_| exchange.config().replay);
        let position = match since {
            None => Ok(exchange.head()),
            Some(Since::Id(id)) => exchange.events_after(id),
            Some(Since::Time(at)) => exchange.events_since(at),
        };
        let config = exchange.config();
        (
            position,
            since.is_none(),
            exchange.head(),
            Duration::from_millis(config.heartbeat_ms),
            config.stream_buffer_max,
        )
    });
    let Ok((position, is_live, live_from, heartbeat, buffer_max)) = start else { return hang_up() };
    let position = match position {
        Ok(position) => position,
        Err(gone) => return error(StatusCode::GONE, 41_010_000, gone.to_string()),
    };
    let reader = Reader {
        shared,
        position,
        live_from,
        caught_up: is_live,
        until,
        heartbeat,
        buffer_max,
        head,
        resets,
        greeted: false,
        finished: false,
        _open: Open::new(permit),
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(stream::unfold(reader, next_chunk))).into_response()
}

async fn next_chunk(mut reader: Reader) -> Option<(Result<Bytes, io::Error>, Reader)> {
    if reader.finished {
        return None;
    }
    let chunk = match reader.next().await {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => return None,
        Err(error) => {
            reader.finished = true;
            Err(error)
        }
    };
    Some((chunk, reader))
}

impl Reader {
    /// The next bytes; nothing where the stream has reached its end.
    async fn next(&mut self) -> Result<Option<Bytes>, io::Error> {
        if !self.greeted {
            self.greeted = true;
            return Ok(Some(HEARTBEAT));
        }
        loop {
            if self.resets.has_changed().unwrap_or(true) || self.shared.stop.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::ConnectionReset));
            }
            if let Some(bytes) = self.read().map_err(io::Error::other)? {
                return Ok(Some(bytes));
            }
            if self.finished || self.until.is_some_and(|until| until.has_passed(OffsetDateTime::now_utc())) {
                return Ok(None);
            }
            tokio::select! {
                _ = self.head.changed() => {}
                _ = self.resets.changed() => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
                () = self.shared.stop.cancelled() => {}
                () = tokio::time::sleep(self.heartbeat) => return Ok(Some(HEARTBEAT)),
            }
        }
    }

    /// What there is to send now.
    fn read(&mut self) -> Result<Option<Bytes>, Stopped> {
        let _seen = *self.head.borrow_and_update();
        let position = self.position;
        let (stalled, head, first, events) = self.shared.with(|exchange| {
            let stalled = exchange.config().stream_stalled;
            (stalled, exchange.head(), exchange.first(), exchange.read_events(position, BATCH_MAX))
        })?;
        if stalled {
            return Ok(None);
        }
        let lag = head.saturating_sub(position);
        if position < first || (self.caught_up && lag > self.buffer_max) {
            // Too slow: what was waiting is thrown away, and that is said.
            let keep_from = if self.caught_up { head } else { first };
            self.position = keep_from;
            return Ok(Some(dropped(keep_from - position)));
        }
        if events.is_empty() {
            self.caught_up = true;
            return Ok(None);
        }
        Ok(Some(self.render(&events)).filter(|bytes| !bytes.is_empty()))
    }

    fn render(&mut self, events: &[Arc<StoredEvent>]) -> Bytes {
        let mut bytes = Vec::new();
        let mut dropped_count = 0;
        for event in events {
            if self.until.is_some_and(|until| until.is_before(event)) {
                self.finished = true;
                break;
            }
            let live = self.position >= self.live_from;
            self.position += 1;
            match event.fact.shown {
                Shown::LostLive if live => continue,
                Shown::DroppedLive if live => dropped_count += 1,
                _ => {
                    tell_dropped(&mut bytes, &mut dropped_count);
                    write_event(&mut bytes, event);
                }
            }
        }
        tell_dropped(&mut bytes, &mut dropped_count);
        Bytes::from(bytes)
    }
}

fn write_event(bytes: &mut Vec<u8>, event: &StoredEvent) {
    let mut line = b"data: ".to_vec();
    if serde_json::to_writer(&mut line, &event.entity()).is_ok() {
        line.extend_from_slice(b"\n\n");
        bytes.append(&mut line);
    }
}

fn dropped(count: u64) -> Bytes {
    Bytes::from(format!(": you are reading too slowly, dropped {count} messages\n\n"))
}

fn tell_dropped(bytes: &mut Vec<u8>, count: &mut u64) {
    if *count > 0 {
        bytes.extend_from_slice(&dropped(*count));
        *count = 0;
    }
}

/// Reads where the stream starts and ends.
fn range(query: &HashMap<String, String>) -> Result<(Option<Since>, Option<Until>), &'static str> {
    let get = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let (since, since_id, until, until_id) = (get("since"), get("since_id"), get("until"), get("until_id"));
    if since.is_some() && since_id.is_some() {
        return Err("since and since_id exclude each other");
    }
    if until.is_some() && since.is_none() {
        return Err("until needs since");
    }
    if until_id.is_some() && since_id.is_none() {
        return Err("until_id needs since_id");
    }
    let since = match (since, since_id) {
        (Some(text), _) => Some(Since::Time(moment(text).ok_or("since is neither a time nor a date")?)),
        (None, Some(text)) => Some(Since::Id(Ulid::from_string(text).map_err(|_| "since_id is not a ulid")?)),
        (None, None) => None,
    };
    let until = match (until, until_id) {
        (Some(text), _) => Some(Until::Time(moment(text).ok_or("until is neither a time nor a date")?)),
        (None, Some(text)) => Some(Until::Id(Ulid::from_string(text).map_err(|_| "until_id is not a ulid")?)),
        (None, None) => None,
    };
    Ok((since, until))
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    let date = || Date::parse(text, &Iso8601::DATE).ok().map(|date| date.with_time(Time::MIDNIGHT).assume_utc());
    OffsetDateTime::parse(text, &Rfc3339).ok().or_else(date)
}
