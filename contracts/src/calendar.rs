//! Market sessions of the US stock exchanges, in exchange time (New York), never in any other.
//!
//! Holidays and half days follow the exchange's published rules; closures by proclamation cannot
//! be computed and are a table.

mod holidays;
mod pace;

use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use time::{Date, Duration, OffsetDateTime, Time, UtcOffset};

pub use pace::{Pace, PaceError};

/// The exchange's time zone.
const ZONE: &str = "America/New_York";

/// Longest run of days without a session that is searched; the longest so far was under a week.
const DAYS_CLOSED_MAX: usize = 14;

/// Which hours the market keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MarketHours {
    /// Open at any hour; a session is one day of exchange time, from midnight to midnight.
    Always,
    /// The exchange's regular hours, holidays and half days.
    Real,
}

/// A word that is neither `always` nor `real`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("market hours must be `always` or `real`")]
pub struct MarketHoursError;

impl FromStr for MarketHours {
    type Err = MarketHoursError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "always" => Ok(Self::Always),
            "real" => Ok(Self::Real),
            _ => Err(MarketHoursError),
        }
    }
}

/// Why the calendar has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CalendarError {
    /// The bundled time-zone data has no New York: a broken build.
    #[error("time-zone data of {ZONE}")]
    Zone(#[source] jiff::Error),
    /// A time outside the years that can be computed with.
    #[error("the time is out of range")]
    OutOfRange,
}

/// One trading session. Times carry the exchange's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The trading date, in exchange time.
    pub date: Date,
    /// The first moment of the session.
    pub opens_at: OffsetDateTime,
    /// The first moment after the session.
    pub closes_at: OffsetDateTime,
    /// Whether it closes early.
    pub half_day: bool,
}

/// The exchange's sessions.
///
/// Moments that are asked about and answered are real ones; dates and [`Self::exchange_time`] are
/// those of the exchange's clock, which goes at another [`Pace`] where one was set.
#[derive(Debug, Clone)]
pub struct MarketCalendar {
    hours: MarketHours,
    zone: TimeZone,
    pace: Pace,
}

impl MarketCalendar {
    /// A calendar that keeps `hours`.
    ///
    /// # Errors
    /// [`CalendarError::Zone`] when the build carries no time-zone data.
    pub fn new(hours: MarketHours) -> Result<Self, CalendarError> {
        let zone = TimeZone::get(ZONE).map_err(CalendarError::Zone)?;
        Ok(Self { hours, zone, pace: Pace::real() })
    }

    /// The same calendar at another pace.
    #[must_use]
    pub fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// How long a span of the exchange's clock really takes.
    #[must_use]
    pub fn scaled(&self, span: Duration) -> Duration {
        self.pace.scaled(span)
    }

    /// Which hours it keeps.
    #[must_use]
    pub fn hours(&self) -> MarketHours {
        self.hours
    }

    /// What the exchange's clock shows at a moment.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn exchange_time(&self, at: OffsetDateTime) -> Result<OffsetDateTime, CalendarError> {
        self.local(self.pace.shown(at))
    }

    fn local(&self, at: OffsetDateTime) -> Result<OffsetDateTime, CalendarError> {
        let timestamp =
            jiff::Timestamp::from_nanosecond(at.unix_timestamp_nanos()).map_err(|_| CalendarError::OutOfRange)?;
        let offset = self.zone.to_offset(timestamp).seconds();
        let offset = UtcOffset::from_whole_seconds(offset).map_err(|_| CalendarError::OutOfRange)?;
        at.checked_to_offset(offset).ok_or(CalendarError::OutOfRange)
    }

    /// The session of a date in exchange time, by the exchange's clock; none on weekends and holidays.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn session_for(&self, date: Date) -> Result<Option<Session>, CalendarError> {
        match self.hours {
            MarketHours::Always => {
                let next = date.next_day().ok_or(CalendarError::OutOfRange)?;
                Ok(Some(Session {
                    date,
                    opens_at: self.moment(date, Time::MIDNIGHT)?,
                    closes_at: self.moment(next, Time::MIDNIGHT)?,
                    half_day: false,
                }))
            }
            MarketHours::Real => match holidays::day_kind(date) {
                holidays::DayKind::Closed => Ok(None),
                kind => {
                    let half_day = kind == holidays::DayKind::Half;
                    let close = if half_day { holidays::HALF_DAY_CLOSE } else { holidays::CLOSE };
                    Ok(Some(Session {
                        date,
                        opens_at: self.moment(date, holidays::OPEN)?,
                        closes_at: self.moment(date, close)?,
                        half_day,
                    }))
                }
            },
        }
    }

    /// Whether orders can trade at that moment.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn is_open(&self, at: OffsetDateTime) -> Result<bool, CalendarError> {
        Ok(self.current_session(at)?.is_some())
    }

    /// The session that is running at that moment.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn current_session(&self, at: OffsetDateTime) -> Result<Option<Session>, CalendarError> {
        let shown = self.exchange_time(at)?;
        let session = self.session_for(shown.date())?;
        let running = session.filter(|session| session.opens_at <= shown && shown < session.closes_at);
        Ok(running.map(|session| self.really(session)))
    }

    /// The session that is running, or else the next one: where an order handed in now works.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn session_at_or_after(&self, at: OffsetDateTime) -> Result<Session, CalendarError> {
        self.find(at, |session| at < session.closes_at)
    }

    /// The first opening strictly after that moment.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn next_open(&self, at: OffsetDateTime) -> Result<OffsetDateTime, CalendarError> {
        Ok(self.find(at, |session| at < session.opens_at)?.opens_at)
    }

    /// The first close strictly after that moment.
    ///
    /// # Errors
    /// [`CalendarError::OutOfRange`] beyond the years that can be computed with.
    pub fn next_close(&self, at: OffsetDateTime) -> Result<OffsetDateTime, CalendarError> {
        Ok(self.session_at_or_after(at)?.closes_at)
    }

    /// The session with the moments at which it really opens and closes.
    fn really(&self, session: Session) -> Session {
        let (opens_at, closes_at) = (self.pace.really(session.opens_at), self.pace.really(session.closes_at));
        Session { opens_at, closes_at, ..session }
    }

    fn find(&self, at: OffsetDateTime, wanted: impl Fn(&Session) -> bool) -> Result<Session, CalendarError> {
        let mut date = self.exchange_time(at)?.date();
        for _ in 0..=DAYS_CLOSED_MAX {
            let session = self.session_for(date)?.map(|session| self.really(session));
            if let Some(session) = session.filter(&wanted) {
                return Ok(session);
            }
            date = date.next_day().ok_or(CalendarError::OutOfRange)?;
        }
        Err(CalendarError::OutOfRange)
    }

    /// A wall-clock time of the exchange as a moment.
    fn moment(&self, date: Date, time: Time) -> Result<OffsetDateTime, CalendarError> {
        let wall = wall_clock(date, time).ok_or(CalendarError::OutOfRange)?;
        let seconds = self.zone.to_timestamp(wall).map_err(|_| CalendarError::OutOfRange)?.as_second();
        let utc =
            OffsetDateTime::UNIX_EPOCH.checked_add(Duration::seconds(seconds)).ok_or(CalendarError::OutOfRange)?;
        self.local(utc)
    }
}

