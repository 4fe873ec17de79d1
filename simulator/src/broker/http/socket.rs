//! The websocket of order updates, as the Trading API has it: no replay, no cursor, nothing is said
//! about what was lost.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::Response;
use contracts::alpaca::codes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::error;
use super::stream::Open;
use crate::broker::fact::{Shown, StoredEvent};
use crate::broker::shared::Shared;

/// Largest message of a client.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Events that are read at once.
const BATCH_MAX: usize = 256;
/// How long a client may take to show its key, and to take a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// The one stream there is.
const UPDATES: &str = "trade_updates";

/// A message of a client, in the older form and the newer one.
#[derive(Debug, Deserialize)]
struct ClientMessage {
    action: String,
    #[serde(default)]
    data: Option<ClientData>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    secret: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct ClientData {
    #[serde(default)]
    key_id: Option<String>,
    #[serde(default)]
    secret_key: Option<String>,
    #[serde(default)]
    streams: Vec<String>,
}

/// `GET /stream`.
pub(super) async fn upgrade(State(shared): State<Arc<Shared>>, upgrade: WebSocketUpgrade) -> Response {
    let Ok(permit) = Arc::clone(&shared.streams).try_acquire_owned() else {
        return error(StatusCode::TOO_MANY_REQUESTS, codes::RATE_LIMITED, "too many streams");
    };
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES_MAX).max_frame_size(MESSAGE_BYTES_MAX);
    upgrade.on_upgrade(move |socket| Session::new(shared, socket, permit).run())
}

/// The connection is over.
struct Closed;

struct Session {
    shared: Arc<Shared>,
    socket: WebSocket,
    head: watch::Receiver<u64>,
    resets: watch::Receiver<u64>,
    authorized: bool,
    /// Where the next event is, once the client listens.
    position: Option<u64>,
    account: String,
    _open: Open,
}

impl Session {
    fn new(shared: Arc<Shared>, socket: WebSocket, permit: OwnedSemaphorePermit) -> Self {
        let (head, mut resets) = (shared.follow_head(), shared.follow_resets());
        resets.mark_unchanged();
        let account = shared.with(|exchange| exchange.first_account()).unwrap_or_default();
        Self { shared, socket, head, resets, authorized: false, position: None, account, _open: Open::new(permit) }
    }

    /// Until either side ends it.
    async fn run(mut self) {
        while self.turn().await.is_ok() {}
    }

    async fn turn(&mut self) -> Result<(), Closed> {
        let stop = self.shared.stop.clone();
        let listens = self.position.is_some();
        let received = tokio::select! {
            () = stop.cancelled() => return Err(Closed),
            _ = self.resets.changed() => return Err(Closed),
            changed = self.head.changed(), if listens => {
                changed.map_err(|_| Closed)?;
                return self.send_events().await;
            }
            received = self.socket.recv() => received,
            () = tokio::time::sleep(PATIENCE), if !self.authorized => return Err(Closed),
        };
        match received {
            Some(Ok(Message::Text(text))) => self.hear(text.as_bytes()).await,
            Some(Ok(Message::Binary(bytes))) => self.hear(&bytes).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Closed),
        }
    }

    async fn hear(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        let Ok(message) = serde_json::from_slice::<ClientMessage>(bytes) else {
            return self.say(&json!({"action": "error", "data": {"error_message": "the message is no JSON"}})).await;
        };
        let data = message.data.unwrap_or_default();
        match message.action.as_str() {
            "authenticate" | "auth" => {
                let key = message.key.or(data.key_id).unwrap_or_default();
                let secret = message.secret.or(data.secret_key).unwrap_or_default();
                self.authorized = self.shared.is_key(&format!("{key}:{secret}"));
                self.tell_authorization("authenticate").await
            }
            "listen" if !self.authorized => self.tell_authorization("listen").await,
            "listen" => {
                let wanted = data.streams.iter().any(|stream| stream == UPDATES);
                self.listen(wanted)?;
                let streams = if wanted { json!([UPDATES]) } else { json!([]) };
                self.say(&json!({"stream": "listening", "data": {"streams": streams}})).await
            }
            _ => self.say(&json!({"action": "error", "data": {"error_message": "unknown action"}})).await,
        }
    }

    async fn tell_authorization(&mut self, action: &str) -> Result<(), Closed> {
        let status = if self.authorized { "authorized" } else { "unauthorized" };
        self.say(&json!({"stream": "authorization", "data": {"status": status, "action": action}})).await
    }

    /// From now on, or no more; a client that listens already misses nothing.
    fn listen(&mut self, wanted: bool) -> Result<(), Closed> {
        if !wanted {
            self.position = None;
        } else if self.position.is_none() {
            self.position = Some(self.shared.with(|exchange| exchange.head()).map_err(|_| Closed)?);
        }
        Ok(())
    }

    async fn send_events(&mut self) -> Result<(), Closed> {
        while let Some(position) = self.position {
            let _seen = *self.head.borrow_and_update();
            let read = self.shared.with(|exchange| {
                let config = exchange.config();
                let (stalled, lag_max) = (config.stream_stalled, config.stream_buffer_max);
                (stalled, lag_max, exchange.head(), exchange.read_events(position, BATCH_MAX))
            });
            let Ok((stalled, lag_max, head, events)) = read else { return Err(Closed) };
            if stalled || events.is_empty() {
                return Ok(());
            }
            if head.saturating_sub(position) > lag_max {
                self.position = Some(head);
                continue;
            }
            self.position = Some(position + events.len() as u64);
            for event in events {
                if event.fact.shown == Shown::Always && *event.terms.account_id == *self.account {
                    self.say(&update(&event)).await?;
                }
            }
        }
        Ok(())
    }

    async fn say(&mut self, message: &Value) -> Result<(), Closed> {
        let sending = self.socket.send(Message::Text(Utf8Bytes::from(message.to_string())));
        match timeout(PATIENCE, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }
}

/// An event without what only the other streams have: account, cursor and the time of the cursor.
fn update(event: &StoredEvent) -> Value {
    let mut data = serde_json::to_value(event.entity()).unwrap_or_default();
    if let Some(object) = data.as_object_mut() {
        for field in ["account_id", "event_id", "at"] {
            object.remove(field);
        }
    }
    json!({"stream": UPDATES, "data": data})
}
