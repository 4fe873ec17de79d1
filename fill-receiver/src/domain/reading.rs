//! A frame's bytes into a broker event, or the reason why that cannot be.
//!
//! What cannot be read is poison: the same bytes will never read better with this program, so they
//! are parked for a person and the stream goes on. What is merely strange (a word that we do not
//! know, an order that is not ours) is read.

use super::cumulative::{Cumulative, ExecutionsShown, ID_PREFIX, Part, Resolution, execution_id};
use super::cursor::Cursor;
use super::identity::{ExecutionKind, ExecutionScope, Identity};
use contracts::alpaca::{OrderEntity, Side as WireSide, TradeEvent, TradeEventKind};
use contracts::decimal::plain;
use contracts::event::{BrokerEvent, BrokerFact};
use contracts::ids::{BrokerId, BrokerOrderId, EventId, ExecutionId};
use contracts::money::{Price, Quantity};
use contracts::{BrokerKey, Side, Symbol};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// The longest foreign text (a client's order id, a status word) that is kept, in characters.
const FOREIGN_TEXT_LEN_MAX: usize = 256;
/// The longest event word, in characters. It is a part of identities, so it is never cut.
const WORD_LEN_MAX: usize = 64;
/// The longest explanation of a parked frame that is kept, in characters.
const DETAIL_LEN_MAX: usize = 500;

/// What a broker's stream promises about itself.
#[derive(Debug, Clone)]
pub struct BrokerProfile {
    /// Its name in our configuration.
    pub broker: BrokerId,
    /// Within what its execution ids are unique.
    pub execution_scope: ExecutionScope,
    /// Whether its events tell executions.
    pub executions: ExecutionsShown,
}

/// The bytes of one event as they came, and their hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    bytes: Vec<u8>,
    sha256: [u8; 32],
}

impl RawFrame {
    /// Hashes the bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let sha256 = Sha256::digest(&bytes).into();
        Self { bytes, sha256 }
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Their SHA-256.
    #[must_use]
    pub const fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

/// Why a frame is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoisonReason {
    /// The bytes are no JSON of a trade event.
    Malformed,
    /// An execution without its id, quantity, price or the execution that it takes back.
    Incomplete,
    /// A value outside what we can hold.
    OutOfRange,
    /// The broker's order is already known to be another order of ours.
    IdentityConflict,
    /// The database refuses the values.
    Unstorable,
}

impl PoisonReason {
    /// The word in the database and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Incomplete => "incomplete",
            Self::OutOfRange => "out_of_range",
            Self::IdentityConflict => "identity_conflict",
            Self::Unstorable => "unstorable",
        }
    }
}

/// A frame that cannot become an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poison {
    /// Why, as a word.
    pub reason: PoisonReason,
    /// Why, for a person.
    pub detail: String,
}

impl Poison {
    /// Wraps an explanation, without characters that a database refuses and not longer than needed.
    #[must_use]
    pub fn new(reason: PoisonReason, detail: &str) -> Self {
        Self { reason, detail: clean(detail, DETAIL_LEN_MAX) }
    }
}

/// A frame that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadEvent {
    /// Which fact it is.
    pub identity: Identity,
    /// Our id, from the identity alone.
    pub event_id: EventId,
    /// The event. Its `order_id` is what its own key says; the stored binding may know more.
    pub event: BrokerEvent,
    /// Our key, where the broker's text is one.
    pub key: Option<BrokerKey>,
    /// What must be equal whenever the same identity comes again.
    pub terms: String,
    /// What is filled of the order in all, where fills are derived from that.
    pub figures: Option<Figures>,
}

/// What an event of a broker without executions shows of its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// What is filled.
    pub filled: Cumulative,
    /// Whether the order is at its end.
    pub is_ended: bool,
}

/// A frame with what was made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The bytes.
    pub raw: RawFrame,
    /// Its position in the stream, where it has a readable one.
    pub position: Option<Cursor>,
    /// The event, or why there is none.
    pub outcome: Result<ReadEvent, Poison>,
}

