//! What the owner of an order is told of it: each step once, numbered without a gap within the account.

use super::execution::ExecutionKind;
use super::facts::Facts;
use super::order::Order;
use super::status::Status;
use rust_decimal::Decimal;
use time::OffsetDateTime;

/// What happened, in the dialect's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpdateEvent {
    /// Taken in, and kept here until its session.
    Accepted,
    /// On its way to the broker.
    PendingNew,
    /// The broker has it.
    New,
    /// Some shares were filled.
    PartialFill,
    /// The last shares were filled.
    Fill,
    /// Its cancel was asked for.
    PendingCancel,
    /// The broker will not cancel it.
    CancelRejected,
    /// It is canceled.
    Canceled,
    /// Its time is over.
    Expired,
    /// The broker refused it, or it was never sent.
    Rejected,
    /// An execution is void.
    Bust,
    /// An execution has other figures.
    Correct,
    /// It stands elsewhere than was told before, and nothing was executed.
    Restated,
}

impl UpdateEvent {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Accepted,
        Self::PendingNew,
        Self::New,
        Self::PartialFill,
        Self::Fill,
        Self::PendingCancel,
        Self::CancelRejected,
        Self::Canceled,
        Self::Expired,
        Self::Rejected,
        Self::Bust,
        Self::Correct,
        Self::Restated,
    ];

    /// The word in the database and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::PendingNew => "pending_new",
            Self::New => "new",
            Self::PartialFill => "partial_fill",
            Self::Fill => "fill",
            Self::PendingCancel => "pending_cancel",
            Self::CancelRejected => "order_cancel_rejected",
            Self::Canceled => "canceled",
            Self::Expired => "expired",
            Self::Rejected => "rejected",
            Self::Bust => "trade_bust",
            Self::Correct => "trade_correct",
            Self::Restated => "restated",
        }
    }

    /// Reads the database's word back.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == word)
    }

    const fn of_execution(kind: &ExecutionKind, status: Status) -> Self {
        match (kind, status) {
            (ExecutionKind::Fill { .. }, Status::Filled) => Self::Fill,
            (ExecutionKind::Fill { .. }, _) => Self::PartialFill,
            (ExecutionKind::Correct { .. }, _) => Self::Correct,
            (ExecutionKind::Bust { .. }, _) => Self::Bust,
        }
    }

    /// The word for a change of status without an execution.
    const fn of_change(from: Status, to: Status) -> Self {
        match to {
            Status::Canceled => Self::Canceled,
            Status::Expired => Self::Expired,
            Status::Rejected => Self::Rejected,
            _ if from.is_terminal() => Self::Restated,
            Status::Reserved => Self::Accepted,
            Status::PendingSend | Status::InDoubt | Status::Manual => Self::PendingNew,
            Status::Working => Self::New,
            Status::PendingCancel => Self::PendingCancel,
            Status::PartiallyFilled | Status::Filled => Self::Restated,
        }
    }
}

/// Where an account's updates stand: the number and the time of its last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UpdateMark {
    /// 0 before the first.
    pub seq: i64,
    /// When it was written. Within an account it never goes back, whatever the clocks do.
    pub at: OffsetDateTime,
}

impl UpdateMark {
    /// Before the first.
    pub const START: Self = Self { seq: 0, at: OffsetDateTime::UNIX_EPOCH };

    /// The mark of the next update.
    #[must_use]
    pub fn next(self, now: OffsetDateTime) -> Self {
        Self { seq: self.seq.saturating_add(1), at: self.at.max(now) }
    }
}

/// An update as it is stored with its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update {
    /// Its number and time.
    pub mark: UpdateMark,
    /// What happened.
    pub event: UpdateEvent,
    /// Shares of the order that count, after it.
    pub filled_quantity: Decimal,
    /// Their exact money.
    pub filled_notional: Decimal,
    /// The account's shares after an execution.
    pub position_quantity: Option<Decimal>,
}

/// What an order looked like before something happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    status: Status,
    cancel_requests: i32,
    cancels_refused: i32,
}

impl Before {
    /// As it looks now.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        let Facts { cancel_requests, cancels_refused, .. } = order.facts;
        Self { status: order.status(), cancel_requests, cancels_refused }
    }
}

/// One step of an order, and what its owner is told of it, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// From.
    pub from: Status,
    /// To; the same where only figures changed.
    pub to: Status,
    /// What its owner is told.
    pub event: Option<UpdateEvent>,
}

/// What a new order's owner is told.
#[must_use]
pub const fn first_event(status: Status) -> UpdateEvent {
    UpdateEvent::of_change(status, status)
}

/// The steps between two looks at an order. `execution` is the one that is new to the ledger between
/// them. An execution is told even where the order stands where it stood; where it completes the
/// count of an end that the broker told before, the end is a step of its own after it.
#[must_use]
pub fn steps(before: &Before, after: &Order, execution: Option<&ExecutionKind>) -> Vec<Step> {
    let (from, to) = (before.status, after.status());
    let step = |from, to, event| Step { from, to, event };
    if let Some(kind) = execution {
        let completes_an_end = !from.is_terminal() && to.is_terminal() && to != Status::Filled;
        if !completes_an_end {
            return vec![step(from, to, Some(UpdateEvent::of_execution(kind, to)))];
        }
        let open = Facts { broker_end: None, ..after.facts.clone() };
        let between = Status::of(&open, after.terms.quantity().value());
        return vec![
            step(from, between, Some(UpdateEvent::of_execution(kind, between))),
            step(between, to, Some(UpdateEvent::of_change(between, to))),
        ];
    }
    let event = if after.facts.cancels_refused > before.cancels_refused {
        Some(UpdateEvent::CancelRejected)
    } else if after.facts.cancel_requests > before.cancel_requests && !to.is_terminal() {
        Some(UpdateEvent::PendingCancel)
    } else if from.api(&after.facts) != to.api(&after.facts) {
        Some(UpdateEvent::of_change(from, to))
    } else {
        None
    };
    if event.is_none() && from == to { Vec::new() } else { vec![step(from, to, event)] }
}

