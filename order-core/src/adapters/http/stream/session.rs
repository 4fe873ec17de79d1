//! One open websocket.

use super::super::auth::{Caller, Credentials};
use super::super::failure::ApiFailure;
use super::super::trade_event::trade_event;
use super::message::{self, Request};
use super::websocket::known;
use super::{Counted, StreamState, read_on};
use crate::application::hub::{EndReason, Member};
use crate::application::updates::{Follower, Start, StartError};
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use contracts::AccountId;
use platform::http::Peer;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite;

/// Messages without effect (no JSON, unknown action, wrong key) until the connection ends.
const STRIKES_MAX: u32 = 5;

/// How long a close frame may take to leave, and its answer to come.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Whose connection it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) account_id: AccountId,
    pub(super) key_id: String,
}

/// Why a connection ends: a code of the protocol, and words for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    /// None where the client is gone and nothing can be said.
    close: Option<(u16, &'static str)>,
    label: &'static str,
}

const GONE: End = End { close: None, label: "client" };

const fn end(code: u16, reason: &'static str, label: &'static str) -> End {
    End { close: Some((code, reason)), label }
}

const SHUTDOWN: End = end(close_code::AWAY, "this server is going away, connect again", "shutdown");
const REVOKED: End = end(close_code::POLICY, "the key is no longer valid", "revoked");
const REPLACED: End = end(close_code::POLICY, "this key has opened newer connections", "replaced");
const LATE: End = end(close_code::POLICY, "no key was shown in time", "unauthenticated");
const STRIKES: End = end(close_code::POLICY, "too many messages without effect", "misuse");
const FLOOD: End = end(close_code::POLICY, "too many messages", "misuse");
const OTHER_KEY: End = end(close_code::POLICY, "the connection belongs to another key", "misuse");
const SILENT: End = end(close_code::POLICY, "nothing was heard for too long", "silent");
const TOO_BIG: End = end(close_code::SIZE, "message is too big", "misuse");
const PROTOCOL: End = end(close_code::PROTOCOL, "frames are not valid", "misuse");
const SLOW: End = end(close_code::AGAIN, "reading too slowly, connect again with since_id", "slow");
const UNREADABLE: End = end(close_code::ERROR, "updates cannot be read, connect again with since_id", "unreadable");

/// An open connection.
pub(super) struct Session {
    socket: WebSocket,
    state: StreamState,
    counted: Counted,
    peer: Option<Peer>,
    identity: Option<Identity>,
    /// The place among those without a key, given back when one is shown.
    stranger: Option<OwnedSemaphorePermit>,
    member: Option<Member>,
    /// Present while listening.
    follower: Option<Follower>,
    /// Whether it is still behind where it started.
    replaying: bool,
    strikes: u32,
    heard_at: Instant,
    counted_since: Instant,
    messages: u32,
}

/// What happens next.
enum Event {
    Frame(Option<Result<Message, axum::Error>>),
    Behind,
    Tick,
    Member(EndReason),
    Shutdown,
    Late,
}

impl Session {
    pub(super) fn new(
        socket: WebSocket,
        state: StreamState,
        counted: Counted,
        peer: Option<Peer>,
        identity: Option<Identity>,
        stranger: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let member = identity.as_ref().map(|who| state.hub.join(who.account_id, &who.key_id));
        let now = Instant::now();
        Self {
            socket,
            state,
            counted,
            peer,
            identity,
            stranger,
            member,
            follower: None,
            replaying: false,
            strikes: 0,
            heard_at: now,
            counted_since: now,
            messages: 0,
        }
    }

