//! The body of a push into frames.
//!
//! A body is one event or an array of events. Each event's bytes are kept as they came, so that an
//! event has the same hash by push and by stream. A believed body that is neither is one frame,
//! which reading then parks: what the broker signed is never thrown away.

use super::reading::RawFrame;
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;

/// Why a body is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// There is nothing in it.
    #[error("body holds no event")]
    Empty,
    /// There is too much in it.
    #[error("body holds more than {max} events")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// The frames of a body, at most `events_max`.
///
/// # Errors
/// [`NotTaken`] for none or too many.
pub fn frames(body: &[u8], events_max: usize) -> Result<Vec<RawFrame>, NotTaken> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(NotTaken::Empty);
    }
    if !body.starts_with(b"[") {
        return Ok(vec![RawFrame::new(body.to_vec())]);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let elements = Elements { max: events_max }.deserialize(&mut reader);
    match elements.and_then(|elements| reader.end().map(|()| elements)) {
        Ok(Some(elements)) if elements.is_empty() => Err(NotTaken::Empty),
        Ok(Some(elements)) => Ok(elements),
        Ok(None) => Err(NotTaken::TooMany { max: events_max }),
        Err(_not_an_array) => Ok(vec![RawFrame::new(body.to_vec())]),
    }
}

/// The elements of an array as they are written; none where there are more than `max`.
struct Elements {
    max: usize,
}

impl<'de> DeserializeSeed<'de> for Elements {
    type Value = Option<Vec<RawFrame>>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements {
    type Value = Option<Vec<RawFrame>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut frames = Vec::new();
        let mut count = 0_usize;
        // Read to the end also past the limit: a broken array is one frame, whatever its length.
        while let Some(element) = seq.next_element::<&RawValue>().map_err(A::Error::custom)? {
            count += 1;
            if count <= self.max {
                frames.push(RawFrame::new(element.get().as_bytes().to_vec()));
            }
        }
        Ok((count <= self.max).then_some(frames))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Result<Vec<String>, NotTaken> {
        let frames = frames(body.as_bytes(), 3)?;
        Ok(frames.iter().map(|frame| String::from_utf8(frame.bytes().to_vec()).unwrap()).collect())
    }

    #[test]
    fn one_event_and_an_array_of_events_keep_their_bytes() {
        assert_eq!(texts(" {\"a\" : 1}\n").unwrap(), ["{\"a\" : 1}"]);
        assert_eq!(texts("[ {\"a\" : 1}\n,\n{\"b\":[1, 2]} ]").unwrap(), ["{\"a\" : 1}", "{\"b\":[1, 2]}"]);
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        for empty in ["", " \n", "[]", "[ ]"] {
            assert_eq!(texts(empty), Err(NotTaken::Empty), "{empty:?}");
        }
        assert_eq!(texts("[1,2,3]").unwrap().len(), 3);
        assert_eq!(texts("[1,2,3,4]"), Err(NotTaken::TooMany { max: 3 }));
    }

    #[test]
    fn what_is_no_json_stays_one_frame() {
        for bad in ["[1,2", "[1,2]]", "nonsense", "[1,2,3,4,5"] {
            assert_eq!(texts(bad).unwrap(), [bad], "{bad:?}");
        }
        let bytes = b"[1,\xff]";
        assert_eq!(frames(bytes, 3).unwrap()[0].bytes(), bytes);
    }
}
