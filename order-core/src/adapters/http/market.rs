//! When the market is open.

use super::failure::ApiFailure;
use super::fields::FieldError;
use super::{ApiState, QueryParams};
use axum::Json;
use axum::extract::State;
use contracts::alpaca::ClockEntity;
use contracts::calendar::{CalendarError, MarketCalendar, Session};
use serde::Serialize;
use time::{Date, Duration, OffsetDateTime};

/// Most days that one answer covers.
const DAYS_MAX: i64 = 3_660;

/// Days that are listed from the start, unless an end is given.
const DAYS_DEFAULT: i64 = 365;

/// `GET /v2/clock`, in the exchange's time.
pub(super) async fn clock(State(state): State<ApiState>) -> Result<Json<ClockEntity>, ApiFailure> {
    let now = state.clock.now();
    let calendar = &state.calendar;
    Ok(Json(ClockEntity {
        timestamp: calendar.exchange_time(now)?,
        is_open: calendar.is_open(now)?,
        next_open: calendar.exchange_time(calendar.next_open(now)?)?,
        next_close: calendar.exchange_time(calendar.next_close(now)?)?,
    }))
}

/// One trading day.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Day {
    date: String,
    open: String,
    close: String,
    session_open: String,
    session_close: String,
}

/// `GET /v2/calendar`: the trading days from `start` to `end`, both included.
pub(super) async fn calendar(
    State(state): State<ApiState>,
    QueryParams(params): QueryParams,
) -> Result<Json<Vec<Day>>, ApiFailure> {
    let today = state.calendar.exchange_time(state.clock.now())?.date();
    let start = params.date("start")?.unwrap_or(today);
    let end = params.date("end")?;
    let end = end.or_else(|| start.checked_add(Duration::days(DAYS_DEFAULT))).ok_or(CalendarError::OutOfRange)?;
    if end < start {
        return Err(FieldError::new("end", "must not be before start").into());
    }
    if (end - start).whole_days() >= DAYS_MAX {
        return Err(FieldError::new("end", format!("must be less than {DAYS_MAX} days after start")).into());
    }
    Ok(Json(days(&state.calendar, start, end)?))
}

fn days(calendar: &MarketCalendar, start: Date, end: Date) -> Result<Vec<Day>, CalendarError> {
    let mut days = Vec::new();
    let mut date = Some(start);
    while let Some(current) = date.filter(|date| *date <= end) {
        if let Some(session) = calendar.session_for(current)? {
            days.push(day(&session));
        }
        date = current.next_day();
    }
    Ok(days)
}

fn day(session: &Session) -> Day {
    let (open, close) = (wall_clock(session.opens_at), closing(session));
    Day {
        date: session.date.to_string(),
        session_open: open.replace(':', ""),
        session_close: close.replace(':', ""),
        open,
        close,
    }
}

fn wall_clock(at: OffsetDateTime) -> String {
    format!("{:02}:{:02}", at.hour(), at.minute())
}

/// A session until midnight ends at 23:59 here: 00:00 would read as the morning of the same date.
fn closing(session: &Session) -> String {
    if session.closes_at.date() == session.date { wall_clock(session.closes_at) } else { "23:59".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::calendar::MarketHours;
    use time::macros::date;

    #[test]
    fn the_calendar_lists_sessions_in_exchange_time_and_leaves_holidays_out() {
        let calendar = MarketCalendar::new(MarketHours::Real).unwrap();
        let days = days(&calendar, date!(2026 - 11 - 25), date!(2026 - 11 - 28)).unwrap();
        let shown: Vec<_> = days.iter().map(|d| (d.date.as_str(), d.open.as_str(), d.close.as_str())).collect();
        assert_eq!(shown, [("2026-11-25", "09:30", "16:00"), ("2026-11-27", "09:30", "13:00")]);
    }

    #[test]
    fn a_day_without_end_closes_on_its_own_date() {
        let calendar = MarketCalendar::new(MarketHours::Always).unwrap();
        let days = days(&calendar, date!(2026 - 12 - 25), date!(2026 - 12 - 25)).unwrap();
        assert_eq!((days[0].open.as_str(), days[0].close.as_str()), ("00:00", "23:59"));
    }
}
