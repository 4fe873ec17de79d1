//! Settling an order that no program may settle: two different persons approve the same decision on
//! the same evidence. New evidence makes earlier approvals worthless, since its digest is another.

use super::case::Case;
use super::change::Change;
use super::dossier::{Approval, Dossier};
use super::ports::StoreError;
use super::request::Loaded;
use super::rules::Rules;
use crate::domain::retry::{Jitter, Now};
use crate::domain::state::State;
use contracts::{BrokerOrderId, OrderId};
use std::collections::BTreeSet;
use std::future::Future;
use thiserror::Error;
use time::OffsetDateTime;

/// How many different persons it takes.
pub const PERSONS_NEEDED: usize = 2;

/// What a person decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who.
    pub person: String,
    /// Digest of the evidence that the person saw.
    pub evidence_digest: String,
    /// The broker's order that it is; none: the broker never had it.
    pub broker_order_id: Option<BrokerOrderId>,
}

/// Why a decision is not taken.
#[derive(Debug, Error)]
pub enum SettlementError {
    /// There is no such request.
    #[error("no such request")]
    NotFound,
    /// It is not in the hands of persons.
    #[error("the request is {state}, not manual")]
    NotManual {
        /// Where it stands.
        state: &'static str,
    },
    /// There is newer evidence than the person saw.
    #[error("the evidence has changed: its digest is now {current}")]
    EvidenceChanged {
        /// The digest now.
        current: String,
    },
    /// The person has decided otherwise on the same evidence.
    #[error("{person} has approved another settlement on the same evidence")]
    Contradicts {
        /// Who.
        person: String,
    },
    /// A name that cannot be a person's.
    #[error("person must be 1 to 64 printable ASCII characters")]
    Person,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It waits for another person.
    Waiting {
        /// Who has approved.
        approved_by: Vec<String>,
    },
    /// It is settled.
    Done {
        /// By whom.
        by: Vec<String>,
    },
}

/// What a settlement's transaction writes.
#[derive(Debug)]
pub struct SettlementWrite {
    /// The approval.
    pub approval: Approval,
    /// The settlement, if it is complete.
    pub change: Option<Change>,
    /// The answer.
    pub settled: Settled,
}

/// The store, as settling needs it: one transaction in which the request is locked.
pub trait SettlementStore: Send + Sync + 'static {
    /// Locks the request, reads its story, lets `decide` work out what to write, writes and commits.
    fn settle<F>(&self, order_id: OrderId, decide: F) -> impl Future<Output = Result<Settled, SettlementError>> + Send
    where
        F: FnOnce(OffsetDateTime, Loaded, Dossier) -> Result<SettlementWrite, SettlementError> + Send;
}

/// Takes one person's decision.
///
/// # Errors
/// [`SettlementError`].
pub async fn decide<S: SettlementStore>(
    store: &S,
    rules: &Rules,
    order_id: OrderId,
    decision: Decision,
) -> Result<Settled, SettlementError> {
    let name = decision.person.as_bytes();
    if name.is_empty() || name.len() > 64 || !name.iter().all(|b| (0x21..0x7f).contains(b)) {
        return Err(SettlementError::Person);
    }
    store.settle(order_id, |now, loaded, dossier| work_out(rules, now, loaded, &dossier, decision)).await
}

fn work_out(
    rules: &Rules,
    at: OffsetDateTime,
    loaded: Loaded,
    dossier: &Dossier,
    decision: Decision,
) -> Result<SettlementWrite, SettlementError> {
    let state = loaded.0.state;
    if state != State::Manual {
        return Err(SettlementError::NotManual { state: state.as_str() });
    }
    if decision.evidence_digest != dossier.evidence_digest {
        return Err(SettlementError::EvidenceChanged { current: dossier.evidence_digest.clone() });
    }
    let bound = decision.broker_order_id.as_ref().map(ToString::to_string);
    let same_evidence =
        || dossier.approvals.iter().filter(|approval| approval.evidence_digest == dossier.evidence_digest);
    if same_evidence().any(|a| a.person == decision.person && a.broker_order_id != bound) {
        return Err(SettlementError::Contradicts { person: decision.person });
    }
    let mut by: BTreeSet<String> =
        same_evidence().filter(|a| a.broker_order_id == bound).map(|a| a.person.clone()).collect();
    by.insert(decision.person.clone());
    let by: Vec<String> = by.into_iter().collect();
    let approval = Approval {
        person: decision.person,
        evidence_digest: decision.evidence_digest.clone(),
        broker_order_id: bound,
        approved_at: at,
    };
    if by.len() < PERSONS_NEEDED {
        return Ok(SettlementWrite { approval, change: None, settled: Settled::Waiting { approved_by: by } });
    }
    let mut case = Case::new(rules, loaded, Now { at, is_trusted: true }, Jitter(0));
    match decision.broker_order_id {
        None => case.settle_absent(by.clone(), decision.evidence_digest),
        Some(broker_order_id) => case.settle_bound(broker_order_id),
    }
    Ok(SettlementWrite { approval, change: Some(case.settled()), settled: Settled::Done { by } })
}
