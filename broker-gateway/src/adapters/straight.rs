//! New orders that are claimed in the transaction that brings them, and sent as soon as it is committed.
//!
//! The rules are the lane's: nothing goes before what is due already, an account's doubts hold its new orders back, the
//! rate and the room for calls are kept. Whatever does not fit is left to the lane.

use super::db::SliceTransaction;
use crate::application::change::Change;
use crate::application::claim::PlannedCall;
use crate::application::intake::{OrdersBatch, Sighting};
use crate::application::launch::{Admission, Straight};
use crate::application::ports::{DatabaseMoment, StoreError};
use crate::application::request::{Loaded, NewRequest};
use crate::application::rules::Rules;
use contracts::OrderId;
use std::collections::{HashMap, HashSet};
use tokio::time::Instant;
use uuid::Uuid;

/// Claims that are not committed yet.
#[derive(Default)]
pub(super) struct Claims {
    /// What is written instead of a request that waits.
    pub(super) changes: HashMap<OrderId, Change>,
    planned: Option<Planned>,
}

struct Planned {
    calls: Vec<PlannedCall>,
    admission: Admission,
    since: Instant,
}

impl Claims {
    /// Claims those of a batch's new orders that nothing holds back, as far as there is room.
    pub(super) async fn of(
        tx: &mut SliceTransaction<'_>,
        lane: &dyn Straight,
        rules: &Rules,
        batch: &OrdersBatch,
        early: &HashMap<OrderId, Vec<Sighting>>,
    ) -> Result<Self, StoreError> {
        // What is to be cancelled at once, or was seen at the broker before it came, is the lane's business.
        let is_plain =
            |new: &&NewRequest| !batch.wishes.contains_key(&new.order_id) && !early.contains_key(&new.order_id);
        // Of orders that stand here twice, the first is the one that is inserted.
        let mut seen = HashSet::new();
        let plain: Vec<&NewRequest> =
            batch.submits.iter().filter(|new| seen.insert(new.order_id)).filter(is_plain).collect();
        let Some(admission) = lane.admit_now(u32::try_from(plain.len()).unwrap_or(u32::MAX)) else {
            return Ok(Self::default());
        };
        let accounts: HashSet<Uuid> = plain.iter().map(|new| new.account_id.as_uuid()).collect();
        let accounts: Vec<Uuid> = accounts.into_iter().collect();
        let queue = tx.queue(&accounts, rules.review_hold()).await?;
        if queue.is_long {
            return Ok(Self::default());
        }
        let room = usize::try_from(admission.calls()).unwrap_or(usize::MAX);
        let ready: Vec<Loaded> = plain
            .into_iter()
            .filter(|new| !queue.held.contains(&new.account_id.as_uuid()))
            .take(room)
            .map(|new| (new.queued(&rules.profile.broker, queue.moment.at), Vec::new()))
            .collect();
        Ok(Self::plan(lane, ready, queue.moment, admission))
    }

    fn plan(lane: &dyn Straight, ready: Vec<Loaded>, moment: DatabaseMoment, admission: Admission) -> Self {
        let (changes, calls) = lane.plan(moment, ready);
        // What came to anything else than an attempt is decided by the lane, which writes it down whole.
        let changes: HashMap<OrderId, Change> = changes
            .into_iter()
            .filter(|change| change.new_attempt.is_some() && change.events.is_empty() && change.alarms.is_empty())
            .map(|change| (change.request.order_id, change))
            .collect();
        Self { changes, planned: Some(Planned { calls, admission, since: moment.asked_at }) }
    }

    /// Makes the calls of those that are committed.
    pub(super) fn start(self, lane: &dyn Straight, committed: &HashSet<OrderId>) {
        let Some(Planned { mut calls, admission, since }) = self.planned else { return };
        calls.retain(|call| committed.contains(&call.order_id));
        metrics::counter!("gateway_straight_calls_total").increment(u64::try_from(calls.len()).unwrap_or(u64::MAX));
        lane.start(calls, admission, since);
    }
}

/// No lane at all.
pub(super) enum NoLane {}

impl Straight for NoLane {
    fn admit_now(&self, _: u32) -> Option<Admission> {
        match *self {}
    }

    fn plan(&self, _: DatabaseMoment, _: Vec<Loaded>) -> (Vec<Change>, Vec<PlannedCall>) {
        match *self {}
    }

    fn start(&self, _: Vec<PlannedCall>, _: Admission, _: Instant) {
        match *self {}
    }
}
