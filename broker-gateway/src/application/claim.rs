//! From due requests to calls: what is claimed in one transaction and then written to the socket.

use super::case::{Case, Task};
use super::chain::Chain;
use super::change::Change;
use super::ports::{CreateOrder, Dialect};
use super::request::Loaded;
use super::rules::Rules;
use super::wire::WireRequest;
use crate::domain::attempt::Attempt;
use crate::domain::retry::{Jitter, Now};
use contracts::{AccountId, BrokerKey, BrokerOrderId, OrderId};
use time::OffsetDateTime;

/// Which kind of call, with what tells it from others of the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallKind {
    /// An attempt to place the order.
    Create {
        /// Which attempt.
        number: i32,
    },
    /// A lookup by our key.
    Ask {
        /// When it was claimed.
        began_at: OffsetDateTime,
    },
    /// A lookup by the broker's id.
    Observe {
        /// When it was claimed.
        began_at: OffsetDateTime,
    },
    /// A cancel call.
    Cancel {
        /// When it was claimed.
        claimed_at: OffsetDateTime,
    },
}

impl CallKind {
    /// Which attempt to place the order it is; none for other calls.
    #[must_use]
    pub const fn attempt(self) -> Option<i32> {
        match self {
            Self::Create { number } => Some(number),
            Self::Ask { .. } | Self::Observe { .. } | Self::Cancel { .. } => None,
        }
    }

    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Ask { .. } => "ask",
            Self::Observe { .. } => "observe",
            Self::Cancel { .. } => "cancel",
        }
    }
}

/// A call that this task, and no other, may make, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedCall {
    /// Our order.
    pub order_id: OrderId,
    /// Whose, for the log.
    pub account_id: AccountId,
    /// The broker's id where it is known, for the log.
    pub broker_order_id: Option<BrokerOrderId>,
    /// Its key.
    pub key: BrokerKey,
    /// Which call.
    pub kind: CallKind,
    /// Its bytes.
    pub request: WireRequest,
    /// The attempt that it makes, so that recording its end need not read it again.
    pub attempt: Option<Attempt>,
}

/// Works out what a transaction writes for due requests, and the calls that follow its commit.
pub fn plan<D: Dialect>(
    rules: &Rules,
    dialect: &D,
    now: Now,
    due: Vec<Loaded>,
    mut jitter: impl FnMut() -> Jitter,
) -> (Vec<Change>, Vec<PlannedCall>) {
    let mut changes = Vec::with_capacity(due.len());
    let mut calls = Vec::with_capacity(due.len());
    for loaded in due {
        let mut case = Case::new(rules, loaded, now, jitter());
        calls.extend(plan_one(dialect, &mut case));
        changes.push(case.claimed());
    }
    (changes, calls)
}

fn plan_one<D: Dialect>(dialect: &D, case: &mut Case<'_>) -> Option<PlannedCall> {
    let task = case.take_up()?;
    let (order_id, key) = (case.request().order_id, case.request().key());
    let (kind, request) = match task {
        Task::Send => return plan_send(dialect, case),
        Task::Ask => (CallKind::Ask { began_at: case.claim_ask() }, dialect.lookup_by_key(key)),
        Task::Observe => {
            let request = dialect.lookup_by_id(case.request().broker_order_id.as_ref()?);
            (CallKind::Observe { began_at: case.claim_observe() }, request)
        }
        Task::Cancel => {
            let claimed = case.claim_cancel()?;
            let request = dialect.cancel(&claimed.broker_order_id);
            (CallKind::Cancel { claimed_at: claimed.claimed_at }, request)
        }
    };
    let (account_id, broker_order_id) = (case.request().account_id, case.request().broker_order_id.clone());
    Some(PlannedCall { order_id, account_id, broker_order_id, key, kind, request, attempt: None })
}

fn plan_send<D: Dialect>(dialect: &D, case: &mut Case<'_>) -> Option<PlannedCall> {
    let (order_id, key) = (case.request().order_id, case.request().key());
    let valid_until = case.fix_valid_until();
    let order = CreateOrder { key: case.request().key(), terms: &case.request().terms, valid_until };
    match dialect.create(order) {
        Ok(request) => {
            let new = case.claim_send(request.hash())?;
            let attempt = Attempt {
                number: new.number,
                claimed_at: new.claimed_at,
                give_up_at: new.give_up_at,
                end: None,
                bytes_hash: new.bytes_hash,
            };
            let kind = CallKind::Create { number: new.number };
            let (account_id, broker_order_id) = (case.request().account_id, case.request().broker_order_id.clone());
            Some(PlannedCall { order_id, account_id, broker_order_id, key, kind, request, attempt: Some(attempt) })
        }
        Err(error) => {
            tracing::error!(order_id = %case.request().order_id, account_id = %case.request().account_id, error = %Chain(&error),
                "the order cannot be written in the broker's dialect");
            case.manual("the order cannot be written in the broker's dialect".to_owned());
            None
        }
    }
}
