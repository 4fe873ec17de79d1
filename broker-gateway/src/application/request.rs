//! A broker request: the row that is the work.

use crate::domain::attempt::Attempt;
use crate::domain::history::{Asked, History};
use crate::domain::live::Owed;
use crate::domain::state::State;
use contracts::{AccountId, BrokerId, BrokerKey, BrokerOrderId, OrderId, OrderTerms, Partition};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// In which order due requests are taken up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Cancels first.
    Cancel = 0,
    /// Then what settles a doubt or a question, a further attempt included.
    Question = 1,
    /// Then what has never reached the broker: only this may be held back for an account's doubts.
    Send = 2,
}

impl Rank {
    /// The number in the database.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Cancel => 0,
            Self::Question => 1,
            Self::Send => 2,
        }
    }
}

/// When a request is looked at next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// When.
    pub at: OffsetDateTime,
    /// In which order.
    pub rank: Rank,
}

/// One order on its way to one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Our order; the key of everything.
    pub order_id: OrderId,
    /// Whose.
    pub account_id: AccountId,
    /// The partition of its events.
    pub partition: Partition,
    /// Which broker it is pinned to.
    pub broker: BrokerId,
    /// What was asked for.
    pub terms: OrderTerms,
    /// Trace context of the order.
    pub traceparent: Option<String>,
    /// Bumped by every change.
    pub version: i64,
    /// Where it stands.
    pub state: State,
    /// When the lane looks at it next; none when there is nothing to do.
    pub due: Option<Due>,
    /// Number of the last attempt; 0 proves that nothing was ever tried.
    pub attempts: i32,
    /// Fixed at the first attempt.
    pub valid_until: Option<OffsetDateTime>,
    /// Lookups by our key.
    pub asked: Asked,
    /// The broker's id, once any evidence has shown it.
    pub broker_order_id: Option<BrokerOrderId>,
    /// The broker's status word when it was last seen.
    pub broker_status: Option<String>,
    /// What differs, where the broker has another order under our key.
    pub contradiction: Option<String>,
    /// Cancel requests.
    pub cancel: Owed,
    /// Observation requests.
    pub observe: Owed,
}

impl Request {
    /// The key for every attempt.
    #[must_use]
    pub const fn key(&self) -> BrokerKey {
        BrokerKey::new(self.partition, self.order_id)
    }

    /// What the retry protocol decides on.
    #[must_use]
    pub fn history(&self, attempts: Vec<Attempt>) -> History {
        History {
            attempts,
            asked: self.asked,
            is_alive: self.state.is_alive(),
            contradiction: self.contradiction.clone(),
            cancel_requested: self.cancel.requested > 0,
            valid_until: self.valid_until,
        }
    }
}

/// A request with the attempts that decisions on it need: all of them, unless the broker is known to
/// have the order, when none matter any more.
pub type Loaded = (Request, Vec<Attempt>);

/// An order that the order server asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRequest {
    /// Our order.
    pub order_id: OrderId,
    /// Whose.
    pub account_id: AccountId,
    /// The key for every attempt, as the order server made it.
    pub broker_key: BrokerKey,
    /// What is asked for.
    pub terms: OrderTerms,
    /// When the customer's order was accepted.
    pub accepted_at: OffsetDateTime,
    /// Trace context of the order.
    pub traceparent: Option<String>,
}

impl NewRequest {
    /// The request as it is taken in: to be looked at once, and first by whoever takes it.
    #[must_use]
    pub fn queued(&self, broker: &BrokerId, now: OffsetDateTime) -> Request {
        Request {
            order_id: self.order_id,
            account_id: self.account_id,
            partition: self.broker_key.partition(),
            broker: broker.clone(),
            terms: self.terms.clone(),
            traceparent: self.traceparent.clone(),
            version: 0,
            state: State::Queued,
            due: Some(Due { at: now, rank: Rank::Send }),
            attempts: 0,
            valid_until: None,
            asked: Asked::default(),
            broker_order_id: None,
            broker_status: None,
            contradiction: None,
            cancel: Owed::default(),
            observe: Owed::default(),
        }
    }

    /// A hash of everything that is asked for. Another one under the same order id means that a
    /// process has lost its memory and uses ids again.
    #[must_use]
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"request-v1\0");
        hash.update(self.order_id.as_uuid().as_bytes());
        hash.update(self.account_id.as_uuid().as_bytes());
        hash.update(self.broker_key.to_string().as_bytes());
        hash.update(self.terms.hash());
        hash.finalize().into()
    }
}
