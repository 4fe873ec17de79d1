//! How fast the exchange's clock goes.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Nanoseconds of a minute.
const MINUTE_NS: i128 = 60_000_000_000;
/// Milliseconds of a real minute.
const MINUTE_MS: u32 = 60_000;

/// Where the exchange's clock stood at one real moment, and how long one of its minutes takes.
///
/// Processes that are given the same pace agree on every opening and closing, without asking each
/// other. Written as `real`, or as three parts joined by `/`: the real moment, what the clock showed
/// then (both RFC 3339), and the milliseconds of a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    started_at: OffsetDateTime,
    showed: OffsetDateTime,
    minute_ms: u32,
}

/// A text that is no pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PaceError {
    /// Not the three parts.
    #[error("a pace is `real`, or MOMENT/SHOWN/MINUTE_MS with two RFC 3339 times")]
    Shape,
    /// A minute of no length, or longer than a real one.
    #[error("a minute takes between 1 and {MINUTE_MS} ms")]
    Minute,
}

impl Pace {
    /// The real time.
    #[must_use]
    pub const fn real() -> Self {
        Self { started_at: OffsetDateTime::UNIX_EPOCH, showed: OffsetDateTime::UNIX_EPOCH, minute_ms: MINUTE_MS }
    }

    /// A clock that showed `showed` at `started_at`, and whose minutes take `minute_ms`.
    ///
    /// # Errors
    /// [`PaceError::Minute`] when a minute takes no time, or more than a real one.
    pub const fn new(started_at: OffsetDateTime, showed: OffsetDateTime, minute_ms: u32) -> Result<Self, PaceError> {
        if minute_ms == 0 || minute_ms > MINUTE_MS {
            return Err(PaceError::Minute);
        }
        Ok(Self { started_at, showed, minute_ms })
    }

    /// How long one of its minutes takes, in milliseconds.
    #[must_use]
    pub const fn minute_ms(self) -> u32 {
        self.minute_ms
    }

    /// What the clock shows at a real moment; the moment itself at the real pace.
    #[must_use]
    pub fn shown(self, at: OffsetDateTime) -> OffsetDateTime {
        if self == Self::real() {
            return at;
        }
        let shown_ns = (at - self.started_at).whole_nanoseconds() * MINUTE_NS / self.minute_ns();
        self.showed.saturating_add(nanoseconds(shown_ns))
    }

    /// The first real moment at which the clock shows that.
    #[must_use]
    pub fn really(self, shown: OffsetDateTime) -> OffsetDateTime {
        if self == Self::real() {
            return shown;
        }
        let product = (shown - self.showed).whole_nanoseconds() * self.minute_ns();
        // Rounded up, so that the clock shows at least that then.
        let real_ns = product.div_euclid(MINUTE_NS) + i128::from(product.rem_euclid(MINUTE_NS) > 0);
        self.started_at.saturating_add(nanoseconds(real_ns))
    }

    /// How long a span of its time really takes.
    #[must_use]
    pub fn scaled(self, span: Duration) -> Duration {
        nanoseconds(span.whole_nanoseconds() * self.minute_ns() / MINUTE_NS)
    }

    fn minute_ns(self) -> i128 {
        i128::from(self.minute_ms) * 1_000_000
    }
}

fn nanoseconds(count: i128) -> Duration {
    let seconds = i64::try_from(count.div_euclid(1_000_000_000)).unwrap_or(i64::MAX / 2);
    let rest = i32::try_from(count.rem_euclid(1_000_000_000)).unwrap_or_default();
    Duration::new(seconds, rest)
}

impl Default for Pace {
    fn default() -> Self {
        Self::real()
    }
}

impl FromStr for Pace {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "real" {
            return Ok(Self::real());
        }
        let mut parts = text.split('/');
        let (Some(started_at), Some(showed), Some(minute_ms), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PaceError::Shape);
        };
        let moment = |text| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| PaceError::Shape);
        Self::new(moment(started_at)?, moment(showed)?, minute_ms.parse().map_err(|_| PaceError::Shape)?)
    }
}

impl std::fmt::Display for Pace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::real() {
            return out.write_str("real");
        }
        let moment = |at: OffsetDateTime| at.format(&Rfc3339).map_err(|_| std::fmt::Error);
        write!(out, "{}/{}/{}", moment(self.started_at)?, moment(self.showed)?, self.minute_ms)
    }
}

impl Serialize for Pace {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pace {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::{MarketCalendar, MarketHours};
    use time::macros::datetime;

    const START: OffsetDateTime = datetime!(2026-11-21 03:00 UTC);

    #[test]
    fn a_minute_a_second_brings_the_next_opening_in_seconds() {
        // A Wednesday, a minute before the opening in New York.
        let pace = Pace::new(START, datetime!(2026-07-01 9:29 -4), 1_000).unwrap();
        let calendar = MarketCalendar::new(MarketHours::Real).unwrap().at_pace(pace);
        let opening = START + Duration::SECOND;
        assert_eq!(calendar.next_open(START).unwrap(), opening);
        assert!(!calendar.is_open(opening - Duration::nanoseconds(1)).unwrap());
        assert!(calendar.is_open(opening).unwrap());
        // Six and a half hours of trading are 390 seconds.
        assert_eq!(calendar.next_close(START).unwrap(), opening + Duration::seconds(390));
        assert!(!calendar.is_open(opening + Duration::seconds(390)).unwrap());
        assert_eq!(calendar.exchange_time(opening).unwrap(), datetime!(2026-07-01 9:30 -4));
        assert_eq!(calendar.scaled(Duration::minutes(10)), Duration::seconds(10));
    }

    #[test]
    fn text_and_back() {
        let pace = Pace::new(START, datetime!(2026-07-01 9:29 -4), 250).unwrap();
        assert_eq!(pace.to_string().parse(), Ok(pace));
        assert_eq!("real".parse(), Ok(Pace::real()));
        assert_eq!(Pace::real().to_string(), "real");
        assert_eq!("x/y/1".parse::<Pace>(), Err(PaceError::Shape));
        assert_eq!("2026-11-21T03:00:00Z/2026-07-01T09:29:00-04:00/0".parse::<Pace>(), Err(PaceError::Minute));
    }

    #[test]
    fn what_is_shown_comes_back_at_the_same_moment() {
        let pace = Pace::new(START, datetime!(2026-07-01 9:29 -4), 7).unwrap();
        for seconds in [0, 1, 59, 86_399, 864_001] {
            let shown = datetime!(2026-07-01 9:29 -4) + Duration::seconds(seconds);
            assert!(pace.shown(pace.really(shown)) >= shown);
            assert!(pace.shown(pace.really(shown) - Duration::nanoseconds(1)) < shown);
        }
    }
}