/// Reads one frame. The same bytes always give the same reading.
#[must_use]
pub fn read_frame(profile: &BrokerProfile, raw: RawFrame) -> Reading {
    match serde_json::from_slice::<TradeEvent>(raw.bytes()) {
        Ok(wire) => {
            let position = Cursor::parse(&wire.event_id).ok();
            let outcome = read_event(profile, &wire, raw.bytes());
            Reading { raw, position, outcome }
        }
        Err(error) => {
            // Even an event that cannot be understood may show its place in the stream.
            let position = serde_json::from_slice::<PositionProbe>(raw.bytes())
                .ok()
                .and_then(|probe| Cursor::parse(&probe.event_id).ok());
            let outcome = Err(Poison::new(PoisonReason::Malformed, &error.to_string()));
            Reading { raw, position, outcome }
        }
    }
}

#[derive(Deserialize)]
struct PositionProbe {
    event_id: String,
}

/// What the wire type does not tell: whether a figure was said at all, and words outside it.
#[derive(Deserialize, Default)]
struct Probe<'a> {
    #[serde(borrow)]
    order: Option<OrderProbe<'a>>,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct OrderProbe<'a> {
    #[serde(borrow)]
    filled_qty: Option<&'a RawValue>,
}

fn read_event(profile: &BrokerProfile, wire: &TradeEvent, bytes: &[u8]) -> Result<ReadEvent, Poison> {
    let word = checked_word(wire.event.as_str())?;
    let broker_order_id = BrokerOrderId::new(wire.order.id.to_string()).map_err(|error| out_of_range(&error))?;
    let symbol = Symbol::new(wire.order.symbol.as_str()).map_err(|error| out_of_range(&error))?;
    let side = read_side(&wire.order)?;
    let (fact, figures) = match profile.executions {
        ExecutionsShown::Single => (read_fact(wire, bytes)?, None),
        ExecutionsShown::Cumulative(resolution) => read_cumulative(wire, bytes, resolution)?,
    };
    let at = wire.timestamp.or(wire.at).or_else(|| Cursor::parse(&wire.event_id).ok().map(Cursor::moment));
    let at = at.ok_or_else(|| Poison::new(PoisonReason::Incomplete, "event has no time"))?;
    let cumulative = match wire.order.filled_qty {
        // The wire type reads an absent figure as zero, and an end must not claim what nobody said.
        quantity if quantity.is_zero() => probe(bytes).order.and_then(|order| order.filled_qty).map(|_said| quantity),
        quantity => Some(quantity).filter(|quantity| *quantity > Decimal::ZERO),
    };
    let client_order_id = clean(&wire.order.client_order_id, FOREIGN_TEXT_LEN_MAX);
    let key = BrokerKey::parse(&client_order_id).ok();
    let identity = identity_of(profile, wire, &fact, &broker_order_id, word)?;
    let event = BrokerEvent {
        broker: profile.broker.clone(),
        broker_order_id,
        order_id: key.map(BrokerKey::order_id),
        broker_client_order_id: Some(client_order_id).filter(|text| !text.is_empty()),
        event: word.to_owned(),
        order_status: clean(wire.order.status.as_str(), WORD_LEN_MAX),
        symbol,
        side,
        cumulative_quantity: cumulative,
        at,
        fact,
    };
    let terms = terms_of(&event);
    Ok(ReadEvent { event_id: identity.event_id(&profile.broker), identity, event, key, terms, figures })
}

/// A fill of such a broker is no execution, only a hint to look at its order's figures, as every other event is. What
/// was derived from them earlier is an execution by its id.
fn read_cumulative(
    wire: &TradeEvent,
    bytes: &[u8],
    resolution: Resolution,
) -> Result<(BrokerFact, Option<Figures>), Poison> {
    let is_fill = matches!(wire.event, TradeEventKind::Fill | TradeEventKind::PartialFill);
    if is_fill && wire.execution_id.as_deref().is_some_and(|id| id.starts_with(ID_PREFIX)) {
        return Ok((read_fact(wire, bytes)?, None));
    }
    let fact = if is_fill { BrokerFact::Other } else { read_fact(wire, bytes)? };
    let filled = Cumulative::of(wire.order.filled_qty, wire.order.filled_avg_price, resolution)?;
    Ok((fact, Some(Figures { filled, is_ended: wire.order.status.is_terminal() })))
}

