//! From ended calls to what a transaction writes.

use super::case::Case;
use super::change::{CallTrace, Change};
use super::claim::CallKind;
use super::request::Loaded;
use super::rules::Rules;
use crate::domain::attempt::Attempt;
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LaneSignal, LookupOutcome};
use crate::domain::retry::{Jitter, Now};
use contracts::{BrokerOrderId, OrderId};
use std::collections::HashMap;

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallOutcome {
    /// Of an attempt.
    Create(CreateOutcome),
    /// Of a lookup of either kind.
    Lookup(LookupOutcome),
    /// Of a cancel call.
    Cancel(CancelOutcome),
}

impl CallOutcome {
    /// The word in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Create(outcome) => outcome.as_str(),
            Self::Lookup(outcome) => outcome.as_str(),
            Self::Cancel(outcome) => outcome.as_str(),
        }
    }

    /// The broker's id of the order, where it showed it.
    #[must_use]
    pub fn broker_order_id(&self) -> Option<&BrokerOrderId> {
        match self {
            Self::Create(CreateOutcome::Accepted(seen)) | Self::Lookup(LookupOutcome::Found(seen)) => {
                Some(&seen.broker_order_id)
            }
            _ => None,
        }
    }

    /// What the lane learns from it.
    #[must_use]
    pub const fn signal(&self) -> LaneSignal {
        match self {
            Self::Create(CreateOutcome::NotSent { .. })
            | Self::Lookup(LookupOutcome::NotSent { .. })
            | Self::Cancel(CancelOutcome::NotSent { .. }) => LaneSignal::Unreachable,
            Self::Create(CreateOutcome::RateLimited { retry_after })
            | Self::Lookup(LookupOutcome::RateLimited { retry_after })
            | Self::Cancel(CancelOutcome::RateLimited { retry_after }) => {
                LaneSignal::RateLimited { retry_after: *retry_after }
            }
            Self::Create(CreateOutcome::Unknown { .. })
            | Self::Lookup(LookupOutcome::Unknown { .. })
            | Self::Cancel(CancelOutcome::Unknown { .. }) => LaneSignal::Silent,
            Self::Create(CreateOutcome::Accepted(_) | CreateOutcome::Duplicate | CreateOutcome::Rejected(_))
            | Self::Lookup(LookupOutcome::Found(_) | LookupOutcome::None)
            | Self::Cancel(CancelOutcome::Requested | CancelOutcome::Refused(_) | CancelOutcome::NotFound) => {
                LaneSignal::Reached
            }
        }
    }
}

/// A call that has ended and is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedCall {
    /// Our order.
    pub order_id: OrderId,
    /// Which call.
    pub kind: CallKind,
    /// How it ended.
    pub outcome: CallOutcome,
    /// How it looked.
    pub trace: CallTrace,
    /// The attempt that it was, as its owner claimed it.
    pub attempt: Option<Attempt>,
}

/// Works out what a transaction writes for ended calls. Several ends of one order are applied in
/// turn, to one change.
pub fn fold(
    rules: &Rules,
    now: Now,
    loaded: Vec<Loaded>,
    finished: &[FinishedCall],
    mut jitter: impl FnMut() -> Jitter,
) -> Vec<Change> {
    let mut of_order: HashMap<OrderId, Vec<&FinishedCall>> = HashMap::with_capacity(loaded.len());
    for call in finished {
        of_order.entry(call.order_id).or_default().push(call);
    }
    loaded
        .into_iter()
        .map(|loaded| {
            let order_id = loaded.0.order_id;
            let mut case = Case::new(rules, loaded, now, jitter());
            for call in of_order.remove(&order_id).unwrap_or_default() {
                apply(&mut case, call);
            }
            case.settled()
        })
        .collect()
}

fn apply(case: &mut Case<'_>, call: &FinishedCall) {
    let trace = call.trace.clone();
    match (call.kind, &call.outcome) {
        (CallKind::Create { number }, CallOutcome::Create(outcome)) => case.attempt_ended(number, outcome, trace),
        (CallKind::Ask { began_at }, CallOutcome::Lookup(outcome)) => case.ask_ended(began_at, outcome, trace),
        (CallKind::Observe { began_at }, CallOutcome::Lookup(outcome)) => {
            case.observation_ended(began_at, outcome, trace);
        }
        (CallKind::Cancel { claimed_at }, CallOutcome::Cancel(outcome)) => {
            case.cancel_ended(claimed_at, outcome, trace);
        }
        (kind, outcome) => {
            tracing::error!(order_id = %call.order_id, ?kind, ?outcome, "a call ended in another kind's outcome");
        }
    }
}

impl CallOutcome {
    /// What was seen, in words, where the class alone does not say it.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Create(CreateOutcome::Unknown { reason } | CreateOutcome::NotSent { reason })
            | Self::Lookup(LookupOutcome::Unknown { reason } | LookupOutcome::NotSent { reason })
            | Self::Cancel(CancelOutcome::Unknown { reason } | CancelOutcome::NotSent { reason }) => {
                Some(reason.clone())
            }
            Self::Create(CreateOutcome::Rejected(refusal)) | Self::Cancel(CancelOutcome::Refused(refusal)) => {
                Some(refusal.message.clone())
            }
            Self::Create(CreateOutcome::Accepted(_) | CreateOutcome::Duplicate | CreateOutcome::RateLimited { .. })
            | Self::Lookup(LookupOutcome::Found(_) | LookupOutcome::None | LookupOutcome::RateLimited { .. })
            | Self::Cancel(CancelOutcome::Requested | CancelOutcome::NotFound | CancelOutcome::RateLimited { .. }) => {
                None
            }
        }
    }
}
