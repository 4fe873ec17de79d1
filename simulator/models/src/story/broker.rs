//! The broker of a story: the truth, and all the ways in which it shows or hides it.

use broker_gateway::domain::order::SeenOrder;
use broker_gateway::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome, Refusal};
use broker_gateway::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use contracts::{BrokerKey, BrokerOrderId, OrderId, OrderTerms};
use fill_receiver::domain::cursor::Cursor;
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};
use ulid::Ulid;
use uuid::Uuid;

/// Our order and, where keys differ by attempt, which attempt's key.
pub(super) type Key = (OrderId, i32);

/// Where an order stands at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// It may fill.
    Live,
    /// All of it is filled.
    Filled,
    /// Canceled.
    Canceled,
    /// Its time is over.
    Expired,
}

/// An order that the broker has taken.
#[derive(Debug, Clone)]
pub(super) struct BrokerOrder {
    /// Whose.
    pub(super) key: Key,
    /// Our partition's key, as the wire carries it; none at a broker that takes no keys.
    pub(super) wire_key: Option<BrokerKey>,
    /// The broker's id.
    pub(super) id: Uuid,
    /// What was asked for.
    pub(super) terms: OrderTerms,
    /// When it was taken.
    pub(super) at: OffsetDateTime,
    /// Whether lookups and the stream show it yet.
    pub(super) shown: bool,
    /// Where it stands.
    pub(super) status: Status,
    /// Whether its cancel was taken.
    pub(super) cancel_taken: bool,
    /// Its executions: numbers of shares.
    pub(super) fills: Vec<i64>,
}

impl BrokerOrder {
    /// Shares filled.
    #[must_use]
    pub(super) fn filled(&self) -> i64 {
        self.fills.iter().sum()
    }

    /// The broker's name of one of its executions.
    #[must_use]
    pub(super) fn execution(&self, n: usize) -> String {
        format!("{}-{n}", self.id.simple())
    }

    fn word(&self) -> &'static str {
        match self.status {
            Status::Live if self.fills.is_empty() => "new",
            Status::Live => "partially_filled",
            Status::Filled => "filled",
            Status::Canceled => "canceled",
            Status::Expired => "expired",
        }
    }

    fn seen(&self) -> Option<SeenOrder> {
        Some(SeenOrder {
            broker_order_id: BrokerOrderId::new(self.id.to_string()).ok()?,
            key: self.wire_key.map(|key| key.to_string()).unwrap_or_default(),
            status: self.word().to_owned(),
            is_terminal: self.status != Status::Live,
            cumulative_quantity: Decimal::from(self.filled()),
            symbol: self.terms.symbol().to_string(),
            side: self.terms.side().as_str().to_owned(),
            order_type: self.terms.order_type().as_str().to_owned(),
            time_in_force: self.terms.time_in_force().as_str().to_owned(),
            quantity: Some(self.terms.quantity().value()),
            limit_price: self.terms.limit_price().map(|price| price.value()),
        })
    }
}

/// What a request asks for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// A new order.
    Create {
        /// Under this key.
        key: Key,
        /// As the wire carries it.
        wire_key: BrokerKey,
        /// On these terms.
        terms: OrderTerms,
        /// Not after this.
        valid_until: Option<OffsetDateTime>,
    },
    /// An order by our key.
    ByKey(OrderId),
    /// An order by the broker's id.
    ById(String),
    /// A cancel by the broker's id.
    Cancel(String),
}

/// A request under way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    /// Who waits for the reply.
    pub(super) hand: u64,
    /// What it asks for.
    pub(super) asked: Asked,
    /// When its bytes left.
    pub(super) left: OffsetDateTime,
}

/// A reply.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// To a new order.
    Create(CreateOutcome),
    /// To a question.
    Lookup(LookupOutcome),
    /// To a cancel.
    Cancel(CancelOutcome),
}

/// A frame of its stream.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Where.
    pub(super) position: Cursor,
    /// Its bytes.
    pub(super) bytes: Vec<u8>,
}