/// The fill that a part of an increase is, as a frame like the one that showed the increase.
///
/// # Errors
/// [`Poison`] where its figures are none of a fill.
pub fn derive_fill(profile: &BrokerProfile, shown: &RawFrame, part: Part) -> Result<Reading, Poison> {
    let malformed = |error: serde_json::Error| Poison::new(PoisonReason::Malformed, &error.to_string());
    let wire: TradeEvent = serde_json::from_slice(shown.bytes()).map_err(malformed)?;
    let order = BrokerOrderId::new(wire.order.id.to_string()).map_err(|error| out_of_range(&error))?;
    let fill = TradeEvent {
        event: TradeEventKind::Fill,
        execution_id: Some(execution_id(&order, part.cumulative)?.to_string()),
        price: Some(part.price),
        qty: Some(part.quantity),
        previous_execution_id: None,
        ..wire
    };
    let reading = read_frame(profile, RawFrame::new(serde_json::to_vec(&fill).map_err(malformed)?));
    match reading.outcome {
        Ok(_) => Ok(reading),
        Err(poison) => Err(poison),
    }
}

fn out_of_range(error: &dyn std::fmt::Display) -> Poison {
    Poison::new(PoisonReason::OutOfRange, &error.to_string())
}

fn checked_word(word: &str) -> Result<&str, Poison> {
    let good = !word.is_empty() && word.len() <= WORD_LEN_MAX && word.bytes().all(|b| (0x20..0x7f).contains(&b));
    if good { Ok(word) } else { Err(Poison::new(PoisonReason::OutOfRange, "event word is empty, long or not ASCII")) }
}

fn read_side(order: &OrderEntity) -> Result<Side, Poison> {
    match &order.side {
        WireSide::Buy => Ok(Side::Buy),
        WireSide::Sell => Ok(Side::Sell),
        WireSide::Other(word) => Err(Poison::new(PoisonReason::OutOfRange, &format!("side is {word}"))),
    }
}

fn probe(bytes: &[u8]) -> Probe<'_> {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn read_fact(wire: &TradeEvent, bytes: &[u8]) -> Result<BrokerFact, Poison> {
    use TradeEventKind as Kind;
    Ok(match &wire.event {
        Kind::Fill | Kind::PartialFill => {
            BrokerFact::Fill { execution_id: execution(wire)?, quantity: quantity(wire)?, price: price(wire)? }
        }
        Kind::TradeBust => {
            BrokerFact::Bust { execution_id: execution(wire)?, previous_execution_id: previous_execution(wire)? }
        }
        Kind::TradeCorrect => BrokerFact::Correct {
            execution_id: execution(wire)?,
            previous_execution_id: previous_execution(wire)?,
            quantity: quantity(wire)?,
            price: price(wire)?,
        },
        Kind::Accepted
        | Kind::PendingNew
        | Kind::New
        | Kind::Held
        | Kind::Stopped
        | Kind::Suspended
        | Kind::PendingCancel
        | Kind::PendingReplace
        | Kind::OrderReplaceRejected => BrokerFact::Live,
        Kind::Canceled => BrokerFact::Canceled,
        Kind::Expired => BrokerFact::Expired,
        Kind::Rejected => {
            let reason = probe(bytes).reason.unwrap_or_default();
            BrokerFact::Rejected { reason: clean(&reason, FOREIGN_TEXT_LEN_MAX) }
        }
        Kind::OrderCancelRejected => BrokerFact::CancelRejected,
        // These may follow the end of an order, so they are no evidence that it lives.
        Kind::DoneForDay | Kind::Replaced | Kind::Calculated | Kind::Restated | Kind::Other(_) => BrokerFact::Other,
    })
}

