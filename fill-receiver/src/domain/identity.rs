//! Which fact an event is about, and our event id from that alone.
//!
//! The broker's stream position is not an identity: after a reconnect, or by a broker's mistake, the
//! same execution comes again under another one. So
//!
//! - a fill, a bust or a correction is (broker, scope, kind, execution id);
//! - any other event is (broker, broker order id, event word, stream position): brokers give those
//!   no id of their own. A replay repeats the position and is dropped; the same state reported again
//!   under another position is logged again, which does no harm, since such facts only move up.
//!
//! The event id is UUIDv5 of the identity, so minting it again gives the same one, in any copy of
//! this process and after any loss of memory.

use contracts::ids::{BrokerId, BrokerOrderId, EventId, ExecutionId, OrderId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The name space of our event ids. Changing it, or the texts below, would log every fill of the
/// next replay a second time.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f6f_722d_6669_5c6c_a72d_7265_6365_6976);

/// Within what a broker's execution ids are unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionScope {
    /// Everywhere at the broker (its ids are UUIDs).
    Broker,
    /// Within one of the broker's accounts.
    Account,
}

impl ExecutionScope {
    /// The word in configuration and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Account => "account",
        }
    }
}

/// Which kind of execution an execution id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutionKind {
    /// Shares were traded.
    Fill,
    /// An execution is void.
    Bust,
    /// An execution had other figures.
    Correct,
}

impl ExecutionKind {
    /// The word in the identity and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Bust => "bust",
            Self::Correct => "correct",
        }
    }
}

/// The identity of one broker event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A fill, bust or correction.
    Execution {
        /// The broker's account where ids are unique only within it, else empty.
        scope: String,
        /// Which of the three.
        kind: ExecutionKind,
        /// The broker's id.
        execution_id: ExecutionId,
    },
    /// Anything else.
    State {
        /// The broker's order.
        broker_order_id: BrokerOrderId,
        /// The broker's word.
        event: String,
        /// The stream position under which it came.
        position: String,
    },
}

impl Identity {
    /// The word for the database and for metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Execution { kind, .. } => kind.as_str(),
            Self::State { .. } => "state",
        }
    }

    /// Our event id. The parts hold no line feed (they are checked where they are read), so the
    /// joined text has one reading only.
    #[must_use]
    pub fn event_id(&self, broker: &BrokerId) -> EventId {
        let text = match self {
            Self::Execution { scope, kind, execution_id } => {
                format!("execution\n{broker}\n{scope}\n{}\n{execution_id}", kind.as_str())
            }
            Self::State { broker_order_id, event, position } => {
                format!("state\n{broker}\n{broker_order_id}\n{event}\n{position}")
            }
        };
        EventId::new(Uuid::new_v5(&NAMESPACE, text.as_bytes()))
    }
}

/// The id of an event that is logged again with the order that it turned out to belong to.
#[must_use]
pub fn completed_event_id(event: EventId, order: OrderId) -> EventId {
    EventId::new(Uuid::new_v5(&NAMESPACE, format!("completed\n{event}\n{order}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn broker() -> BrokerId {
        BrokerId::new("alpaca").unwrap()
    }

    fn fill(scope: &str, id: &str) -> Identity {
        Identity::Execution {
            scope: scope.to_owned(),
            kind: ExecutionKind::Fill,
            execution_id: ExecutionId::new(id).unwrap(),
        }
    }

    #[test]
    fn the_event_id_of_an_identity_is_fixed_for_ever() {
        assert_eq!(fill("", "e-1").event_id(&broker()).to_string(), "ab209003-44f8-58fb-ab90-fdd18ee5bb7d");
        let state = Identity::State {
            broker_order_id: BrokerOrderId::new("b-1").unwrap(),
            event: "new".to_owned(),
            position: "01ARZ3NDEKTSV4RRFFQ69G5FAV".to_owned(),
        };
        assert_eq!(state.event_id(&broker()).to_string(), "f8ccd1c5-f5a8-521e-b190-535e9da558e1");
    }

    #[test]
    fn kinds_brokers_and_scopes_keep_the_same_execution_id_apart() {
        let execution_id = ExecutionId::new("e-1").unwrap();
        let bust = Identity::Execution { scope: String::new(), kind: ExecutionKind::Bust, execution_id };
        let fill_id = fill("", "e-1").event_id(&broker());
        assert_ne!(fill_id, bust.event_id(&broker()));
        assert_ne!(fill_id, fill("", "e-1").event_id(&BrokerId::new("other").unwrap()));
        assert_ne!(fill_id, fill("acct", "e-1").event_id(&broker()));
    }

    proptest! {
        #[test]
        fn different_identities_never_share_an_event_id(
            a in ("[a-c]{0,2}", "[ -~]{1,3}"),
            b in ("[a-c]{0,2}", "[ -~]{1,3}"),
        ) {
            let (first, second) = (fill(&a.0, &a.1), fill(&b.0, &b.1));
            prop_assert_eq!(first == second, first.event_id(&broker()) == second.event_id(&broker()));
        }
    }
}
