//! Whether a push really comes from the broker.
//!
//! A push names a key, a timestamp and a nonce, and carries the HMAC-SHA256 of
//! `timestamp LF nonce LF body`, over the body's bytes as they came. Timestamp and nonce cannot hold
//! a line feed, so the signed text has one reading only. Several keys are valid at once, so that a
//! broker can go from one to the next without a pause.

use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use thiserror::Error;
use time::OffsetDateTime;

/// Longest nonce and key id, in characters.
pub const TOKEN_LEN_MAX: usize = 128;
/// Shortest nonce, in characters: fewer would repeat by chance.
const NONCE_LEN_MIN: usize = 16;
/// Most digits of a timestamp.
const TIMESTAMP_DIGITS_MAX: usize = 15;

/// A key of the broker's.
#[derive(Clone)]
pub struct SigningKey {
    /// Its name, which pushes carry.
    pub id: String,
    /// What only the broker and we know.
    pub secret: Vec<u8>,
    /// Not valid before this moment.
    pub not_before: Option<OffsetDateTime>,
    /// Not valid from this moment on.
    pub not_after: Option<OffsetDateTime>,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    fn is_valid(&self, now: OffsetDateTime) -> bool {
        self.not_before.is_none_or(|from| from <= now) && self.not_after.is_none_or(|until| now < until)
    }
}

/// What a push says about its own signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    key_id: String,
    timestamp: String,
    signed_at_ms: i64,
    nonce: String,
    signature: [u8; 32],
}

/// A part of a claim that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotAClaim {
    /// The key id.
    #[error("key id is not 1 to {TOKEN_LEN_MAX} letters, digits or -_.~")]
    KeyId,
    /// The timestamp.
    #[error("timestamp is not a number of milliseconds since 1970")]
    Timestamp,
    /// The nonce.
    #[error("nonce is not {NONCE_LEN_MIN} to {TOKEN_LEN_MAX} letters, digits or -_.~")]
    Nonce,
    /// The signature.
    #[error("signature is not 64 hexadecimal digits")]
    Signature,
}

impl Claim {
    /// Reads the four parts.
    ///
    /// # Errors
    /// [`NotAClaim`] naming the first part that cannot be read.
    pub fn read(key_id: &str, timestamp: &str, nonce: &str, signature: &str) -> Result<Self, NotAClaim> {
        if !is_token(key_id, 1) {
            return Err(NotAClaim::KeyId);
        }
        let digits = !timestamp.is_empty()
            && timestamp.len() <= TIMESTAMP_DIGITS_MAX
            && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let signed_at_ms = timestamp.parse().ok().filter(|_| digits).ok_or(NotAClaim::Timestamp)?;
        if !is_token(nonce, NONCE_LEN_MIN) {
            return Err(NotAClaim::Nonce);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(signature, &mut bytes).map_err(|_| NotAClaim::Signature)?;
        Ok(Self {
            key_id: key_id.to_owned(),
            timestamp: timestamp.to_owned(),
            signed_at_ms,
            nonce: nonce.to_owned(),
            signature: bytes,
        })
    }

    /// Which key.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What makes this push this one.
    #[must_use]
    pub fn nonce(&self) -> &str {
        &self.nonce
    }
}

fn is_token(text: &str, len_min: usize) -> bool {
    (len_min..=TOKEN_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
}

/// Whether a text can be a key's id.
#[must_use]
pub fn is_key_id(text: &str) -> bool {
    is_token(text, 1)
}

/// Why a push is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotBelieved {
    /// Unknown key, a key that is not valid now, or a wrong signature: nobody is told which.
    #[error("signature is not that of a valid key")]
    Signature,
    /// It was signed too long ago, or in the future.
    #[error("timestamp differs by {off_ms} ms from the clock, at most {window_ms} ms are allowed")]
    Window {
        /// How far off, in milliseconds.
        off_ms: u64,
        /// How far off it may be.
        window_ms: u64,
    },
}

/// The keys, and how old a signature may be.
#[derive(Debug, Clone)]
pub struct KeyRing {
    keys: Vec<SigningKey>,
    window_ms: u64,
}

impl KeyRing {
    /// Keys with different ids, and how far a timestamp may lie from the clock on either side.
    #[must_use]
    pub const fn new(keys: Vec<SigningKey>, window_ms: u64) -> Self {
        Self { keys, window_ms }
    }

