//! `/stream`: taking a websocket in.

use super::super::auth::{Caller, Credentials};
use super::super::failure::ApiFailure;
use super::super::fields::FieldError;
use super::session::{Identity, Session};
use super::{Counted, StreamState};
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use platform::http::Peer;
use std::sync::Arc;

/// Bytes that are kept before a write, and at most while a write waits: more than any update has.
const WRITE_LEN: usize = 16 * 1024;
const WRITE_LEN_MAX: usize = 256 * 1024;

/// `GET /stream`. A key in the headers is looked at, and need not be there: clients show it in their
/// first message, too.
pub(super) async fn upgrade(
    State(state): State<StreamState>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiFailure> {
    let upgrade = upgrade.map_err(|_| FieldError::new("upgrade", "to websocket is what this endpoint is for"))?;
    let peer = peer.map(|Extension(peer)| peer);
    let identity = match Credentials::read(&headers) {
        Some(shown) => {
            let account_id = known(&state, peer, &shown).await?.account_id;
            Some(Identity { account_id, key_id: shown.key_id })
        }
        // One that failed too often has to show a good key before it may try more in messages.
        None if state.rates.blocked(peer, state.clock.now()).is_some() => return Err(ApiFailure::RateLimited),
        None => None,
    };
    let place = state.hub.place().ok_or(ApiFailure::TooManyStreams)?;
    let stranger = match identity {
        Some(_) => None,
        None => Some(Arc::clone(&state.strangers).try_acquire_owned().map_err(|_| ApiFailure::TooManyStreams)?),
    };
    let (limits, open) = (state.limits, state.open.token());
    let upgrade = upgrade
        .max_message_size(limits.message_len_max)
        .max_frame_size(limits.message_len_max)
        .write_buffer_size(WRITE_LEN)
        .max_write_buffer_size(WRITE_LEN_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let counted = Counted::new("websocket");
        Session::new(socket, state, counted, peer, identity, stranger).run().await;
        drop((place, open));
    }))
}

/// The caller of a key, with failures counted against the address.
pub(super) async fn known(state: &StreamState, peer: Option<Peer>, shown: &Credentials) -> Result<Caller, ApiFailure> {
    let now = state.clock.now();
    if !state.authenticator.is_known(&shown.key_id) && state.rates.blocked(peer, now).is_some() {
        return Err(ApiFailure::RateLimited);
    }
    let caller = state.authenticator.authenticate(shown).await;
    if matches!(caller, Err(ApiFailure::Unauthorized)) {
        let _counted = state.rates.failure(peer, now);
    }
    caller
}