/// The broker.
#[derive(Debug, Clone)]
pub(super) struct Broker {
    /// What it promises, and keeps.
    pub(super) profile: Profile,
    /// How far its clock is off.
    pub(super) skew: Duration,
    /// Requests under way to it.
    pub(super) flights: Vec<Flight>,
    /// Its orders.
    pub(super) orders: Vec<BrokerOrder>,
    /// Its stream, in the order of emission.
    pub(super) stream: Vec<Frame>,
    frames: u128,
}

impl Broker {
    /// A broker without orders.
    #[must_use]
    pub(super) const fn new(profile: Profile, skew: Duration) -> Self {
        Self { profile, skew, flights: Vec::new(), orders: Vec::new(), stream: Vec::new(), frames: 0 }
    }

    /// A request arrives. `mood`: 1 refuses, 2 throttles, 3 answers nonsense, anything else is in order.
    pub(super) fn arrive(&mut self, flight: usize, now: OffsetDateTime, mood: u8) -> (u64, Answer) {
        let flight = self.flights.remove(flight);
        let answer = match &flight.asked {
            Asked::Create { key, wire_key, terms, valid_until } => {
                Answer::Create(self.create(*key, *wire_key, terms, *valid_until, now, mood))
            }
            Asked::ByKey(order) => {
                let found = self.orders.iter().find(|o| o.shown && o.key.0 == *order && o.wire_key.is_some());
                let found = found.and_then(BrokerOrder::seen);
                Answer::Lookup(if mood == 3 || !self.profile.key_looked_up { silence() } else { answer(found) })
            }
            Asked::ById(id) => {
                let found = self.orders.iter().find(|order| order.shown && order.id.to_string() == *id);
                Answer::Lookup(if mood == 3 { silence() } else { answer(found.and_then(BrokerOrder::seen)) })
            }
            Asked::Cancel(id) => Answer::Cancel(self.cancel(&id.clone(), mood)),
        };
        (flight.hand, answer)
    }

    fn create(
        &mut self,
        key: Key,
        wire_key: BrokerKey,
        terms: &OrderTerms,
        valid_until: Option<OffsetDateTime>,
        now: OffsetDateTime,
        mood: u8,
    ) -> CreateOutcome {
        let refused = |code| CreateOutcome::Rejected(Refusal { code, message: "no".to_owned() });
        if self.profile.honours_valid_until() && valid_until.is_some_and(|until| now + self.skew > until) {
            return refused(42_210_000);
        }
        match mood {
            1 => return refused(40_310_000),
            2 => return CreateOutcome::RateLimited { retry_after: None },
            _ => {}
        }
        let known =
            self.orders.iter().filter(|order| order.key == key).any(|order| match self.profile.key_enforcement {
                KeyEnforcement::Always => true,
                KeyEnforcement::Window(window) => now < order.at + window,
                KeyEnforcement::Never => false,
            });
        if known {
            return CreateOutcome::Duplicate;
        }
        let order = BrokerOrder {
            key,
            wire_key: self.profile.key_accepted.then_some(wire_key),
            id: Uuid::from_u64_pair(0xb0, self.orders.len() as u64),
            terms: terms.clone(),
            at: now,
            shown: false,
            status: Status::Live,
            cancel_taken: false,
            fills: Vec::new(),
        };
        let seen = order.seen();
        self.orders.push(order);
        match seen {
            Some(seen) if mood != 3 => CreateOutcome::Accepted(Box::new(seen)),
            _ => CreateOutcome::Unknown { reason: "nonsense".to_owned() },
        }
    }

    fn cancel(&mut self, id: &str, mood: u8) -> CancelOutcome {
        let Some(order) = self.orders.iter_mut().find(|order| order.shown && order.id.to_string() == id) else {
            return CancelOutcome::NotFound;
        };
        match (mood, order.status) {
            (2, _) => CancelOutcome::RateLimited { retry_after: None },
            (1, _) | (_, Status::Filled | Status::Canceled | Status::Expired) => {
                CancelOutcome::Refused(Refusal { code: 42_210_000, message: "too late".to_owned() })
            }
            (_, Status::Live) => {
                order.cancel_taken = true;
                if mood == 3 {
                    CancelOutcome::Unknown { reason: "nonsense".to_owned() }
                } else {
                    CancelOutcome::Requested
                }
            }
        }
    }

