//! `GET /v2/events/trades`: server-sent events with replay.

use super::super::QueryParams;
use super::super::auth::{Caller, Credentials};
use super::super::failure::ApiFailure;
use super::super::fields::FieldError;
use super::super::params::Params;
use super::super::trade_event::trade_event;
use super::{Counted, StreamState, read_on};
use crate::application::hub::{EndReason, Member};
use crate::application::updates::{Follower, Start, StartError, StoredUpdate};
use crate::domain::update_id::UpdateId;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

const HEARTBEAT: Bytes = Bytes::from_static(b":heartbeat\n\n");

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Id(UpdateId),
    At(OffsetDateTime),
}

impl Until {
    fn is_before(self, update: &StoredUpdate) -> bool {
        match self {
            Self::Id(id) => update.id() > id,
            Self::At(at) => update.mark.at > at,
        }
    }

    fn is_at(self, update: &StoredUpdate) -> bool {
        matches!(self, Self::Id(id) if update.id() == id)
    }

    /// Whether nothing that belongs before it can still be committed.
    fn has_passed(self, now: OffsetDateTime, settle: Duration) -> bool {
        let settled = now - settle;
        match self {
            Self::Id(id) => i128::from(id.millis()) < settled.unix_timestamp_nanos() / 1_000_000,
            Self::At(at) => at < settled,
        }
    }
}

/// `GET /v2/events/trades`.
pub(super) async fn trades(
    State(state): State<StreamState>,
    Extension(caller): Extension<Caller>,
    QueryParams(params): QueryParams,
    headers: HeaderMap,
) -> Result<Response, ApiFailure> {
    let shown = Credentials::read(&headers).ok_or(ApiFailure::Unauthorized)?;
    let (start, until) = range(&params)?;
    let place = state.hub.place().ok_or(ApiFailure::TooManyStreams)?;
    let seq = match state.pages.start(caller.account_id, start).await {
        Ok(seq) => seq,
        Err(error @ StartError::UnknownId) => return Err(FieldError::new("since_id", error).into()),
        Err(StartError::Query(error)) => return Err(error.into()),
    };
    // Only now: a newer stream of the key ends an older one, and a request that fails must not.
    let member = state.hub.join(caller.account_id, &shown.key_id);
    let follower = Follower::new(state.pages.clone(), caller.account_id, member.head.clone(), seq);
    let reader = Reader {
        state,
        follower,
        member,
        until,
        // The first look is at the table: the head tells nothing of what was committed before it was heard.
        fresh: true,
        live: start == Start::Now,
        greeted: false,
        finished: false,
        counted: Counted::new("sse"),
        _place: place,
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(stream::unfold(reader, next_chunk))).into_response())
}

struct Reader {
    state: StreamState,
    follower: Follower,
    member: Member,
    until: Option<Until>,
    /// Whether the table has to be looked at, whatever the head says.
    fresh: bool,
    /// Whether all that was there at the start is sent.
    live: bool,
    greeted: bool,
    finished: bool,
    counted: Counted,
    _place: OwnedSemaphorePermit,
}

async fn next_chunk(mut reader: Reader) -> Option<(Result<Bytes, Infallible>, Reader)> {
    let chunk = reader.next().await?;
    Some((Ok(chunk), reader))
}

