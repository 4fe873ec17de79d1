//! Who is asking: an API key and its secret, in the dialect's two headers or as HTTP Basic.

use super::failure::ApiFailure;
use crate::application::query::{ApiKey, Queries, QueryError};
use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use contracts::AccountId;
use platform::clock::Clock;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const KEY_ID: HeaderName = HeaderName::from_static("apca-api-key-id");
const SECRET_KEY: HeaderName = HeaderName::from_static("apca-api-secret-key");

/// Longest key id that is looked up.
const KEY_ID_LEN_MAX: usize = 64;

/// Most keys that are remembered.
const CACHE_LEN_MAX: usize = 100_000;

/// How long a looked-up key is used without another look, counted from before the look, and how long
/// it is known that no key has changed, counted from before that look. A revoked one works on for that
/// long; the second that is promised leaves room for clocks and for slow starts.
const CACHE_AGE_MAX: Duration = Duration::milliseconds(500);

/// How often it is looked whether any key has changed.
const WATCH_INTERVAL: std::time::Duration = std::time::Duration::from_millis(100);

/// The account that a request is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whose orders.
    pub account_id: AccountId,
}

struct Remembered {
    key: Option<ApiKey>,
    at: OffsetDateTime,
    /// The last change of any key that was known before the look.
    change: Option<Uuid>,
}

/// The last change of any key, as of a time.
#[derive(Debug, Clone, Copy)]
struct LastChange {
    mark: Uuid,
    at: OffsetDateTime,
}

#[derive(Default)]
struct Memory {
    keys: HashMap<String, Remembered>,
    last_change: Option<LastChange>,
}

impl Memory {
    /// One that was looked up a moment ago; or for any time one that is there, as long as it is known
    /// that no key has changed since. One that will end by itself changes without a mark, so it is looked
    /// up again. A clock that was set back makes an entry stale, not eternal.
    fn is_fresh(&self, remembered: &Remembered, now: OffsetDateTime) -> bool {
        let is_recent = |at: OffsetDateTime| (now - at).abs() < CACHE_AGE_MAX;
        let is_unchanged = |last: LastChange| is_recent(last.at) && remembered.change == Some(last.mark);
        let lasts = remembered.key.as_ref().is_some_and(|key| !key.ends);
        is_recent(remembered.at) || (lasts && self.last_change.is_some_and(is_unchanged))
    }

    fn remember(&mut self, key_id: &str, remembered: Remembered, now: OffsetDateTime) {
        if self.keys.len() >= CACHE_LEN_MAX {
            let mut keys = std::mem::take(&mut self.keys);
            keys.retain(|_, remembered| self.is_fresh(remembered, now));
            if keys.len() < CACHE_LEN_MAX {
                self.keys = keys;
            }
        }
        self.keys.insert(key_id.to_owned(), remembered);
    }
}

/// Checks keys, remembering each for a moment, or for as long as [`Authenticator::watch`] sees that no
/// key has changed.
pub struct Authenticator {
    queries: Arc<dyn Queries>,
    clock: Arc<dyn Clock>,
    memory: Mutex<Memory>,
    /// Whether it was said that changes cannot be seen.
    said: AtomicBool,
}

impl Authenticator {
    /// An authenticator that looks keys up through `queries`.
    #[must_use]
    pub fn new(queries: Arc<dyn Queries>, clock: Arc<dyn Clock>) -> Self {
        Self { queries, clock, memory: Mutex::default(), said: AtomicBool::new(false) }
    }

    /// The caller with this key and secret.
    ///
    /// # Errors
    /// [`ApiFailure::Unauthorized`], or [`ApiFailure::Query`] when keys cannot be looked up.
    pub async fn authenticate(&self, given: &Credentials) -> Result<Caller, ApiFailure> {
        let key = self.key(&given.key_id).await?;
        // An unknown key is compared all the same, so that it takes as long as a wrong secret.
        let expected = key.as_ref().map_or([0; 32], |key| key.secret_sha256);
        let matches = bool::from(hash_secret(&given.secret).ct_eq(&expected));
        match key {
            Some(key) if matches => Ok(Caller { account_id: key.account_id }),
            _ => Err(ApiFailure::Unauthorized),
        }
    }

