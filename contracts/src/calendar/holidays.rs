//! Which days the New York exchanges trade, and until when.

use time::{Date, Month, Time, Weekday};

/// Wall-clock opening.
pub(super) const OPEN: Time = time::macros::time!(9:30);
/// Wall-clock close.
pub(super) const CLOSE: Time = time::macros::time!(16:00);
/// Wall-clock close of a half day.
pub(super) const HALF_DAY_CLOSE: Time = time::macros::time!(13:00);

/// First year in which Juneteenth is a market holiday.
const JUNETEENTH_SINCE: i32 = 2022;

/// Days closed by proclamation (mourning, weather), which no rule gives.
const PROCLAIMED: [Date; 5] = [
    time::macros::date!(2007 - 01 - 02),
    time::macros::date!(2012 - 10 - 29),
    time::macros::date!(2012 - 10 - 30),
    time::macros::date!(2018 - 12 - 05),
    time::macros::date!(2025 - 01 - 09),
];

/// How long the market trades on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DayKind {
    /// Not at all.
    Closed,
    /// Until [`HALF_DAY_CLOSE`].
    Half,
    /// Until [`CLOSE`].
    Full,
}

pub(super) fn day_kind(date: Date) -> DayKind {
    let weekend = matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
    if weekend || is_holiday(date) || PROCLAIMED.contains(&date) {
        DayKind::Closed
    } else if is_half_day(date) {
        DayKind::Half
    } else {
        DayKind::Full
    }
}

fn is_holiday(date: Date) -> bool {
    let (year, month, day) = date.to_calendar_date();
    let monday = date.weekday() == Weekday::Monday;
    match month {
        // A New Year's Day on a Saturday is not made up for on the Friday before.
        Month::January => (day == 1) || (day == 2 && monday) || (monday && nth_of_month(day) == 3),
        Month::February => monday && nth_of_month(day) == 3,
        Month::March | Month::April => is_good_friday(date),
        Month::May => monday && day > 24,
        Month::June => year >= JUNETEENTH_SINCE && is_observed(date, 19),
        Month::July => is_observed(date, 4),
        Month::September => monday && nth_of_month(day) == 1,
        Month::November => is_thanksgiving(date),
        Month::December => is_observed(date, 25),
        Month::August | Month::October => false,
    }
}

fn is_half_day(date: Date) -> bool {
    let (_, month, day) = date.to_calendar_date();
    match month {
        Month::July => day == 3,
        Month::November => date.previous_day().is_some_and(is_thanksgiving),
        Month::December => day == 24,
        _ => false,
    }
}

/// A fixed day of this month, kept on Friday where it is a Saturday, on Monday where a Sunday.
fn is_observed(date: Date, fixed_day: u8) -> bool {
    let day = date.day();
    day == fixed_day
        || (day + 1 == fixed_day && date.weekday() == Weekday::Friday)
        || (day == fixed_day + 1 && date.weekday() == Weekday::Monday)
}

fn is_thanksgiving(date: Date) -> bool {
    date.month() == Month::November && date.weekday() == Weekday::Thursday && nth_of_month(date.day()) == 4
}

/// Which one of its weekday in the month a day is: 1 for the first to the seventh.
fn nth_of_month(day: u8) -> u8 {
    day.saturating_sub(1) / 7 + 1
}

fn is_good_friday(date: Date) -> bool {
    date.saturating_add(time::Duration::days(2)) == easter_sunday(date.year()).unwrap_or(Date::MIN)
}

/// The Gregorian date of Easter, by the anonymous algorithm.
fn easter_sunday(year: i32) -> Option<Date> {
    let golden = year.rem_euclid(19);
    let century = year.div_euclid(100);
    let of_century = year.rem_euclid(100);
    let lunar = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - lunar + 15).rem_euclid(30);
    let weekday = (32 + 2 * (century % 4) + 2 * (of_century / 4) - epact - of_century % 4).rem_euclid(7);
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let days = epact + weekday - 7 * late + 114;
    let month = Month::try_from(u8::try_from(days / 31).ok()?).ok()?;
    Date::from_calendar_date(year, month, u8::try_from(days % 31 + 1).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn published_holidays_are_closed() {
        let holidays = [
            date!(2024 - 01 - 01),
            date!(2024 - 01 - 15),
            date!(2024 - 02 - 19),
            date!(2024 - 03 - 29),
            date!(2024 - 05 - 27),
            date!(2024 - 06 - 19),
            date!(2024 - 07 - 04),
            date!(2024 - 09 - 02),
            date!(2024 - 11 - 28),
            date!(2024 - 12 - 25),
            date!(2025 - 01 - 01),
            date!(2025 - 01 - 09),
            date!(2025 - 01 - 20),
            date!(2025 - 02 - 17),
            date!(2025 - 04 - 18),
            date!(2025 - 05 - 26),
            date!(2025 - 06 - 19),
            date!(2025 - 07 - 04),
            date!(2025 - 09 - 01),
            date!(2025 - 11 - 27),
            date!(2025 - 12 - 25),
            date!(2026 - 01 - 01),
            date!(2026 - 01 - 19),
            date!(2026 - 02 - 16),
            date!(2026 - 04 - 03),
            date!(2026 - 05 - 25),
            date!(2026 - 06 - 19),
            date!(2026 - 07 - 03),
            date!(2026 - 09 - 07),
            date!(2026 - 11 - 26),
            date!(2026 - 12 - 25),
            date!(2027 - 03 - 26),
            date!(2027 - 06 - 18),
            date!(2027 - 07 - 05),
            date!(2027 - 12 - 24),
        ];
        for holiday in holidays {
            assert_eq!(day_kind(holiday), DayKind::Closed, "{holiday}");
        }
        let weekdays_closed_in_2026 = days_of(2026)
            .filter(|day| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday))
            .filter(|day| day_kind(*day) == DayKind::Closed)
            .count();
        assert_eq!(weekdays_closed_in_2026, 10);
    }

    #[test]
    fn published_half_days_are_half() {
        for (year, expected) in [
            (2024, vec![date!(2024 - 07 - 03), date!(2024 - 11 - 29), date!(2024 - 12 - 24)]),
            (2025, vec![date!(2025 - 07 - 03), date!(2025 - 11 - 28), date!(2025 - 12 - 24)]),
            (2026, vec![date!(2026 - 11 - 27), date!(2026 - 12 - 24)]),
            (2027, vec![date!(2027 - 11 - 26)]),
        ] {
            let half: Vec<Date> = days_of(year).filter(|day| day_kind(*day) == DayKind::Half).collect();
            assert_eq!(half, expected, "{year}");
        }
    }

    #[test]
    fn new_year_on_a_saturday_is_not_made_up_for() {
        assert_eq!(day_kind(date!(2021 - 12 - 31)), DayKind::Full);
        assert_eq!(day_kind(date!(2023 - 01 - 02)), DayKind::Closed);
    }

    fn days_of(year: i32) -> impl Iterator<Item = Date> {
        let first = Date::from_calendar_date(year, Month::January, 1).unwrap();
        std::iter::successors(Some(first), |day| day.next_day()).take_while(move |day| day.year() == year)
    }
}
