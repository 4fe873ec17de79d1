//! Query parameters, each refused by name when it breaks a rule.

use super::fields::FieldError;
use std::ops::RangeInclusive;
use time::format_description::well_known::{Iso8601, Rfc3339};
use time::{Date, OffsetDateTime};

/// The parameters of one request. Empty values count as absent.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Wraps decoded pairs.
    #[must_use]
    pub fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.retain(|(_, value)| !value.is_empty());
        Self(pairs)
    }

    /// The value of a parameter that may be given once.
    ///
    /// # Errors
    /// [`FieldError`] when it is given twice.
    pub fn one(&self, name: &str) -> Result<Option<&str>, FieldError> {
        let mut values = self.0.iter().filter(|(other, _)| other == name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(FieldError::new(name, "is given twice")),
            (first, None) => Ok(first.map(|(_, value)| value.as_str())),
        }
    }

    /// The values of a parameter that is a comma list, or given several times.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let values = self.0.iter().filter(move |(other, _)| other == name);
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty())
    }

    /// A whole number within a range.
    ///
    /// # Errors
    /// [`FieldError`] when it is none.
    pub fn integer(&self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, FieldError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let problem = || format!("must be a whole number from {} to {}", range.start(), range.end());
        number.map(Some).ok_or_else(|| FieldError::new(name, problem()))
    }

    /// A moment: RFC 3339, or a date, which is its midnight in UTC.
    ///
    /// # Errors
    /// [`FieldError`] when it is neither.
    pub fn time(&self, name: &str) -> Result<Option<OffsetDateTime>, FieldError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        // A `+` that a client did not escape arrives as a blank.
        let text = text.replace(' ', "+");
        let moment = OffsetDateTime::parse(&text, &Rfc3339).ok().or_else(|| Some(date(&text)?.midnight().assume_utc()));
        moment.map(Some).ok_or_else(|| FieldError::new(name, "must be an RFC 3339 time or a date"))
    }

    /// A date, or the date in a moment's text.
    ///
    /// # Errors
    /// [`FieldError`] when it is neither.
    pub fn date(&self, name: &str) -> Result<Option<Date>, FieldError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let day = text.split_once(['T', ' ']).map_or(text, |(day, _)| day);
        date(day).map(Some).ok_or_else(|| FieldError::new(name, "must be a date such as 2026-07-01"))
    }
}

fn date(text: &str) -> Option<Date> {
    // Years, months and days only: the wider standard also has weeks and ordinals.
    let plain = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    if plain { Date::parse(text, &Iso8601::DATE).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    fn params(value: &str) -> Params {
        Params::new(vec![("x".to_owned(), value.to_owned())])
    }

    #[test]
    fn times_are_read_with_any_offset_even_when_the_plus_was_not_escaped() {
        for text in [
            "2026-07-01T12:00:00Z",
            "2026-07-01T08:00:00-04:00",
            "2026-07-01T12:00:00.000+00:00",
            "2026-07-01T12:00:00 00:00",
        ] {
            assert_eq!(params(text).time("x").unwrap(), Some(datetime!(2026-07-01 12:00 UTC)), "{text}");
        }
        assert!(params("2026-07-01T12:00:00").time("x").is_err());
        assert!(params("2026-W27-3").time("x").is_err());
    }

    #[test]
    fn dates_are_read_from_dates_and_moments() {
        for text in ["2026-07-01", "2026-07-01T08:00:00Z"] {
            assert_eq!(params(text).date("x").unwrap(), Some(date!(2026 - 07 - 01)));
        }
        assert!(params("2026-02-30").date("x").is_err());
    }

    #[test]
    fn an_empty_value_is_absent_and_a_repeat_is_refused() {
        assert_eq!(params("").one("x").unwrap(), None);
        let twice = Params::new(vec![("x".to_owned(), "1".to_owned()), ("x".to_owned(), "2".to_owned())]);
        assert!(twice.one("x").is_err());
        assert_eq!(twice.list("x").collect::<Vec<_>>(), ["1", "2"]);
    }
}