    /// Serves it to its end.
    pub(super) async fn run(mut self) {
        let Err(end) = self.serve().await;
        self.counted.closed(end.label);
        if let Some((code, reason)) = end.close {
            let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
            if timeout(CLOSE_WAIT, self.socket.send(frame)).await.is_ok_and(|sent| sent.is_ok()) {
                // A socket that is dropped with bytes unread resets, and the client may lose the frame.
                let drained = async { while let Some(Ok(_)) = self.socket.recv().await {} };
                let _late = timeout(CLOSE_WAIT, drained).await;
            }
        }
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, End> {
        let mut ticks = tokio::time::interval(self.state.limits.ping_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let deadline = Instant::now() + self.state.limits.auth_deadline;
        loop {
            let is_behind = self.follower.as_mut().is_some_and(Follower::is_behind) || self.replaying;
            let event = tokio::select! {
                frame = self.socket.recv() => Event::Frame(frame),
                () = behind(self.follower.as_mut(), is_behind) => Event::Behind,
                _ = ticks.tick() => Event::Tick,
                reason = ended(self.member.as_mut()) => Event::Member(reason),
                () = self.state.end.cancelled() => Event::Shutdown,
                () = tokio::time::sleep_until(deadline), if self.identity.is_none() => Event::Late,
            };
            match event {
                Event::Frame(frame) => self.on_frame(frame).await?,
                Event::Behind => self.send_page().await?,
                Event::Tick => self.on_tick().await?,
                Event::Member(EndReason::Revoked) => return Err(REVOKED),
                Event::Member(EndReason::Replaced) => return Err(REPLACED),
                Event::Shutdown => return Err(SHUTDOWN),
                Event::Late => return Err(LATE),
            }
        }
    }

    async fn on_frame(&mut self, frame: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let frame = match frame {
            None => return Err(GONE),
            Some(Err(error)) => return Err(broken(error)),
            Some(Ok(frame)) => frame,
        };
        self.heard_at = Instant::now();
        self.count_message()?;
        match frame {
            Message::Text(text) => self.on_message(text.as_bytes()).await,
            Message::Binary(bytes) => self.on_message(&bytes).await,
            Message::Close(_) => Err(GONE),
            // The pong is sent by the library.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        }
    }

    fn count_message(&mut self) -> Result<(), End> {
        if self.counted_since.elapsed() >= Duration::from_secs(1) {
            self.counted_since = Instant::now();
            self.messages = 0;
        }
        self.messages += 1;
        if self.messages > self.state.limits.messages_per_second_max { Err(FLOOD) } else { Ok(()) }
    }

    async fn on_message(&mut self, bytes: &[u8]) -> Result<(), End> {
        match message::read(bytes) {
            Ok(Request::Authenticate { key_id, secret }) => self.authenticate(key_id, secret).await,
            Ok(Request::Listen { .. }) if self.identity.is_none() => {
                self.say(message::authorization(false, "listen")).await?;
                self.strike()
            }
            Ok(Request::Listen { updates, since }) => self.listen(updates, since.map(Start::After)).await,
            Err(error) => {
                self.say(message::error(&error.to_string())).await?;
                self.strike()
            }
        }
    }

    const fn strike(&mut self) -> Result<(), End> {
        self.strikes += 1;
        if self.strikes >= STRIKES_MAX { Err(STRIKES) } else { Ok(()) }
    }

    async fn authenticate(&mut self, key_id: String, secret: String) -> Result<(), End> {
        let caller = match Credentials::new(key_id.clone(), secret) {
            Some(shown) => known(&self.state, self.peer, &shown).await,
            None => Err(ApiFailure::Unauthorized),
        };
        match caller {
            Ok(Caller { account_id }) => {
                let shown = Identity { account_id, key_id };
                if self.identity.as_ref().is_some_and(|known| *known != shown) {
                    return Err(OTHER_KEY);
                }
                if self.identity.is_none() {
                    self.member = Some(self.state.hub.join(account_id, &shown.key_id));
                    self.stranger = None;
                    self.identity = Some(shown);
                }
                self.say(message::authorization(true, "authenticate")).await
            }
            Err(ApiFailure::Unauthorized | ApiFailure::RateLimited) => {
                self.say(message::authorization(false, "authenticate")).await?;
                self.strike()
            }
            Err(_) => Err(UNREADABLE),
        }
    }

    /// Replaces what is listened to. Without a place of its own an open stream goes on where it is,
    /// and a new one starts with what comes from now on.
    async fn listen(&mut self, updates: bool, start: Option<Start>) -> Result<(), End> {
        if !updates {
            self.follower = None;
            self.replaying = false;
        } else if self.follower.is_none() || start.is_some() {
            let (Some(identity), Some(member)) = (&self.identity, &self.member) else { return Err(LATE) };
            let account = identity.account_id;
            let head = member.head.clone();
            match self.state.pages.start(account, start.unwrap_or(Start::Now)).await {
                Ok(seq) => {
                    self.follower = Some(Follower::new(self.state.pages.clone(), account, head, seq));
                    self.replaying = start.is_some();
                }
                Err(error @ StartError::UnknownId) => {
                    self.say(message::error(&format!("data.since_id {error}"))).await?;
                    return self.strike();
                }
                Err(StartError::Query(error)) => {
                    tracing::warn!(error = %platform::telemetry::Chain(&error), "a stream could not be started");
                    return Err(UNREADABLE);
                }
            }
        }
        self.say(message::listening(updates)).await
    }

    async fn send_page(&mut self) -> Result<(), End> {
        let Some(follower) = self.follower.as_mut() else { return Ok(()) };
        let page = read_on(follower).await.map_err(|_| UNREADABLE)?;
        let was_live = !self.replaying;
        if page.is_empty() {
            self.replaying = false;
        }
        for update in &page {
            match message::update(&trade_event(update)) {
                Ok(json) => self.say(json).await?,
                Err(error) => {
                    tracing::error!(%error, "an update could not be written");
                    return Err(UNREADABLE);
                }
            }
        }
        self.counted.sent(&*self.state.clock, &page, was_live);
        Ok(())
    }

    async fn on_tick(&mut self) -> Result<(), End> {
        if self.heard_at.elapsed() > self.state.limits.silence_max {
            return Err(SILENT);
        }
        // Before the answer to its key a client may take any frame for that answer; a ping is none
        // that it sees, but it need not be there either.
        if self.identity.is_some() { self.send(Message::Ping(Vec::new().into())).await } else { Ok(()) }
    }

    async fn say(&mut self, json: String) -> Result<(), End> {
        self.send(self.state.limits.frames.frame(json)).await
    }

    /// Hands one frame to the socket. A client that does not take it in time is closed, for its sake
    /// and for ours: it reads on from its cursor when it is back.
    async fn send(&mut self, frame: Message) -> Result<(), End> {
        match timeout(self.state.limits.write_timeout, self.socket.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_gone)) => Err(GONE),
            Err(_elapsed) => Err(SLOW),
        }
    }
}

async fn ended(member: Option<&mut Member>) -> EndReason {
    match member {
        Some(member) => member.ended().await,
        None => std::future::pending().await,
    }
}

async fn behind(follower: Option<&mut Follower>, is_behind: bool) {
    match follower {
        Some(_) if is_behind => {}
        Some(follower) => follower.changed().await,
        None => std::future::pending().await,
    }
}

/// What to tell a client whose frames cannot be read.
fn broken(error: axum::Error) -> End {
    match error.into_inner().downcast_ref::<tungstenite::Error>() {
        Some(tungstenite::Error::Capacity(_)) => TOO_BIG,
        Some(tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => GONE,
        Some(tungstenite::Error::Protocol(_) | tungstenite::Error::Utf8(_)) => PROTOCOL,
        _ => GONE,
    }
}
