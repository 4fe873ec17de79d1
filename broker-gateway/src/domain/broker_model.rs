//! A broker that can do what real ones do, for the property test: requests that arrive late, orders
//! that are taken and recorded later, replies that are lost, keys that are enforced, for a window,
//! or not at all.

use super::outcome::Refusal;
use super::profile::{KeyEnforcement, Profile, ValidUntil};
use time::{Duration, OffsetDateTime};

/// Choices of one story; when they are used up, everything goes well.
pub(super) struct Tape {
    bytes: Vec<u8>,
    next: usize,
}

impl Tape {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, next: 0 }
    }

    /// A number below `sides`; 0 is the healthy choice.
    pub(super) fn choose(&mut self, sides: u8) -> u8 {
        let byte = self.bytes.get(self.next).copied().unwrap_or(0);
        self.next += 1;
        byte % sides
    }

    /// A duration up to `most`, often one of the extremes; 0 is the healthy choice.
    pub(super) fn duration(&mut self, most: Duration) -> Duration {
        match self.choose(3) {
            0 => Duration::ZERO,
            1 => most,
            _ => most * i32::from(self.choose(255)) / 254,
        }
    }
}

/// What the gateway gets to see of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    Accepted,
    Duplicate,
    Rejected(Refusal),
    NotProcessed,
    Nothing,
}

/// What a lookup says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Found,
    None,
    Unknown,
}

/// A request under way to the broker.
struct Flight {
    arrives_at: OffsetDateTime,
    valid_until: Option<OffsetDateTime>,
    /// 0 takes it; otherwise a refusal or a 429.
    mood: u8,
    record_lag: Duration,
    number: i32,
}

/// An order that the broker has.
struct Order {
    accepted_at: OffsetDateTime,
    recorded_at: OffsetDateTime,
}

pub(super) struct Broker {
    profile: Profile,
    /// How far its clock is off.
    skew: Duration,
    flights: Vec<Flight>,
    orders: Vec<Order>,
    replies: Vec<(i32, OffsetDateTime, Reply)>,
}

impl Broker {
    pub(super) fn new(profile: Profile, skew: Duration) -> Self {
        Self { profile, skew, flights: Vec::new(), orders: Vec::new(), replies: Vec::new() }
    }

    /// Sends an attempt off; it arrives `after` from now.
    pub(super) fn send(
        &mut self,
        number: i32,
        arrives_at: OffsetDateTime,
        valid_until: Option<OffsetDateTime>,
        tape: &mut Tape,
    ) {
        let lag = match self.profile.valid_until {
            ValidUntil::Honoured { record_lag_max: Some(lag) } => lag,
            _ => Duration::minutes(10),
        };
        let flight = Flight { arrives_at, valid_until, mood: tape.choose(6), record_lag: tape.duration(lag), number };
        self.flights.push(flight);
    }

    /// Lets everything happen that is due.
    pub(super) fn advance(&mut self, now: OffsetDateTime) {
        self.flights.sort_by_key(|flight| flight.arrives_at);
        while self.flights.first().is_some_and(|flight| flight.arrives_at <= now) {
            let flight = self.flights.remove(0);
            let reply = self.process(&flight);
            self.replies.push((flight.number, flight.arrives_at, reply));
        }
    }

    fn process(&mut self, flight: &Flight) -> Reply {
        let at = flight.arrives_at;
        let refusal = |code| Reply::Rejected(Refusal { code, message: String::new() });
        if self.profile.honours_valid_until() && flight.valid_until.is_some_and(|until| at + self.skew > until) {
            return refusal(42_210_000);
        }
        match flight.mood {
            4 => return Reply::NotProcessed,
            5 => return refusal(40_310_000),
            _ => {}
        }
        let known = self.orders.iter().any(|order| match self.profile.key_enforcement {
            KeyEnforcement::Always => true,
            KeyEnforcement::Window(window) => at < order.accepted_at + window,
            KeyEnforcement::Never => false,
        });
        if known {
            return Reply::Duplicate;
        }
        self.orders.push(Order { accepted_at: at, recorded_at: at + flight.record_lag });
        Reply::Accepted
    }

    /// The reply to an attempt, if the broker has processed it by now.
    pub(super) fn reply(&self, number: i32, now: OffsetDateTime) -> Option<Reply> {
        self.replies.iter().find(|(n, at, _)| *n == number && *at <= now).map(|(_, _, reply)| reply.clone())
    }

    pub(super) fn lookup(&mut self, now: OffsetDateTime, tape: &mut Tape) -> Answer {
        self.advance(now);
        if !self.profile.key_looked_up || tape.choose(4) == 3 {
            return Answer::Unknown;
        }
        if self.orders.iter().any(|order| order.recorded_at <= now) { Answer::Found } else { Answer::None }
    }

    /// Whether its stream could have told of an order by now.
    pub(super) fn has_shown(&self, now: OffsetDateTime) -> bool {
        self.orders.iter().any(|order| order.recorded_at <= now)
    }

    /// How many orders it has of ours, now and after everything under way has arrived.
    pub(super) fn orders_in_the_end(&mut self) -> usize {
        self.advance(OffsetDateTime::UNIX_EPOCH + Duration::days(10_000));
        self.orders.len()
    }
}
