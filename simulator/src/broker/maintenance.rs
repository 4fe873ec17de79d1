//! Hours in which the broker is not there.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::macros::format_description;
use time::{OffsetDateTime, Time};

/// A span of every day, by the exchange's clock; it may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailySpan {
    /// From this time of day on, such as `"02:00"`.
    pub from: TimeOfDay,
    /// Up to this one, not included.
    pub until: TimeOfDay,
}

/// A time of day, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(Time);

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&format_args!("{:02}:{:02}", self.0.hour(), self.0.minute()))
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        let parsed = Time::parse(&text, format_description!("[hour]:[minute]"));
        parsed.map(Self).map_err(|_| D::Error::custom("a time of day is written HH:MM"))
    }
}

impl DailySpan {
    /// Whether a moment of the exchange's clock is in it.
    #[must_use]
    pub fn holds(self, exchange_time: OffsetDateTime) -> bool {
        let (at, from, until) = (exchange_time.time(), self.from.0, self.until.0);
        if from <= until { from <= at && at < until } else { at >= from || at < until }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_span_may_go_over_midnight() {
        let span: DailySpan = serde_json::from_str(r#"{"from":"23:30","until":"00:15"}"#).unwrap();
        assert!(span.holds(datetime!(2026-07-01 23:30 -4)));
        assert!(span.holds(datetime!(2026-07-02 00:14:59 -4)));
        assert!(!span.holds(datetime!(2026-07-02 00:15 -4)));
        assert!(!span.holds(datetime!(2026-07-01 12:00 -4)));
        assert_eq!(serde_json::to_string(&span).unwrap(), r#"{"from":"23:30","until":"00:15"}"#);
    }
}