    /// Looks again at the key of a caller whose secret was compared before.
    ///
    /// # Errors
    /// [`ApiFailure::Unauthorized`], or [`ApiFailure::Query`] when keys cannot be looked up.
    pub async fn look_again(&self, key_id: &str, caller: Caller) -> Result<(), ApiFailure> {
        match self.key(key_id).await? {
            Some(key) if key.account_id == caller.account_id => Ok(()),
            _ => Err(ApiFailure::Unauthorized),
        }
    }

    /// Whether there was such a key when it was last looked up. Asks nobody.
    #[must_use]
    pub fn is_known(&self, key_id: &str) -> bool {
        self.memory().keys.get(key_id).is_some_and(|remembered| remembered.key.is_some())
    }

    /// Looks again and again whether any key has changed, until `end`. Without it, or while it cannot
    /// look, each key is looked up anew after a moment.
    pub async fn watch(self: Arc<Self>, end: CancellationToken) {
        let mut ticks = tokio::time::interval(WATCH_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = end.cancelled() => return,
            }
            self.look_for_change().await;
        }
    }

    async fn look_for_change(&self) {
        let at = self.clock.now();
        match self.queries.last_key_change().await {
            Ok(mark) => {
                self.memory().last_change = Some(LastChange { mark, at });
                self.said.store(false, Ordering::Relaxed);
            }
            Err(error) => {
                // Said once an outage, not ten times a second; the counter tells the rest.
                if !self.said.swap(true, Ordering::Relaxed) {
                    let error = platform::telemetry::Chain(&error);
                    tracing::warn!(%error, "changes of keys cannot be seen; each key is looked up every half a second");
                }
                metrics::counter!("key_watch_failures_total").increment(1);
            }
        }
    }

    async fn key(&self, key_id: &str) -> Result<Option<ApiKey>, QueryError> {
        let now = self.clock.now();
        let change = {
            let memory = self.memory();
            if let Some(remembered) = memory.keys.get(key_id).filter(|r| memory.is_fresh(r, now)) {
                return Ok(remembered.key.clone());
            }
            memory.last_change.map(|last| last.mark)
        };
        let key = self.queries.api_key(key_id).await?;
        self.memory().remember(key_id, Remembered { key: key.clone(), at: now, change }, now);
        Ok(key)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is stored of a secret. One round is enough for 256 random bits.
#[must_use]
pub fn hash_secret(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// What a client shows.
pub struct Credentials {
    /// The name of the key.
    pub key_id: String,
    secret: String,
}

impl Credentials {
    /// A key and secret that came in a message.
    #[must_use]
    pub fn new(key_id: String, secret: String) -> Option<Self> {
        let given = Self { key_id, secret };
        given.is_well_formed().then_some(given)
    }

    /// The dialect's headers, else HTTP Basic; never a part of each.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let found = if headers.contains_key(KEY_ID) || headers.contains_key(SECRET_KEY) {
            Self { key_id: single(headers, &KEY_ID)?.to_owned(), secret: single(headers, &SECRET_KEY)?.to_owned() }
        } else {
            Self::basic(single(headers, &header::AUTHORIZATION)?)?
        };
        found.is_well_formed().then_some(found)
    }

    fn is_well_formed(&self) -> bool {
        !self.key_id.is_empty()
            && self.key_id.len() <= KEY_ID_LEN_MAX
            && self.key_id.bytes().all(|b| b.is_ascii_graphic())
    }

    fn basic(value: &str) -> Option<Self> {
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (key_id, secret) = text.split_once(':')?;
        Some(Self { key_id: key_id.to_owned(), secret: secret.to_owned() })
    }
}

