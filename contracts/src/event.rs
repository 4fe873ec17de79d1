//! Events: everything that passes between processes.
//!
//! Each process appends to its own log, in the transaction that makes the fact true. The bus only
//! carries copies; the log (served as the feed) is the truth. See `ARCHITECTURE.md`.

mod broker;
mod figure;
mod gateway;
mod orders;

pub use broker::{BrokerEvent, BrokerFact};
pub use gateway::{EvidenceSource, GatewayEvent, NotSentReason, ObservedOrder};
pub use orders::OrdersEvent;

use crate::ids::{AccountId, EventId, OrderId};
use crate::partition::Partition;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use thiserror::Error;
use time::OffsetDateTime;

/// The largest payload that a log takes, in bytes.
pub const PAYLOAD_LEN_MAX: usize = 64 * 1024;

/// Whose log an event is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Producer {
    /// The order server: orders for the gateway.
    OrderCore,
    /// The broker gateway: replies.
    BrokerGateway,
    /// The fill receiver: what brokers told us.
    FillReceiver,
}

impl Producer {
    /// The word on the wire, in the database and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderCore => "order-core",
            Self::BrokerGateway => "broker-gateway",
            Self::FillReceiver => "fill-receiver",
        }
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One event as it stands in a log, on the bus and in the feed.
///
/// `seq` is gapless and in commit order within (producer, partition); `prev_id` names the event
/// before it, so that a consumer notices a log that lost its tail and re-used numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// This event.
    pub id: EventId,
    /// Whose log.
    pub producer: Producer,
    /// Which part of that log.
    pub partition: Partition,
    /// Position in the partition, from 1.
    pub seq: i64,
    /// The event at `seq - 1`; none at the first.
    pub prev_id: Option<EventId>,
    /// What kind of event, such as `order.submit`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Version of the payload's shape.
    pub version: i16,
    /// The customer's account, where the producer knows it.
    pub account_id: Option<AccountId>,
    /// Our order, where the producer knows it.
    pub order_id: Option<OrderId>,
    /// When it was written, by the producer's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// W3C trace context of what caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The payload's JSON text.
    pub payload: Box<RawValue>,
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.producer == other.producer
            && self.partition == other.partition
            && self.seq == other.seq
            && self.prev_id == other.prev_id
            && self.payload.get() == other.payload.get()
    }
}

/// Why a payload could not be understood. Deterministic, so such an event is poison: it is parked
/// for a person, and the events behind it go on.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A type that this consumer does not know.
    #[error("unknown event type {kind}")]
    UnknownType {
        /// The type.
        kind: String,
    },
    /// A version that this consumer does not know.
    #[error("unknown version {version} of event type {kind}")]
    UnknownVersion {
        /// The type.
        kind: String,
        /// The version.
        version: i16,
    },
    /// The payload is not of the type's shape.
    #[error("malformed payload of event type {kind}")]
    Malformed {
        /// The type.
        kind: String,
        /// What the JSON reader said.
        #[source]
        source: serde_json::Error,
    },
}

/// A payload that knows its type word and version.
pub trait Payload: Serialize + DeserializeOwned {
    /// Every type word of this payload enum.
    const TYPES: &'static [&'static str];
    /// The version that is written, and the only one that is read.
    const VERSION: i16;

    /// The type word of this value.
    fn kind(&self) -> &'static str;

    /// Reads the payload of an envelope.
    ///
    /// # Errors
    /// [`DecodeError`] for an unknown type or version, or a malformed payload.
    fn decode(envelope: &Envelope) -> Result<Self, DecodeError> {
        let kind = envelope.kind.clone();
        if !Self::TYPES.contains(&kind.as_str()) {
            return Err(DecodeError::UnknownType { kind });
        }
        if envelope.version != Self::VERSION {
            return Err(DecodeError::UnknownVersion { kind, version: envelope.version });
        }
        serde_json::from_str(envelope.payload.get()).map_err(|source| DecodeError::Malformed { kind, source })
    }
}