impl Reader {
    /// The next bytes; nothing at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.finished {
            return None;
        }
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(HEARTBEAT);
        }
        loop {
            if self.state.end.is_cancelled() {
                return Some(self.finish("shutdown", ": this server is going away, connect again\n\n"));
            }
            if self.member.end.borrow().is_some() {
                return Some(self.ended());
            }
            if self.fresh || self.follower.is_behind() {
                match self.page().await {
                    Some(bytes) if bytes.is_empty() => {}
                    chunk => return chunk,
                }
                continue;
            }
            let settled = self.until.is_some_and(|u| u.has_passed(self.state.clock.now(), self.state.limits.settle));
            if settled {
                return None;
            }
            // An end in sight is looked for again in a while.
            let look_again = if self.until.is_some() { Duration::from_millis(250) } else { Duration::MAX };
            tokio::select! {
                () = self.state.end.cancelled() => {}
                _reason = self.member.ended() => {}
                () = self.follower.changed() => {}
                () = tokio::time::sleep(look_again) => self.fresh = true,
                () = tokio::time::sleep(self.state.limits.heartbeat) => return Some(HEARTBEAT),
            }
        }
    }

    /// A page as bytes, which may be none; nothing where the stream is at its end.
    async fn page(&mut self) -> Option<Bytes> {
        // Asked before the read: what is committed later cannot belong before an end that has passed.
        let settled = self.until.is_some_and(|u| u.has_passed(self.state.clock.now(), self.state.limits.settle));
        let Ok(page) = read_on(&mut self.follower).await else {
            return Some(self.finish("unreadable", ": internal server error\n\n"));
        };
        let was_live = self.live;
        if page.is_empty() {
            self.fresh = false;
            self.live = true;
            return if settled { None } else { Some(Bytes::new()) };
        }
        let mut bytes = Vec::new();
        for update in &page {
            if self.until.is_some_and(|until| until.is_before(update)) {
                self.finished = true;
                break;
            }
            write_event(&mut bytes, update);
            if self.until.is_some_and(|until| until.is_at(update)) {
                self.finished = true;
                break;
            }
        }
        self.counted.sent(&*self.state.clock, &page, was_live);
        if bytes.is_empty() && self.finished { None } else { Some(Bytes::from(bytes)) }
    }

    fn ended(&mut self) -> Bytes {
        let reason = *self.member.end.borrow();
        match reason {
            Some(EndReason::Replaced) => {
                self.finish("replaced", ": this key has opened newer streams, this one is closed\n\n")
            }
            Some(EndReason::Revoked) | None => self.finish("revoked", ": the key is no longer valid\n\n"),
        }
    }

    fn finish(&mut self, reason: &'static str, comment: &'static str) -> Bytes {
        self.finished = true;
        self.counted.closed(reason);
        Bytes::from_static(comment.as_bytes())
    }
}

/// One line, as client libraries read it.
fn write_event(bytes: &mut Vec<u8>, update: &StoredUpdate) {
    let mut line = b"data: ".to_vec();
    match serde_json::to_writer(&mut line, &trade_event(update)) {
        Ok(()) => {
            line.extend_from_slice(b"\n\n");
            bytes.append(&mut line);
        }
        Err(error) => tracing::error!(%error, "an update could not be written"),
    }
}

/// Where a stream starts and ends.
fn range(params: &Params) -> Result<(Start, Option<Until>), FieldError> {
    let (since, until) = (params.time("since")?, params.time("until")?);
    let (since_id, until_id) = (id(params, "since_id")?, id(params, "until_id")?);
    if since.is_some() && since_id.is_some() {
        return Err(FieldError::new("since_id", "and since exclude each other"));
    }
    if until.is_some() && until_id.is_some() {
        return Err(FieldError::new("until_id", "and until exclude each other"));
    }
    if until.is_some() && since.is_none() {
        return Err(FieldError::new("until", "needs since"));
    }
    if until_id.is_some() && since_id.is_none() {
        return Err(FieldError::new("until_id", "needs since_id"));
    }
    let start = since.map(Start::At).or(since_id.map(Start::After)).unwrap_or(Start::Now);
    Ok((start, until.map(Until::At).or(until_id.map(Until::Id))))
}

fn id(params: &Params, name: &str) -> Result<Option<UpdateId>, FieldError> {
    let text = params.one(name)?;
    text.map(|text| UpdateId::parse(text).ok_or_else(|| FieldError::new(name, "must be an event_id"))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn read(pairs: &[(&str, &str)]) -> Result<(Start, Option<Until>), String> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        range(&Params::new(pairs)).map_err(|error| error.to_string())
    }

    const ID: &str = "01JZ0000000000000000000001";

    #[test]
    fn a_stream_without_a_start_is_live_only() {
        assert_eq!(read(&[]), Ok((Start::Now, None)));
    }

    #[test]
    fn starts_are_times_dates_or_ids_and_each_end_needs_its_start() {
        let id = UpdateId::parse(ID).unwrap();
        let day = datetime!(2026-07-01 00:00 UTC);
        assert_eq!(read(&[("since", "2026-07-01")]), Ok((Start::At(day), None)));
        assert_eq!(
            read(&[("since", "2026-07-01T00:00:00Z"), ("until", "2026-07-01")]),
            Ok((Start::At(day), Some(Until::At(day))))
        );
        assert_eq!(read(&[("since_id", ID), ("until_id", ID)]), Ok((Start::After(id), Some(Until::Id(id)))));
        for (bad, field) in [
            (vec![("until", "2026-07-01")], "until "),
            (vec![("until_id", ID)], "until_id "),
            (vec![("since", "2026-07-01"), ("since_id", ID)], "since_id "),
            (vec![("since", "2026-07-01"), ("until_id", ID)], "until_id "),
            (vec![("since_id", ID), ("until", "2026-07-01")], "until "),
            (vec![("since_id", "17")], "since_id "),
            (vec![("since", "yesterday")], "since "),
        ] {
            assert!(read(&bad).unwrap_err().starts_with(field), "{bad:?}");
        }
    }
}
