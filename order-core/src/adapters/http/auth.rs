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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};

const KEY_ID: HeaderName = HeaderName::from_static("apca-api-key-id");
const SECRET_KEY: HeaderName = HeaderName::from_static("apca-api-secret-key");

/// Longest key id that is looked up.
const KEY_ID_LEN_MAX: usize = 64;

/// Most keys that are remembered.
const CACHE_LEN_MAX: usize = 10_000;

/// How long a looked-up key is used without another look, counted from before the look. A revoked one
/// works on for that long; the second that is promised leaves room for clocks and for slow starts.
const CACHE_AGE_MAX: Duration = Duration::milliseconds(500);

/// The account that a request is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whose orders.
    pub account_id: AccountId,
}

struct Remembered {
    key: Option<ApiKey>,
    at: OffsetDateTime,
}

/// Checks keys, remembering each for a moment.
pub struct Authenticator {
    queries: Arc<dyn Queries>,
    clock: Arc<dyn Clock>,
    remembered: Mutex<HashMap<String, Remembered>>,
}

impl Authenticator {
    /// An authenticator that looks keys up through `queries`.
    #[must_use]
    pub fn new(queries: Arc<dyn Queries>, clock: Arc<dyn Clock>) -> Self {
        Self { queries, clock, remembered: Mutex::new(HashMap::new()) }
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
        // By the clock, not by the look: a remembered key ends at its moment, too.
        match key.filter(|key| key.expires_at.is_none_or(|end| self.clock.now() < end)) {
            Some(key) if matches => Ok(Caller { account_id: key.account_id }),
            _ => Err(ApiFailure::Unauthorized),
        }
    }

    /// Whether there was such a key when it was last looked up. Asks nobody.
    #[must_use]
    pub fn is_known(&self, key_id: &str) -> bool {
        self.remembered().get(key_id).is_some_and(|remembered| remembered.key.is_some())
    }

    async fn key(&self, key_id: &str) -> Result<Option<ApiKey>, QueryError> {
        let now = self.clock.now();
        if let Some(remembered) = self.remembered().get(key_id).filter(|r| is_fresh(r, now)) {
            return Ok(remembered.key.clone());
        }
        let key = self.queries.api_key(key_id).await?;
        let mut all = self.remembered();
        if all.len() >= CACHE_LEN_MAX {
            all.retain(|_, remembered| is_fresh(remembered, now));
            if all.len() >= CACHE_LEN_MAX {
                all.clear();
            }
        }
        all.insert(key_id.to_owned(), Remembered { key: key.clone(), at: now });
        Ok(key)
    }

    fn remembered(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back makes an entry stale, not eternal.
fn is_fresh(remembered: &Remembered, now: OffsetDateTime) -> bool {
    (now - remembered.at).abs() < CACHE_AGE_MAX
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
    async fn a_remembered_key_ends_at_its_moment() {
        let world = World::new();
        world.fake.keys.lock().unwrap().get_mut(KEY).unwrap().expires_at = Some(NOW + Duration::milliseconds(50));
        let authenticator = Authenticator::new(world.fake.clone(), world.clock.clone());
        assert!(asked(&world, &authenticator, KEY, 0).await);
        assert!(asked(&world, &authenticator, KEY, 49).await);
        assert!(!asked(&world, &authenticator, KEY, 50).await);
    }
}
