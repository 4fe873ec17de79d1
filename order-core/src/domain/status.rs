//! The status of an order: one pure fold of its facts, and its word in the API.

use super::facts::{BrokerEnd, Facts, Submit};
use contracts::alpaca::OrderStatus as ApiStatus;
use rust_decimal::Decimal;

/// Where an order stands. Derived, never stored as a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Accepted outside its session; released at the open.
    Reserved,
    /// Accepted, and on its way through the gateway: waiting there, or an attempt is under way.
    PendingSend,
    /// An attempt ended without an answer. Only evidence from the broker ends this.
    InDoubt,
    /// The broker has it, nothing is filled.
    Working,
    /// The broker has it, some of it is filled.
    PartiallyFilled,
    /// A cancel is under way; it may still fill.
    PendingCancel,
    /// A person has to settle it; a fill settles it too.
    Manual,
    /// All of it is filled.
    Filled,
    /// Canceled, and every fill of it is here.
    Canceled,
    /// Expired, and every fill of it is here.
    Expired,
    /// Refused by the broker, or never sent.
    Rejected,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Reserved,
        Self::PendingSend,
        Self::InDoubt,
        Self::Working,
        Self::PartiallyFilled,
        Self::PendingCancel,
        Self::Manual,
        Self::Filled,
        Self::Canceled,
        Self::Expired,
        Self::Rejected,
    ];

    /// The fold. The executed side comes from the ledger, never from a broker's word; an end of the
    /// broker counts only when the ledger has reached the broker's own count.
    #[must_use]
    pub fn of(facts: &Facts, quantity: Decimal) -> Self {
        let executed = facts.executed.gross_quantity;
        if executed >= quantity {
            return Self::Filled;
        }
        if let (Some(end), Some(count)) = (facts.broker_end, facts.broker_end_quantity)
            && executed >= count
        {
            return match end {
                BrokerEnd::Canceled => Self::Canceled,
                BrokerEnd::Expired => Self::Expired,
                BrokerEnd::Rejected => Self::Rejected,
            };
        }
        match facts.submit {
            Submit::Withdrawn => return Self::Canceled,
            Submit::TimeOver => return Self::Expired,
            Submit::Refused => return Self::Rejected,
            Submit::Reserved => return Self::Reserved,
            Submit::Queued | Submit::InDoubt if facts.manual => return Self::Manual,
            // A doubt is never hidden behind a pending cancel: the cancel may meet silence too.
            Submit::InDoubt => return Self::InDoubt,
            Submit::Queued | Submit::Acknowledged | Submit::Live => {}
        }
        if facts.cancel_requests > facts.cancels_refused {
            return Self::PendingCancel;
        }
        match facts.submit {
            Submit::Queued => Self::PendingSend,
            _ if executed > Decimal::ZERO => Self::PartiallyFilled,
            _ => Self::Working,
        }
    }

    /// Whether nothing more is expected to happen. Fills are accepted all the same.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Filled | Self::Canceled | Self::Expired | Self::Rejected)
    }

    /// The word in the database and in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::PendingSend => "pending_send",
            Self::InDoubt => "in_doubt",
            Self::Working => "working",
            Self::PartiallyFilled => "partially_filled",
            Self::PendingCancel => "pending_cancel",
            Self::Manual => "manual",
            Self::Filled => "filled",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the database's word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// The word that API clients know. A doubt shows as `pending_new` (or `partially_filled`): the
    /// API has no word for it, and clients must not take it for an end.
    #[must_use]
    pub fn api(self, facts: &Facts) -> ApiStatus {
        self.word(facts.executed.gross_quantity > Decimal::ZERO)
    }

    /// The same, where only that is known of the facts.
    #[must_use]
    pub const fn word(self, filled_some: bool) -> ApiStatus {
        match self {
            Self::Reserved => ApiStatus::Accepted,
            Self::PendingSend => ApiStatus::PendingNew,
            Self::InDoubt | Self::Manual if filled_some => ApiStatus::PartiallyFilled,
            Self::InDoubt | Self::Manual => ApiStatus::PendingNew,
            Self::Working => ApiStatus::New,
            Self::PartiallyFilled => ApiStatus::PartiallyFilled,
            Self::PendingCancel => ApiStatus::PendingCancel,
            Self::Filled => ApiStatus::Filled,
            Self::Canceled => ApiStatus::Canceled,
            Self::Expired => ApiStatus::Expired,
            Self::Rejected => ApiStatus::Rejected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(submit: Submit) -> Facts {
        Facts { submit, ..Facts::new(Submit::Queued) }
    }

    const TEN: Decimal = Decimal::TEN;

    #[test]
    fn a_cancel_never_hides_a_doubt() {
        let mut f = facts(Submit::InDoubt);
        f.cancel_requests = 1;
        assert_eq!(Status::of(&f, TEN), Status::InDoubt);
    }

    #[test]
    fn a_broker_end_waits_until_the_ledger_reaches_the_brokers_count() {
        let mut f = facts(Submit::Live);
        f.broker_end = Some(BrokerEnd::Canceled);
        f.broker_end_quantity = Some(Decimal::from(7));
        f.executed.gross_quantity = Decimal::from(4);
        assert_eq!(Status::of(&f, TEN), Status::PartiallyFilled);
        f.executed.gross_quantity = Decimal::from(7);
        assert_eq!(Status::of(&f, TEN), Status::Canceled);
    }

    #[test]
    fn a_broker_end_without_a_count_is_not_terminal() {
        let mut f = facts(Submit::Live);
        f.broker_end = Some(BrokerEnd::Expired);
        assert!(!Status::of(&f, TEN).is_terminal());
    }

    #[test]
    fn a_refused_cancel_brings_the_order_back_to_work() {
        let mut f = facts(Submit::Live);
        f.cancel_requests = 1;
        assert_eq!(Status::of(&f, TEN), Status::PendingCancel);
        f.cancels_refused = 1;
        assert_eq!(Status::of(&f, TEN), Status::Working);
    }

    #[test]
    fn words_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
    }
}
