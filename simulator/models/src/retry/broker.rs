//! The broker of the retry model: the truth that the gateway cannot see.

use super::{LONGEST_FLIGHT, RECORD_LAG, SKEW};
use broker_gateway::domain::attempt::AttemptEnd;
use broker_gateway::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use time::Duration;

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flight {
    /// Which attempt, counted from 0.
    pub attempt: u8,
    /// When its bytes left.
    pub left: u8,
    /// The tick after which it must not be taken any more, if it says so.
    pub valid_until: Option<u8>,
}

/// An order that the broker has taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Taken {
    /// Which attempt's key it has, where keys differ.
    pub key: u8,
    /// When.
    pub at: u8,
    /// Whether lookups and the stream show it yet.
    pub shown: bool,
}

/// What the broker feels like when a request arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It takes what may be taken.
    Take,
    /// It refuses, for lack of cash for example.
    Refuse,
    /// It answers 429 and does nothing.
    Throttle,
}

/// The truth.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Broker {
    /// How far its clock is off.
    pub skew: i8,
    /// Requests under way to it.
    pub flights: Vec<Flight>,
    /// Orders that it took. Two would be one too many.
    pub orders: Vec<Taken>,
}

impl Broker {
    pub(super) const fn new(skew: i8) -> Self {
        Self { skew, flights: Vec::new(), orders: Vec::new() }
    }

    /// A request arrives; answers what the reply says.
    pub(super) fn arrive(&mut self, profile: &Profile, flight: &Flight, key: u8, mood: Mood, now: u8) -> AttemptEnd {
        let by_its_clock = i16::from(now) + i16::from(self.skew);
        let refused = AttemptEnd::Rejected(super::refusal());
        if profile.honours_valid_until() && flight.valid_until.is_some_and(|until| by_its_clock > i16::from(until)) {
            return refused;
        }
        match mood {
            Mood::Refuse => return refused,
            Mood::Throttle => return AttemptEnd::NotSent,
            Mood::Take => {}
        }
        let known = self.orders.iter().filter(|order| order.key == key).any(|order| match profile.key_enforcement {
            KeyEnforcement::Always => true,
            KeyEnforcement::Window(window) => i64::from(now) < i64::from(order.at) + window.whole_seconds(),
            KeyEnforcement::Never => false,
        });
        if known {
            return AttemptEnd::Duplicate;
        }
        self.orders.push(Taken { key, at: now, shown: false });
        AttemptEnd::Accepted
    }

    /// Whether the profile's promises let time go on.
    pub(super) fn may_wait(&self, profile: &Profile, now: u8) -> bool {
        let in_time = |since: u8, most: u8| now < since.saturating_add(most);
        let flights = profile.longest_flight.is_none() || self.flights.iter().all(|f| in_time(f.left, LONGEST_FLIGHT));
        let lag_is_stated = matches!(profile.valid_until, ValidUntil::Honoured { record_lag_max: Some(_) });
        flights && (!lag_is_stated || self.orders.iter().all(|order| order.shown || in_time(order.at, RECORD_LAG)))
    }

    /// Sets what no promise of the profile depends on to nothing.
    pub(super) fn forget(&mut self, profile: &Profile) {
        if profile.longest_flight.is_none() {
            self.flights.iter_mut().for_each(|flight| flight.left = 0);
        }
        if !profile.honours_valid_until() {
            self.flights.iter_mut().for_each(|flight| flight.valid_until = None);
        }
        let windowed = matches!(profile.key_enforcement, KeyEnforcement::Window(_));
        for order in self.orders.iter_mut().filter(|order| order.shown && !windowed) {
            order.at = 0;
        }
        self.flights.sort_unstable();
    }

    /// Whether a lookup or the stream can show an order.
    #[must_use]
    pub fn shows(&self) -> bool {
        self.orders.iter().any(|order| order.shown)
    }
}

/// The kinds of brokers.
#[derive(Debug, Clone, Copy)]
pub struct Profiles;

impl Profiles {
    /// Keys enforced for ever, lookup, a time after which nothing is taken, a stated lag.
    #[must_use]
    pub fn full() -> Profile {
        Profile {
            broker: crate::broker_id(),
            key_accepted: true,
            key_looked_up: true,
            key_enforcement: KeyEnforcement::Always,
            valid_until: ValidUntil::Honoured { record_lag_max: Some(Duration::seconds(i64::from(RECORD_LAG))) },
            longest_flight: Some(Duration::seconds(i64::from(LONGEST_FLIGHT))),
            clock_skew_max: Duration::seconds(i64::from(SKEW)),
            rate_limited_is_unprocessed: true,
        }
    }

    /// Keys enforced for a window only; after it the same key is a new order. Lookup, and nothing else.
    #[must_use]
    pub fn windowed(window: u8) -> Profile {
        Profile {
            key_enforcement: KeyEnforcement::Window(Duration::seconds(i64::from(window))),
            valid_until: ValidUntil::Ignored,
            ..Self::full()
        }
    }

    /// Finds by key and does not enforce it.
    #[must_use]
    pub fn lookup_only() -> Profile {
        Profile { key_enforcement: KeyEnforcement::Never, ..Self::full() }
    }

    /// No key, no lookup, no time after which nothing is taken.
    #[must_use]
    pub fn blind() -> Profile {
        Profile {
            key_accepted: false,
            key_looked_up: false,
            key_enforcement: KeyEnforcement::Never,
            valid_until: ValidUntil::Ignored,
            ..Self::full()
        }
    }
}
