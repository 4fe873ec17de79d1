//! What clients say on a websocket, and our answers.

use crate::domain::update_id::UpdateId;
use axum::extract::ws::Message;
use contracts::alpaca::TradeEvent;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::str::FromStr;
use thiserror::Error;

/// The one stream there is.
pub(super) const TRADE_UPDATES: &str = "trade_updates";

/// Longest key id and secret that are looked at.
const CREDENTIAL_LEN_MAX: usize = 256;

/// Which frames carry our JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// As the dialect's paper service does.
    Binary,
    /// As its live service does, and as browsers like it.
    Text,
}

impl FrameKind {
    /// A frame with this JSON.
    pub(super) fn frame(self, json: String) -> Message {
        match self {
            Self::Binary => Message::Binary(json.into_bytes().into()),
            Self::Text => Message::Text(json.into()),
        }
    }
}

impl FromStr for FrameKind {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "binary" => Ok(Self::Binary),
            "text" => Ok(Self::Text),
            _ => Err("frames are binary or text"),
        }
    }
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// It shows its key.
    Authenticate {
        /// The public half.
        key_id: String,
        /// The secret half.
        secret: String,
    },
    /// It names all streams that it wants from now on.
    Listen {
        /// Whether updates are among them.
        updates: bool,
        /// After which update to start; our own addition to the dialect.
        since: Option<UpdateId>,
    },
}

/// Why a message is not understood. The texts never repeat it: it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum MessageError {
    #[error("message is not a JSON object")]
    NotJson,
    #[error("action must be authenticate, auth or listen")]
    Action,
    #[error("data.key_id and data.secret_key, or key and secret, must be given")]
    Credentials,
    #[error("data.streams must be a list of names")]
    Streams,
    #[error("data.since_id must be an event_id")]
    SinceId,
}

/// Reads a message of a client, in a text or a binary frame.
pub(super) fn read(bytes: &[u8]) -> Result<Request, MessageError> {
    let message: Value = serde_json::from_slice(bytes).map_err(|_| MessageError::NotJson)?;
    if !message.is_object() {
        return Err(MessageError::NotJson);
    }
    let data = message.get("data");
    match message.get("action").and_then(Value::as_str) {
        Some("authenticate") => credentials(data, "key_id", "secret_key"),
        Some("auth") => credentials(Some(&message), "key", "secret"),
        Some("listen") => listen(data),
        _ => Err(MessageError::Action),
    }
}

fn credentials(from: Option<&Value>, key: &str, secret: &str) -> Result<Request, MessageError> {
    let text = |name: &str| {
        let text = from?.get(name)?.as_str()?;
        (!text.is_empty() && text.len() <= CREDENTIAL_LEN_MAX).then(|| text.to_owned())
    };
    match (text(key), text(secret)) {
        (Some(key_id), Some(secret)) => Ok(Request::Authenticate { key_id, secret }),
        _ => Err(MessageError::Credentials),
    }
}

fn listen(data: Option<&Value>) -> Result<Request, MessageError> {
    let names = data.and_then(|data| data.get("streams")?.as_array()).ok_or(MessageError::Streams)?;
    if !names.iter().all(Value::is_string) {
        return Err(MessageError::Streams);
    }
    let since = match data.and_then(|data| data.get("since_id")) {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_str().and_then(UpdateId::parse).ok_or(MessageError::SinceId)?),
    };
    Ok(Request::Listen { updates: names.iter().any(|name| name == TRADE_UPDATES), since })
}

/// The answer to a key, or to what may not be asked for without one.
pub(super) fn authorization(authorized: bool, action: &str) -> String {
    let status = if authorized { "authorized" } else { "unauthorized" };
    json!({"stream": "authorization", "data": {"status": status, "action": action}}).to_string()
}

/// What is listened to now.
pub(super) fn listening(updates: bool) -> String {
    let streams: &[&str] = if updates { &[TRADE_UPDATES] } else { &[] };
    json!({"stream": "listening", "data": {"streams": streams}}).to_string()
}

/// Why a message has no effect.
pub(super) fn error(message: &str) -> String {
    json!({"action": "error", "data": {"error_message": message}}).to_string()
}

#[derive(Serialize)]
struct Data<'a> {
    stream: &'static str,
    data: &'a TradeEvent,
}

/// An update.
pub(super) fn update(event: &TradeEvent) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Data { stream: TRADE_UPDATES, data: event })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_key_are_read() {
        let expected = Ok(Request::Authenticate { key_id: "k".to_owned(), secret: "s".to_owned() });
        assert_eq!(read(br#"{"action":"authenticate","data":{"key_id":"k","secret_key":"s"}}"#), expected);
        assert_eq!(read(br#"{"action":"auth","key":"k","secret":"s"}"#), expected);
        for bad in [
            r#"{"action":"authenticate"}"#,
            r#"{"action":"authenticate","data":{"key_id":"k"}}"#,
            r#"{"action":"auth","key":"k","secret":7}"#,
            r#"{"action":"auth","key":"","secret":"s"}"#,
        ] {
            assert_eq!(read(bad.as_bytes()), Err(MessageError::Credentials), "{bad}");
        }
    }

    #[test]
    fn listen_names_streams_and_perhaps_a_place() {
        let listen = |data: &str| read(format!(r#"{{"action":"listen","data":{data}}}"#).as_bytes());
        let request = |updates, since| Ok(Request::Listen { updates, since });
        assert_eq!(listen(r#"{"streams":["trade_updates","trade_updates","other"]}"#), request(true, None));
        assert_eq!(listen(r#"{"streams":[]}"#), request(false, None));
        let id = "01JZ0000000000000000000001";
        assert_eq!(
            listen(&format!(r#"{{"streams":["trade_updates"],"since_id":"{id}"}}"#)),
            request(true, UpdateId::parse(id))
        );
        assert_eq!(listen(r#"{"streams":["trade_updates"],"since_id":5}"#), Err(MessageError::SinceId));
        assert_eq!(listen(r#"{"streams":"trade_updates"}"#), Err(MessageError::Streams));
        assert_eq!(listen(r#"{"streams":[1]}"#), Err(MessageError::Streams));
    }

    #[test]
    fn garbage_is_an_error() {
        for bad in [&b""[..], b"{", b"[]", b"7", b"\xff\xfe\x00", b"null"] {
            assert_eq!(read(bad), Err(MessageError::NotJson), "{bad:?}");
        }
        assert_eq!(read(b"{}"), Err(MessageError::Action));
        assert_eq!(read(br#"{"action":["listen"]}"#), Err(MessageError::Action));
    }
}
