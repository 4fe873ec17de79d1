//! Ends of calls, applied to their request.

use super::Case;
use crate::application::alarm::Alarm;
use crate::application::change::{CallTrace, EndedAttempt, EndedCancel, EndedLookup};
use crate::domain::attempt::AttemptEnd;
use crate::domain::live::{Verdict, after_cancel, after_observation};
use crate::domain::order::SeenOrder;
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome};
use contracts::event::{EvidenceSource, GatewayEvent};
use time::OffsetDateTime;

impl Case<'_> {
    /// The end of an attempt, as its owner saw it. A result that comes after the attempt was given
    /// up still counts: it is the truth about that attempt.
    pub fn attempt_ended(&mut self, number: i32, outcome: &CreateOutcome, trace: CallTrace) {
        let end = AttemptEnd::from(outcome);
        let was_open = self.attempts.iter().find(|a| a.number == number).is_some_and(|a| a.end.is_none());
        for attempt in self.attempts.iter_mut().filter(|attempt| attempt.number == number) {
            attempt.close(end.clone(), self.now.at);
        }
        self.change.ended_attempts.push(EndedAttempt { number, outcome: outcome.as_str(), trace });
        match outcome {
            CreateOutcome::Accepted(seen) => {
                self.seen(seen, EvidenceSource::Reply);
            }
            CreateOutcome::Duplicate if was_open => {
                let reason = "duplicate key: the original is being fetched".to_owned();
                self.doubt(number, reason);
            }
            CreateOutcome::Unknown { reason } if was_open => {
                self.doubt(number, reason.clone());
            }
            CreateOutcome::Duplicate
            | CreateOutcome::Unknown { .. }
            | CreateOutcome::Rejected(_)
            | CreateOutcome::NotSent { .. }
            | CreateOutcome::RateLimited { .. } => {}
        }
    }

    /// Tells of a doubt, unless evidence of life came before the reply.
    fn doubt(&mut self, attempt: i32, reason: String) {
        let request = &self.change.request;
        if !request.state.is_alive() {
            let (order_id, broker) = (request.order_id, Some(request.broker.clone()));
            self.change.events.push(GatewayEvent::InDoubt { order_id, broker, attempt, reason });
        }
    }

    /// The end of a lookup by our key.
    pub fn ask_ended(&mut self, began_at: OffsetDateTime, outcome: &LookupOutcome, trace: CallTrace) {
        self.note_lookup(true, began_at, outcome, trace);
        match outcome {
            LookupOutcome::Found(seen) => {
                self.seen(seen, EvidenceSource::Lookup);
            }
            LookupOutcome::None => self.change.request.asked.heard_none(began_at),
            LookupOutcome::RateLimited { .. } | LookupOutcome::NotSent { .. } | LookupOutcome::Unknown { .. } => {}
        }
    }

    /// The end of an observation.
    pub fn observation_ended(&mut self, began_at: OffsetDateTime, outcome: &LookupOutcome, trace: CallTrace) {
        self.note_lookup(false, began_at, outcome, trace);
        let (owed, verdict) = after_observation(&self.rules.live, self.change.request.observe, outcome, self.now.at);
        self.change.request.observe = owed;
        match (verdict, outcome) {
            (Verdict::Observed, LookupOutcome::Found(seen)) => {
                // Another order's figures are not told as this one's.
                if self.seen(seen, EvidenceSource::Lookup) {
                    let request = &self.change.request;
                    let (order_id, broker) = (request.order_id, request.broker.clone());
                    let observed = seen.observed();
                    self.change.events.push(GatewayEvent::Observed { order_id, broker, observed });
                }
            }
            (Verdict::GaveUp { reason }, _) => self.change.alarms.push(Alarm::ObservationFailed { reason }),
            (Verdict::Again(at), _) => self.hold(at),
            (Verdict::Observed | Verdict::Answered | Verdict::CancelRefused(_), _) => {}
        }
    }

    /// The end of a cancel call.
    pub fn cancel_ended(&mut self, claimed_at: OffsetDateTime, outcome: &CancelOutcome, trace: CallTrace) {
        self.change.ended_cancels.push(EndedCancel { claimed_at, outcome: outcome.as_str(), trace });
        let number = self.change.request.cancel.requested;
        let (owed, verdict) = after_cancel(&self.rules.live, self.change.request.cancel, outcome, self.now.at);
        if !self.change.request.cancel.is_pending() {
            return; // the order came to its end meanwhile
        }
        self.change.request.cancel = owed;
        match verdict {
            Verdict::CancelRefused(refusal) => self.change.events.push(GatewayEvent::CancelRefused {
                order_id: self.change.request.order_id,
                request: number,
                code: refusal.code,
                message: refusal.message,
            }),
            Verdict::Again(at) => self.hold(at),
            Verdict::Answered | Verdict::Observed | Verdict::GaveUp { .. } => {}
        }
    }

    /// The broker showed an order under our key; answers whether it is ours, or something else.
    fn seen(&mut self, seen: &SeenOrder, source: EvidenceSource) -> bool {
        if let Some(known) = &self.change.request.broker_order_id
            && *known != seen.broker_order_id
        {
            let (known, other) = (known.to_string(), seen.broker_order_id.to_string());
            self.change.alarms.push(Alarm::SecondBrokerOrder { known, other });
            return false;
        }
        match seen.difference(&self.change.request.terms) {
            None => {
                self.alive(seen.observed(), source);
                true
            }
            Some(what) => {
                self.contradict(what);
                false
            }
        }
    }

    fn note_lookup(&mut self, by_key: bool, began_at: OffsetDateTime, outcome: &LookupOutcome, trace: CallTrace) {
        let found = match outcome {
            LookupOutcome::Found(seen) => Some((seen.broker_order_id.to_string(), seen.status.clone())),
            _ => None,
        };
        let outcome = outcome.as_str();
        self.change.ended_lookups.push(EndedLookup { by_key, began_at, outcome, found, trace });
    }
}
