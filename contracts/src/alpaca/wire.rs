//! Small serde helpers shared by the wire types.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;
use time::OffsetDateTime;

/// `null` reads as the type's default, like an absent field.
pub(super) fn null_as_default<'de, D, T>(input: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(input).map(Option::unwrap_or_default)
}

/// A text that some versions of the dialect send as a JSON number (an id, a code).
pub(super) fn text_or_number<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(input)?;
    literal_text(&raw)
}

/// The same, where it may be `null`.
pub(super) fn text_or_number_option<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let raw = Option::<Box<RawValue>>::deserialize(input)?;
    raw.map(|raw| literal_text(&raw)).transpose()
}

fn literal_text<E: serde::de::Error>(raw: &RawValue) -> Result<String, E> {
    let literal = raw.get();
    match literal.bytes().next() {
        Some(b'"') => serde_json::from_str(literal).map_err(E::custom),
        Some(b'-' | b'0'..=b'9') => Ok(literal.to_owned()),
        _ => Err(E::custom("expected a text or a number")),
    }
}

/// A non-negative code, as a number or a text; absent, `null` or unreadable is 0.
pub(super) fn code<'de, D: Deserializer<'de>>(input: D) -> Result<u32, D::Error> {
    let text = text_or_number_option(input).map_err(D::Error::custom)?;
    Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// What a time reads as where the sender left it out although the dialect demands it.
pub(super) fn unix_epoch() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

/// A time that must be written, and reads as the Unix epoch where the sender left it out.
pub(super) mod time_or_epoch {
    use serde::de::Deserializer;
    use serde::ser::Serializer;
    use time::OffsetDateTime;
    use time::serde::rfc3339;

    pub(in super::super) fn serialize<S: Serializer>(value: &OffsetDateTime, out: S) -> Result<S::Ok, S::Error> {
        rfc3339::serialize(value, out)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<OffsetDateTime, D::Error> {
        let value = rfc3339::option::deserialize(input)?;
        Ok(value.unwrap_or_else(super::unix_epoch))
    }
}
