//! The facts of an order. Three logs reach an order with no order between them (commands, gateway
//! replies, broker events), so facts only move up, and any order of arrival ends in the same facts.

use super::execution::Executed;
use rust_decimal::Decimal;

/// How far the order got towards the broker. A later variant outranks an earlier one, so a stale
/// report never takes anything back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Submit {
    /// Waits for its session.
    Reserved,
    /// Handed to the gateway; an attempt may be at the broker.
    Queued,
    /// An attempt ended without an answer.
    InDoubt,
    /// Proof that it never left: the customer withdrew it.
    Withdrawn,
    /// Proof that it never left: its time was over.
    TimeOver,
    /// The broker refused it and no attempt can have lived.
    Refused,
    /// The broker confirmed it to the gateway.
    Acknowledged,
    /// The broker's own event stream showed it.
    Live,
}

impl Submit {
    /// All of them, in rising rank.
    pub const ALL: [Self; 8] = [
        Self::Reserved,
        Self::Queued,
        Self::InDoubt,
        Self::Withdrawn,
        Self::TimeOver,
        Self::Refused,
        Self::Acknowledged,
        Self::Live,
    ];

    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Queued => "queued",
            Self::InDoubt => "in_doubt",
            Self::Withdrawn => "withdrawn",
            Self::TimeOver => "time_over",
            Self::Refused => "refused",
            Self::Acknowledged => "acknowledged",
            Self::Live => "live",
        }
    }

    /// Reads the database's word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|submit| submit.as_str() == word)
    }
}

/// How the broker says that the order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BrokerEnd {
    /// Rejected after it was taken in.
    Rejected,
    /// Its time was over.
    Expired,
    /// Canceled.
    Canceled,
}

impl BrokerEnd {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Canceled => "canceled",
        }
    }

    /// Reads the database's word, or the broker's status word, which are the same.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "rejected" => Some(Self::Rejected),
            "expired" => Some(Self::Expired),
            "canceled" => Some(Self::Canceled),
            _ => None,
        }
    }
}

/// Everything that is known to have happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// How far it got towards the broker.
    pub submit: Submit,
    /// The gateway gave it to a person.
    pub manual: bool,
    /// How many cancels the customer asked for.
    pub cancel_requests: i32,
    /// The highest cancel request that the broker refused.
    pub cancels_refused: i32,
    /// How the broker says that it ended.
    pub broker_end: Option<BrokerEnd>,
    /// Shares filled at that end, by the broker's count.
    pub broker_end_quantity: Option<Decimal>,
    /// What the fill ledger adds up to.
    pub executed: Executed,
}

impl Facts {
    /// The facts of a new order.
    #[must_use]
    pub fn new(submit: Submit) -> Self {
        Self {
            submit,
            manual: false,
            cancel_requests: 0,
            cancels_refused: 0,
            broker_end: None,
            broker_end_quantity: None,
            executed: Executed::default(),
        }
    }

    /// Moves the submit fact up, never down.
    pub fn raise_submit(&mut self, to: Submit) {
        self.submit = self.submit.max(to);
    }

    /// Records an end, with the broker's count where it gave one. Of two ends the higher rank stays,
    /// and the higher count.
    pub fn raise_end(&mut self, end: BrokerEnd, count: Option<Decimal>) {
        self.broker_end = self.broker_end.max(Some(end));
        self.broker_end_quantity = self.broker_end_quantity.max(count);
    }

    /// Whether the broker ended the order and has not said at how many shares.
    #[must_use]
    pub fn end_lacks_count(&self) -> bool {
        self.broker_end.is_some() && self.broker_end_quantity.is_none()
    }
}
