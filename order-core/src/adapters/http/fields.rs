//! Reads a JSON object field by field, each kept as its literal text: a number never becomes a
//! float, a name that is given twice is noticed, and what is not asked for is skipped unread.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use thiserror::Error;

/// Why a body is not an object that can be read. The texts never repeat the body.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Broken JSON, or nothing at all.
    #[error("body is not valid JSON (line {line}, column {column})")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// JSON, but no object.
    #[error("body must be a JSON object")]
    NotAnObject,
}

/// A field that breaks a rule. The text starts with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field} {problem}")]
pub struct FieldError {
    /// Which field.
    pub field: String,
    /// What is wrong with it, to be read after the name.
    pub problem: String,
    /// The dialect's code.
    pub code: u32,
}

impl FieldError {
    /// A rule of form.
    #[must_use]
    pub fn new(field: &str, problem: impl fmt::Display) -> Self {
        Self { field: field.to_owned(), problem: problem.to_string(), code: contracts::alpaca::codes::INVALID_REQUEST }
    }

    /// A rule of business, such as the tick of prices.
    #[must_use]
    pub fn business(field: &str, problem: impl fmt::Display) -> Self {
        Self { code: contracts::alpaca::codes::UNPROCESSABLE, ..Self::new(field, problem) }
    }
}

/// The fields of an object. Explicit nulls count as absent.
#[derive(Debug)]
pub struct Fields<'a> {
    values: BTreeMap<String, &'a RawValue>,
    repeated: Option<String>,
}

/// Longest field name that an error repeats.
const NAME_LEN_SHOWN: usize = 64;

impl<'a> Fields<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// [`JsonError`] when it is broken, or no object.
    pub fn read(body: &'a [u8]) -> Result<Self, JsonError> {
        serde_json::from_slice(body).map_err(|error| match error.classify() {
            Category::Data => JsonError::NotAnObject,
            Category::Syntax | Category::Eof | Category::Io => {
                JsonError::Syntax { line: error.line(), column: error.column() }
            }
        })
    }

    /// Refuses a name that is given twice: which of the two was meant cannot be known.
    ///
    /// # Errors
    /// [`FieldError`] naming it.
    pub fn require_unique(&self) -> Result<(), FieldError> {
        match &self.repeated {
            Some(name) => Err(FieldError::new(name, "is given twice")),
            None => Ok(()),
        }
    }

    /// The literal text of a field.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.values.get(name).copied()
    }

    /// A text.
    ///
    /// # Errors
    /// [`FieldError`] when it is something else.
    pub fn text(&self, name: &str) -> Result<Option<String>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text = serde_json::from_str(raw.get()).map_err(|_| FieldError::new(name, "must be a string"))?;
        Ok(Some(text))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// [`FieldError`] when it is absent or something else.
    pub fn required_text(&self, name: &str) -> Result<String, FieldError> {
        self.text(name)?.ok_or_else(|| FieldError::new(name, "is required"))
    }

    /// The digits of a number, given as a JSON number or as a string.
    ///
    /// # Errors
    /// [`FieldError`] when it is neither.
    pub fn number(&self, name: &str) -> Result<Option<Cow<'a, str>>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        number_text(raw).map(Some).ok_or_else(|| FieldError::new(name, "must be a number"))
    }

    /// A truth value.
    ///
    /// # Errors
    /// [`FieldError`] when it is something else.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| FieldError::new(name, "must be true or false"))
    }
}

/// The digits of a JSON number or string; none for any other value.
#[must_use]
pub fn number_text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let literal = raw.get();
    match literal.bytes().next() {
        Some(b'"') => serde_json::from_str::<String>(literal).ok().map(Cow::Owned),
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(literal)),
        _ => None,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields { values: BTreeMap::new(), repeated: None };
        let mut nulls = std::collections::BTreeSet::new();
        while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
            let seen = fields.values.contains_key(&name) || nulls.contains(&name);
            if seen {
                fields.repeated.get_or_insert_with(|| name.chars().take(NAME_LEN_SHOWN).collect());
            } else if value.get() == "null" {
                nulls.insert(name);
            } else {
                fields.values.insert(name, value);
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_keeps_its_literal_text_and_null_is_absent() {
        let fields = Fields::read(br#"{"a": 9007199254740993.000000001, "b": "1e3", "c": null, "d": [1]}"#).unwrap();
        assert_eq!(fields.number("a").unwrap().unwrap(), "9007199254740993.000000001");
        assert_eq!(fields.number("b").unwrap().unwrap(), "1e3");
        assert_eq!(fields.number("c").unwrap(), None);
        assert_eq!(fields.number("d").unwrap_err().to_string(), "d must be a number");
    }

    #[test]
    fn a_name_given_twice_is_refused_even_when_one_is_null() {
        for body in [r#"{"qty":1,"qty":2}"#, r#"{"qty":1,"qty":null}"#, r#"{"qty":null,"qty":1}"#] {
            let error = Fields::read(body.as_bytes()).unwrap().require_unique().unwrap_err();
            assert_eq!(error.to_string(), "qty is given twice");
        }
    }

    #[test]
    fn broken_json_and_other_values_are_told_apart_and_never_repeated() {
        for body in ["", "{", "{\"a\":}", "{\"a\":1}x", "nul"] {
            assert!(matches!(Fields::read(body.as_bytes()), Err(JsonError::Syntax { .. })), "{body}");
        }
        for body in ["[]", "1", "\"secret\"", "null"] {
            let error = Fields::read(body.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "body must be a JSON object", "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
        assert!(Fields::read(deep.as_bytes()).is_ok());
    }
}
