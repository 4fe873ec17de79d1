//! An order as the broker shows it when it is asked, as a frame: it has no place in the stream.
//!
//! Every order of a page is read for itself. One that cannot be read becomes a frame all the same, with its text in it,
//! which is parked like every other poison: its neighbours, and how far was asked, must not wait for it.

use super::reading::{Poison, PoisonReason, RawFrame};
use contracts::alpaca::{OrderEntity, OrderStatus, TradeEvent, TradeEventKind};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One order of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolledOrder {
    /// What tells it from the others of its page: its id, or the hash of its text where it shows none.
    pub key: String,
    /// When it was placed; none where the broker does not say, or not readably.
    pub created_at: Option<OffsetDateTime>,
    /// Shares that are filled of it in all; none where the broker does not say.
    pub filled: Option<Decimal>,
    /// The frame that it becomes.
    pub raw: RawFrame,
    /// Why it cannot be read.
    pub poison: Option<Poison>,
}

/// What a text that is no order may still show.
#[derive(Deserialize, Default)]
struct Probe<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    created_at: Option<&'a RawValue>,
    #[serde(borrow)]
    updated_at: Option<&'a RawValue>,
    #[serde(borrow)]
    filled_qty: Option<&'a RawValue>,
}

/// A frame around a text that is no order.
#[derive(Serialize)]
struct Unread<'a> {
    account_id: &'a str,
    event: TradeEventKind,
    event_id: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    order: &'a RawValue,
}

/// Reads one order. Of a text that cannot be read, at most `bytes_max` are kept.
#[must_use]
pub fn read_polled(account_id: &str, text: &RawValue, bytes_max: usize) -> PolledOrder {
    let read = serde_json::from_str::<OrderEntity>(text.get());
    let framed = read.and_then(|order| {
        let (key, created_at, filled) = (order.id.to_string(), known(order.created_at), order.filled_qty);
        // What is left out reads as zero.
        let is_said = !filled.is_zero() || probe(text).filled_qty.is_some();
        let filled = Some(filled).filter(|_| is_said);
        frame(account_id, order).map(|raw| PolledOrder { key, created_at, filled, raw, poison: None })
    });
    match framed {
        Ok(order) => order,
        Err(error) => unread(account_id, text, bytes_max, &error),
    }
}

fn frame(account_id: &str, order: OrderEntity) -> Result<RawFrame, serde_json::Error> {
    let event = match order.status {
        OrderStatus::Canceled => TradeEventKind::Canceled,
        OrderStatus::Expired => TradeEventKind::Expired,
        OrderStatus::Rejected => TradeEventKind::Rejected,
        OrderStatus::Filled => TradeEventKind::Fill,
        OrderStatus::PartiallyFilled => TradeEventKind::PartialFill,
        OrderStatus::New | OrderStatus::Accepted => TradeEventKind::New,
        // An order that waits for something, or was replaced, shows nothing but its figures.
        _ => TradeEventKind::Calculated,
    };
    let polled = TradeEvent {
        account_id: account_id.to_owned(),
        at: None,
        event,
        event_id: String::new(),
        execution_id: None,
        timestamp: Some(order.updated_at),
        order,
        price: None,
        qty: None,
        position_qty: None,
        previous_execution_id: None,
    };
    serde_json::to_vec(&polled).map(RawFrame::new)
}

fn unread(account_id: &str, text: &RawValue, bytes_max: usize, error: &serde_json::Error) -> PolledOrder {
    let probe = probe(text);
    let framed = Unread {
        account_id,
        event: TradeEventKind::Calculated,
        event_id: "",
        timestamp: moment(probe.updated_at).unwrap_or(OffsetDateTime::UNIX_EPOCH),
        order: text,
    };
    let mut bytes = serde_json::to_vec(&framed).unwrap_or_else(|_| text.get().as_bytes().to_vec());
    let whole = bytes.len();
    bytes.truncate(bytes_max);
    let cut = if bytes.len() < whole { format!(" (its first bytes of {whole} are kept)") } else { String::new() };
    let raw = RawFrame::new(bytes);
    PolledOrder {
        key: said::<String>(probe.id).unwrap_or_else(|| raw.sha256().iter().map(|b| format!("{b:02x}")).collect()),
        created_at: moment(probe.created_at).and_then(known),
        filled: None,
        raw,
        poison: Some(Poison::new(PoisonReason::Malformed, &format!("no order that was asked for{cut}: {error}"))),
    }
}

fn probe(text: &RawValue) -> Probe<'_> {
    serde_json::from_str(text.get()).unwrap_or_default()
}

fn said<'a, T: Deserialize<'a>>(value: Option<&'a RawValue>) -> Option<T> {
    serde_json::from_str(value?.get()).ok()
}

fn moment(value: Option<&RawValue>) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(&said::<String>(value)?, &Rfc3339).ok()
}

/// A moment that the broker left out reads as the epoch.
fn known(moment: OffsetDateTime) -> Option<OffsetDateTime> {
    Some(moment).filter(|moment| *moment > OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","symbol":"AAPL","type":"limit","side":"buy",
        "time_in_force":"day","status":"new","qty":"1","created_at":"2026-03-16T18:38:01Z"}"#;

    fn polled(text: &str, bytes_max: usize) -> PolledOrder {
        read_polled("a-1", &RawValue::from_string(text.to_owned()).unwrap(), bytes_max)
    }

    #[test]
    fn an_order_that_cannot_be_read_keeps_its_text_and_what_it_shows_of_itself() {
        let good = polled(GOOD, 10_000);
        assert_eq!(good.poison, None);
        let bad = polled(&GOOD.replace("\"qty\":\"1\"", "\"qty\":{\"value\":1e999}"), 10_000);
        assert_eq!((&bad.key, bad.created_at), (&good.key, good.created_at));
        assert!(good.created_at.is_some());
        assert_eq!(bad.poison.as_ref().map(|poison| poison.reason), Some(PoisonReason::Malformed));
        assert!(String::from_utf8_lossy(bad.raw.bytes()).contains("1e999"));
        // The same text is the same frame.
        assert_eq!(polled(&GOOD.replace("\"qty\":\"1\"", "\"qty\":{\"value\":1e999}"), 10_000), bad);
    }

    #[test]
    fn a_quantity_that_is_left_out_is_not_zero() {
        let with = |filled: &str| polled(&GOOD.replace("\"qty\"", &format!("{filled}\"qty\"")), 10_000).filled;
        assert_eq!((with(""), with("\"filled_qty\":null,")), (None, None));
        assert_eq!(with("\"filled_qty\":\"0\","), Some(Decimal::ZERO));
        assert_eq!(with("\"filled_qty\":2.5,"), Some(Decimal::new(25, 1)));
    }

    #[test]
    fn what_shows_nothing_of_itself_is_told_apart_by_its_text_and_cut_to_a_length() {
        let (one, two) = (polled("17", 10_000), polled("[{}]", 10_000));
        assert!(one.poison.is_some() && two.poison.is_some());
        assert_ne!(one.key, two.key);
        assert_eq!((one.created_at, two.created_at), (None, None));
        let long = polled(&format!("{:?}", "x".repeat(10_000)), 100);
        assert_eq!(long.raw.bytes().len(), 100);
        assert!(long.poison.unwrap().detail.contains("its first bytes of"));
    }
}