#[cfg(test)]
mod tests {
    use super::super::account::tests::account;
    use super::super::facts::{BrokerEnd, Submit};
    use super::super::place::place;
    use super::super::place::tests::{asset, context, order_for};
    use super::*;
    use contracts::{Price, Quantity, Side};

    /// Ten shares, with these facts.
    fn order(change: impl FnOnce(&mut Facts)) -> Order {
        let asset = asset();
        let new = order_for(Side::Buy, "10", Some("100"));
        let mut order = place(&mut account(10_000), new, &context(&asset), &mut Vec::new()).unwrap();
        change(&mut order.facts);
        order
    }

    fn told(before: &Order, after: &Order, execution: Option<&ExecutionKind>) -> Vec<(Option<&'static str>, Status)> {
        let steps = steps(&Before::of(before), after, execution);
        steps.into_iter().map(|s| (s.event.map(UpdateEvent::as_str), s.to)).collect()
    }

    fn fill() -> ExecutionKind {
        ExecutionKind::Fill { quantity: Quantity::parse("4").unwrap(), price: Price::parse("100").unwrap() }
    }

    fn at(submit: Submit) -> Order {
        order(|facts| facts.submit = submit)
    }

    #[test]
    fn the_way_to_the_broker_is_told_once_a_word() {
        assert_eq!(first_event(Status::Reserved).as_str(), "accepted");
        assert_eq!(first_event(Status::PendingSend).as_str(), "pending_new");
        assert_eq!(
            told(&at(Submit::Reserved), &at(Submit::Queued), None),
            [(Some("pending_new"), Status::PendingSend)]
        );
        assert_eq!(told(&at(Submit::Queued), &at(Submit::InDoubt), None), [(None, Status::InDoubt)]);
        assert_eq!(told(&at(Submit::InDoubt), &at(Submit::Live), None), [(Some("new"), Status::Working)]);
        assert_eq!(told(&at(Submit::Acknowledged), &at(Submit::Live), None), []);
    }

    #[test]
    fn an_execution_is_told_even_where_the_status_stays() {
        let part = |quantity| {
            order(|facts| {
                facts.submit = Submit::Live;
                facts.executed.gross_quantity = Decimal::from(quantity);
            })
        };
        assert_eq!(told(&part(2), &part(6), Some(&fill())), [(Some("partial_fill"), Status::PartiallyFilled)]);
        assert_eq!(told(&part(6), &part(10), Some(&fill())), [(Some("fill"), Status::Filled)]);
        let bust = ExecutionKind::Bust { previous: contracts::ExecutionId::new("e").unwrap() };
        assert_eq!(told(&part(10), &part(10), Some(&bust)), [(Some("trade_bust"), Status::Filled)]);
    }

    #[test]
    fn a_fill_that_completes_the_count_of_an_end_is_told_before_the_end() {
        let ended = |filled: i64| {
            order(|facts| {
                facts.submit = Submit::Live;
                facts.raise_end(BrokerEnd::Canceled, Some(Decimal::from(4)));
                facts.executed.gross_quantity = Decimal::from(filled);
            })
        };
        assert_eq!(
            told(&ended(0), &ended(4), Some(&fill())),
            [(Some("partial_fill"), Status::PartiallyFilled), (Some("canceled"), Status::Canceled),]
        );
        assert_eq!(told(&ended(4), &ended(6), Some(&fill())), [(Some("partial_fill"), Status::Canceled)]);
    }

    #[test]
    fn a_cancel_is_told_when_it_is_asked_for_and_when_it_is_refused_in_doubt_too() {
        for submit in [Submit::Live, Submit::InDoubt] {
            let asked = order(|facts| {
                facts.submit = submit;
                facts.cancel_requests = 1;
            });
            let refused = order(|facts| facts.clone_from(&Facts { cancels_refused: 1, ..asked.facts.clone() }));
            assert_eq!(told(&at(submit), &asked, None)[0].0, Some("pending_cancel"));
            assert_eq!(told(&asked, &refused, None)[0].0, Some("order_cancel_rejected"));
        }
        let withdrawn = order(|facts| {
            facts.submit = Submit::Withdrawn;
            facts.cancel_requests = 1;
        });
        assert_eq!(told(&at(Submit::Reserved), &withdrawn, None), [(Some("canceled"), Status::Canceled)]);
    }

    #[test]
    fn an_order_that_lives_again_is_restated() {
        assert_eq!(told(&at(Submit::Refused), &at(Submit::Live), None), [(Some("restated"), Status::Working)]);
    }

    #[test]
    fn marks_count_by_one_and_their_time_never_goes_back() {
        let early = OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR;
        let first = UpdateMark::START.next(early);
        assert_eq!(first, UpdateMark { seq: 1, at: early });
        assert_eq!(first.next(OffsetDateTime::UNIX_EPOCH), UpdateMark { seq: 2, at: early });
    }

    #[test]
    fn words_read_back() {
        for event in UpdateEvent::ALL {
            assert_eq!(UpdateEvent::parse(event.as_str()), Some(event));
        }
    }
}