/// A header's value; none when it is absent, given twice or no text.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fakes::{KEY, NOW, SECRET, World};
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    fn read(pairs: &[(&'static str, &'static str)]) -> Option<(String, String)> {
        Credentials::read(&headers(pairs)).map(|c| (c.key_id, c.secret))
    }

    #[test]
    fn the_two_headers_and_basic_are_read_and_nothing_else() {
        let pair = Some(("k".to_owned(), "s:t".to_owned()));
        assert_eq!(read(&[("apca-api-key-id", "k"), ("apca-api-secret-key", "s:t")]), pair);
        assert_eq!(read(&[("authorization", "Basic azpzOnQ=")]), pair);
        assert_eq!(read(&[("authorization", "basic azpzOnQ=")]), pair);
        for other in ["Bearer azpzOnQ=", "azpzOnQ=", "Basic !!", "Basic azpzOnQ", "Basic aw=="] {
            assert_eq!(Credentials::read(&headers(&[("authorization", other)])).map(|c| c.key_id), None, "{other}");
        }
    }

    #[test]
    fn halves_and_repeats_are_refused() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[("apca-api-key-id", "k")]), None);
        assert_eq!(read(&[("apca-api-secret-key", "s"), ("authorization", "Basic azpzOnQ=")]), None);
        assert_eq!(read(&[("apca-api-key-id", "k"), ("apca-api-key-id", "j"), ("apca-api-secret-key", "s")]), None);
        assert_eq!(read(&[("apca-api-key-id", ""), ("apca-api-secret-key", "s")]), None);
    }

    async fn asked(world: &World, authenticator: &Authenticator, key_id: &'static str, after_ms: i64) -> bool {
        *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(after_ms);
        let given = headers(&[("apca-api-key-id", key_id), ("apca-api-secret-key", SECRET)]);
        authenticator.authenticate(&Credentials::read(&given).unwrap()).await.is_ok()
    }

    #[tokio::test]
    async fn a_key_that_is_used_all_the_time_is_looked_up_again_within_the_second() {
        let world = World::new();
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        assert!(asked(&world, &authenticator, KEY, 0).await);
        let key = world.fake.keys.lock().unwrap().remove(KEY).unwrap();
        let mut last = 0;
        while asked(&world, &authenticator, KEY, last).await {
            last += 100;
            assert!(last < 1000, "it still works a second after its end");
        }
        // What is not there is not remembered for longer either.
        world.fake.keys.lock().unwrap().insert(KEY.to_owned(), key);
        let mut later = last;
        while !asked(&world, &authenticator, KEY, later).await {
            later += 100;
            assert!(later - last < 1000, "it still does not work a second after it was issued");
        }
    }

    #[tokio::test]
    async fn a_key_that_will_end_is_looked_up_again_though_no_key_was_changed() {
        let world = World::new();
        world.fake.keys.lock().unwrap().get_mut(KEY).unwrap().ends = true;
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        authenticator.look_for_change().await;
        assert!(asked(&world, &authenticator, KEY, 0).await);
        // Its time is over by the database's clock, whatever ours says.
        world.fake.keys.lock().unwrap().remove(KEY);
        *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(500);
        authenticator.look_for_change().await;
        assert!(!asked(&world, &authenticator, KEY, 500).await);
    }

    fn lookups(world: &World) -> usize {
        world.fake.lookups.load(std::sync::atomic::Ordering::Relaxed)
    }

    #[tokio::test]
    async fn while_no_key_changes_none_is_looked_up_again() {
        let world = World::new();
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        for step in 0..50 {
            *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(step * 100);
            authenticator.look_for_change().await;
            assert!(asked(&world, &authenticator, KEY, step * 100).await);
        }
        assert_eq!(lookups(&world), 1);
    }

    #[tokio::test]
    async fn a_change_of_any_key_has_each_looked_up_again() {
        let world = World::new();
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        authenticator.look_for_change().await;
        assert!(asked(&world, &authenticator, KEY, 0).await);
        world.fake.keys.lock().unwrap().remove(KEY);
        *world.fake.key_change.lock().unwrap() = Some(Uuid::max());
        *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(600);
        authenticator.look_for_change().await;
        assert!(!asked(&world, &authenticator, KEY, 600).await);
    }

    /// The key was looked up and changed before the mark was ever read.
    #[tokio::test]
    async fn what_was_looked_up_before_a_change_is_not_taken_for_what_is_there_after_it() {
        let world = World::new();
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        assert!(asked(&world, &authenticator, KEY, 0).await, "before any mark is known");
        world.fake.keys.lock().unwrap().remove(KEY);
        *world.fake.key_change.lock().unwrap() = Some(Uuid::max());
        *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(550);
        authenticator.look_for_change().await;
        assert!(!asked(&world, &authenticator, KEY, 600).await);
    }

    #[tokio::test]
    async fn when_changes_cannot_be_seen_keys_are_looked_up_as_without_a_watch() {
        let world = World::new();
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        authenticator.look_for_change().await;
        assert!(asked(&world, &authenticator, KEY, 0).await);
        world.fake.keys.lock().unwrap().remove(KEY);
        *world.fake.key_change.lock().unwrap() = None;
        *world.clock.0.lock().unwrap() = NOW + Duration::milliseconds(400);
        authenticator.look_for_change().await;
        assert!(!asked(&world, &authenticator, KEY, 600).await);
    }
}