fn wall_clock(date: Date, time: Time) -> Option<DateTime> {
    let year = i16::try_from(date.year()).ok()?;
    let month = i8::try_from(u8::from(date.month())).ok()?;
    let day = i8::try_from(date.day()).ok()?;
    let hour = i8::try_from(time.hour()).ok()?;
    let minute = i8::try_from(time.minute()).ok()?;
    DateTime::new(year, month, day, hour, minute, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    fn real() -> MarketCalendar {
        MarketCalendar::new(MarketHours::Real).unwrap()
    }

    #[test]
    fn regular_hours_follow_daylight_saving_time() {
        let winter = real().session_for(date!(2026 - 03 - 06)).unwrap().unwrap();
        assert_eq!(winter.opens_at, datetime!(2026-03-06 14:30 UTC));
        assert_eq!(winter.closes_at, datetime!(2026-03-06 21:00 UTC));
        let summer = real().session_for(date!(2026 - 03 - 09)).unwrap().unwrap();
        assert_eq!(summer.opens_at, datetime!(2026-03-09 13:30 UTC));
        assert_eq!(summer.opens_at.offset(), UtcOffset::from_hms(-4, 0, 0).unwrap());
    }

    #[test]
    fn open_is_inclusive_and_close_is_exclusive() {
        let calendar = real();
        assert!(!calendar.is_open(datetime!(2026-07-01 13:29:59.999 UTC)).unwrap());
        assert!(calendar.is_open(datetime!(2026-07-01 13:30 UTC)).unwrap());
        assert!(calendar.is_open(datetime!(2026-07-01 19:59:59.999 UTC)).unwrap());
        assert!(!calendar.is_open(datetime!(2026-07-01 20:00 UTC)).unwrap());
    }

    #[test]
    fn half_day_closes_at_one() {
        let session = real().session_for(date!(2026 - 11 - 27)).unwrap().unwrap();
        assert!(session.half_day);
        assert_eq!(session.closes_at, datetime!(2026-11-27 13:00 -5));
    }

    #[test]
    fn next_open_and_close_skip_weekends_and_holidays() {
        let calendar = real();
        // Thursday before Independence Day observed on a Friday.
        let thursday_evening = datetime!(2026-07-02 18:00 -4);
        assert_eq!(calendar.next_open(thursday_evening).unwrap(), datetime!(2026-07-06 9:30 -4));
        assert_eq!(calendar.next_close(thursday_evening).unwrap(), datetime!(2026-07-06 16:00 -4));
        let during = datetime!(2026-07-01 12:00 -4);
        assert_eq!(calendar.next_open(during).unwrap(), datetime!(2026-07-02 9:30 -4));
        assert_eq!(calendar.next_close(during).unwrap(), datetime!(2026-07-01 16:00 -4));
        assert_eq!(calendar.session_at_or_after(during).unwrap().date, date!(2026 - 07 - 01));
        let at_open = datetime!(2026-07-01 9:30 -4);
        assert_eq!(calendar.next_open(at_open).unwrap(), datetime!(2026-07-02 9:30 -4));
    }

    #[test]
    fn an_evening_in_new_york_belongs_to_its_own_date() {
        let exchange = real().exchange_time(datetime!(2026-07-02 3:00 UTC)).unwrap();
        assert_eq!(exchange.date(), date!(2026 - 07 - 01));
    }

    #[test]
    fn always_is_open_on_a_holiday_and_closes_at_midnight() {
        let calendar = MarketCalendar::new(MarketHours::Always).unwrap();
        let christmas = datetime!(2026-12-25 12:00 -5);
        assert!(calendar.is_open(christmas).unwrap());
        assert_eq!(calendar.next_close(christmas).unwrap(), datetime!(2026-12-26 0:00 -5));
        assert_eq!(calendar.next_open(christmas).unwrap(), datetime!(2026-12-26 0:00 -5));
        let clocks_back = calendar.session_for(date!(2026 - 11 - 01)).unwrap().unwrap();
        assert_eq!(clocks_back.closes_at - clocks_back.opens_at, Duration::hours(25));
    }
}