    /// Believes a push or not. The signature is compared in constant time, and before anything is
    /// told about the clock.
    ///
    /// # Errors
    /// [`NotBelieved`].
    pub fn check(&self, claim: &Claim, body: &[u8], now: OffsetDateTime) -> Result<(), NotBelieved> {
        let key = self.keys.iter().find(|key| key.id == claim.key_id && key.is_valid(now));
        // Without a key the work is the same, so that time does not tell which ids exist.
        let secret = key.map_or(b"no such key".as_slice(), |key| &key.secret);
        let genuine = mac(secret, &claim.timestamp, &claim.nonce, body)
            .is_some_and(|mac| mac.verify_slice(&claim.signature).is_ok());
        if !genuine || key.is_none() {
            return Err(NotBelieved::Signature);
        }
        let now_ms = i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let off_ms = now_ms.abs_diff(claim.signed_at_ms);
        if off_ms > self.window_ms {
            return Err(NotBelieved::Window { off_ms, window_ms: self.window_ms });
        }
        Ok(())
    }
}

fn mac(secret: &[u8], timestamp: &str, nonce: &str, body: &[u8]) -> Option<Hmac<Sha256>> {
    // Any length of key is taken, so there is always one.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for part in [timestamp.as_bytes(), b"\n", nonce.as_bytes(), b"\n", body] {
        mac.update(part);
    }
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-04-12 13:30:00 UTC);
    const NOW_MS: i64 = 1_776_000_600_000;
    const NONCE: &str = "0123456789abcdef";
    const BODY: &[u8] = b"{\"event\":\"fill\"}";

    fn key(id: &str) -> SigningKey {
        SigningKey { id: id.to_owned(), secret: b"a secret of the broker".to_vec(), not_before: None, not_after: None }
    }

    fn claim(timestamp_ms: i64, nonce: &str) -> Claim {
        let timestamp = timestamp_ms.to_string();
        let signature = mac(&key("k").secret, &timestamp, nonce, BODY).unwrap().finalize().into_bytes();
        Claim::read("k", &timestamp, nonce, &hex::encode(signature)).unwrap()
    }

    #[test]
    fn the_signed_text_is_what_openssl_signs() {
        // printf '1776000600000\n0123456789abcdef\n{"event":"fill"}' | openssl dgst -sha256 -hmac 'a secret of the broker'
        let signature = "101bd9fb54fd7e8411f5b07e097619ff29c02e3455566c6c0de7fa89d40847b7";
        let claim = Claim::read("k", "1776000600000", NONCE, signature).unwrap();
        assert_eq!(KeyRing::new(vec![key("k")], 1000).check(&claim, BODY, NOW), Ok(()));
    }

    #[test]
    fn every_byte_that_is_signed_counts() {
        let ring = KeyRing::new(vec![key("k"), key("other")], 1000);
        let good = claim(NOW_MS, NONCE);
        assert_eq!(ring.check(&good, BODY, NOW), Ok(()));
        assert_eq!(ring.check(&good, b"{\"event\":\"fill\"} ", NOW), Err(NotBelieved::Signature));
        let mut changed = good.signature;
        changed[31] ^= 1;
        for forged in [
            Claim { nonce: "0123456789abcdeg".to_owned(), ..good.clone() },
            Claim { timestamp: (NOW_MS + 1).to_string(), ..good.clone() },
            Claim { key_id: "unknown".to_owned(), ..good.clone() },
            Claim { signature: changed, ..good },
        ] {
            assert_eq!(ring.check(&forged, BODY, NOW), Err(NotBelieved::Signature), "{forged:?}");
        }
    }

    #[test]
    fn the_clock_bounds_how_long_a_signature_is_good_on_both_sides() {
        let ring = KeyRing::new(vec![key("k")], 1000);
        for (off_ms, good) in [(0, true), (-1000, true), (1000, true), (-1001, false), (1001, false)] {
            let checked = ring.check(&claim(NOW_MS + off_ms, NONCE), BODY, NOW);
            assert_eq!(checked.is_ok(), good, "{off_ms} ms: {checked:?}");
            assert_ne!(checked, Err(NotBelieved::Signature));
        }
    }

    #[test]
    fn a_key_is_good_from_its_first_moment_until_before_its_last() {
        let second = time::Duration::SECOND;
        for (from, until, good) in [
            (Some(NOW), Some(NOW + second), true),
            (Some(NOW + second), None, false),
            (None, Some(NOW), false),
            (None, None, true),
        ] {
            let ring = KeyRing::new(vec![SigningKey { not_before: from, not_after: until, ..key("k") }], 1000);
            assert_eq!(ring.check(&claim(NOW_MS, NONCE), BODY, NOW).is_ok(), good, "{from:?} {until:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_claim_is_refused_by_the_name_of_its_part() {
        let hex = "ab".repeat(32);
        let read = |id: &str, at: &str, nonce: &str, signature: &str| Claim::read(id, at, nonce, signature).map(|_| ());
        assert_eq!(read("k", "1776000600000", NONCE, &hex), Ok(()));
        assert_eq!(read("", "1", NONCE, &hex), Err(NotAClaim::KeyId));
        for bad in ["", "-1", "+1", "1.0", "1e3", " 1", "1776000600000000000"] {
            assert_eq!(read("k", bad, NONCE, &hex), Err(NotAClaim::Timestamp), "{bad:?}");
        }
        for bad in ["short", "0123456789abcde\n", "0123456789 abcdef", &"n".repeat(129)] {
            assert_eq!(read("k", "1", bad, &hex), Err(NotAClaim::Nonce), "{bad:?}");
        }
        for bad in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert_eq!(read("k", "1", NONCE, bad), Err(NotAClaim::Signature), "{bad:?}");
        }
    }

    #[test]
    fn no_secret_shows_in_any_output() {
        let ring = KeyRing::new(vec![key("k")], 1000);
        assert!(!format!("{ring:?}").contains("secret of"), "{ring:?}");
    }
}