    /// Shows an order in lookups and in the stream.
    pub(super) fn show(&mut self, n: usize, now: OffsetDateTime) {
        if let Some(order) = self.orders.get_mut(n) {
            order.shown = true;
        }
        self.emit(n, "new", None, now, Duration::ZERO);
    }

    /// Fills some shares of a live order.
    pub(super) fn fill(&mut self, n: usize, shares: i64, now: OffsetDateTime, late: Duration) {
        let Some(order) = self.orders.get_mut(n) else { return };
        order.fills.push(shares);
        if Decimal::from(order.filled()) >= order.terms.quantity().value() {
            order.status = Status::Filled;
        }
        let (word, last) =
            (if order.status == Status::Filled { "fill" } else { "partial_fill" }, order.fills.len() - 1);
        self.emit(n, word, Some(last), now, late);
    }

    /// Ends a live order.
    pub(super) fn end(&mut self, n: usize, status: Status, now: OffsetDateTime) {
        let Some(order) = self.orders.get_mut(n) else { return };
        order.status = status;
        let word = if status == Status::Canceled { "canceled" } else { "expired" };
        self.emit(n, word, None, now, Duration::ZERO);
    }

    /// Tells of an execution again, under another position.
    pub(super) fn repeat(&mut self, n: usize, fill: usize, now: OffsetDateTime) {
        self.emit(n, "partial_fill", Some(fill), now, Duration::ZERO);
    }

    fn emit(&mut self, n: usize, word: &str, fill: Option<usize>, now: OffsetDateTime, late: Duration) {
        let Some(order) = self.orders.get(n) else { return };
        self.frames += 1;
        let ms = u64::try_from((now - late).unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        let ulid = Ulid::from_parts(ms, self.frames).to_string();
        let Ok(position) = Cursor::parse(&ulid) else { return };
        let upto = fill.map_or(order.fills.len(), |fill| fill + 1);
        let filled: i64 = order.fills.iter().take(upto).sum();
        let execution = fill.and_then(|fill| Some((order.execution(fill), order.fills.get(fill)?)));
        let execution = execution.map_or_else(String::new, |(id, shares)| {
            format!(r#""execution_id":"{id}","qty":"{shares}","price":"10","#)
        });
        let key = order.wire_key.map_or_else(|| "theirs".to_owned(), |key| key.to_string());
        let text = format!(
            r#"{{"account_id":"a","at":"2026-07-01T14:00:00Z","timestamp":"2026-07-01T14:00:00Z","event":"{word}","event_id":"{ulid}",{execution}"order":{{"id":"{}","client_order_id":"{key}","symbol":"{}","type":"limit","side":"{}","time_in_force":"day","status":"{}","qty":"{}","filled_qty":"{filled}"}}}}"#,
            order.id,
            order.terms.symbol(),
            order.terms.side().as_str(),
            order.word(),
            order.terms.quantity(),
        );
        self.stream.push(Frame { position, bytes: text.into_bytes() });
    }

    /// The last moment until which time may go on without something happening here first.
    #[must_use]
    pub(super) fn must_act_by(&self) -> Option<OffsetDateTime> {
        let flights = self.profile.longest_flight.map(|most| self.flights.iter().map(move |f| f.left + most));
        let lag = match self.profile.valid_until {
            ValidUntil::Honoured { record_lag_max: Some(lag) } => Some(lag),
            _ => None,
        };
        let hidden = lag.map(|lag| self.orders.iter().filter(|o| !o.shown).map(move |o| o.at + lag));
        flights.into_iter().flatten().chain(hidden.into_iter().flatten()).min()
    }
}

fn silence() -> LookupOutcome {
    LookupOutcome::Unknown { reason: "nonsense".to_owned() }
}

fn answer(found: Option<SeenOrder>) -> LookupOutcome {
    found.map_or(LookupOutcome::None, |seen| LookupOutcome::Found(Box::new(seen)))
}