fn execution(wire: &TradeEvent) -> Result<ExecutionId, Poison> {
    let text = wire.execution_id.as_deref();
    let text = text.ok_or_else(|| Poison::new(PoisonReason::Incomplete, "execution has no id"))?;
    ExecutionId::new(text).map_err(|error| out_of_range(&error))
}

fn previous_execution(wire: &TradeEvent) -> Result<ExecutionId, Poison> {
    let text = wire.previous_execution_id.as_deref();
    let text =
        text.ok_or_else(|| Poison::new(PoisonReason::Incomplete, "does not say which execution it takes back"))?;
    ExecutionId::new(text).map_err(|error| out_of_range(&error))
}

fn quantity(wire: &TradeEvent) -> Result<Quantity, Poison> {
    let value = wire.qty.ok_or_else(|| Poison::new(PoisonReason::Incomplete, "execution has no quantity"))?;
    Quantity::new(value).map_err(|error| out_of_range(&format!("quantity {value} {error}")))
}

fn price(wire: &TradeEvent) -> Result<Price, Poison> {
    let value = wire.price.ok_or_else(|| Poison::new(PoisonReason::Incomplete, "execution has no price"))?;
    Price::new(value).map_err(|error| out_of_range(&format!("price {value} {error}")))
}

fn identity_of(
    profile: &BrokerProfile,
    wire: &TradeEvent,
    fact: &BrokerFact,
    broker_order_id: &BrokerOrderId,
    word: &str,
) -> Result<Identity, Poison> {
    let (kind, execution_id) = match fact {
        BrokerFact::Fill { execution_id, .. } => (ExecutionKind::Fill, execution_id.clone()),
        BrokerFact::Bust { execution_id, .. } => (ExecutionKind::Bust, execution_id.clone()),
        BrokerFact::Correct { execution_id, .. } => (ExecutionKind::Correct, execution_id.clone()),
        _ => {
            let position = clean(&wire.event_id, WORD_LEN_MAX);
            let (broker_order_id, event) = (broker_order_id.clone(), word.to_owned());
            return Ok(Identity::State { broker_order_id, event, position });
        }
    };
    let scope = match profile.execution_scope {
        ExecutionScope::Broker => String::new(),
        ExecutionScope::Account if wire.account_id.is_empty() => {
            return Err(Poison::new(
                PoisonReason::Incomplete,
                "execution names no account, and its id is unique only within one",
            ));
        }
        ExecutionScope::Account => clean(&wire.account_id, FOREIGN_TEXT_LEN_MAX),
    };
    Ok(Identity::Execution { scope, kind, execution_id })
}

/// The terms that a repeat must share: figures in one canonical form, not bytes, and nothing that a
/// broker renders from the order's present state.
fn terms_of(event: &BrokerEvent) -> String {
    let order = format!("order={} symbol={} side={}", event.broker_order_id, event.symbol, event.side.as_str());
    let cumulative = || event.cumulative_quantity.map_or_else(|| "unknown".to_owned(), plain);
    match &event.fact {
        BrokerFact::Fill { quantity, price, .. } => format!("{order} quantity={quantity} price={price}"),
        BrokerFact::Bust { previous_execution_id, .. } => format!("{order} previous={previous_execution_id}"),
        BrokerFact::Correct { previous_execution_id, quantity, price, .. } => {
            format!("{order} quantity={quantity} price={price} previous={previous_execution_id}")
        }
        BrokerFact::Canceled | BrokerFact::Expired | BrokerFact::Rejected { .. } => {
            format!("{order} cumulative={}", cumulative())
        }
        BrokerFact::Live | BrokerFact::CancelRejected | BrokerFact::Other => order,
    }
}

/// Text from outside without control characters (a database refuses NUL), cut to a length.
fn clean(text: &str, len_max: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(len_max).collect()
}

#[cfg(test)]
mod tests;
