//! One request inside one transaction: what comes in is applied to it, what follows is worked out,
//! and the whole is handed over as one [`Change`].

mod ends;

use super::alarm::Alarm;
use super::change::{Change, NewAttempt, NewCancelAttempt};
use super::request::{Due, Loaded, Rank, Request};
use super::rules::Rules;
use crate::domain::attempt::Attempt;
use crate::domain::history::History;
use crate::domain::retry::{Action, Finish, Jitter, Now, next_action};
use crate::domain::standing::{Standing, standing};
use crate::domain::state::State;
use contracts::event::{EvidenceSource, GatewayEvent, ObservedOrder};
use contracts::{BrokerOrderId, alpaca};
use time::{Duration, OffsetDateTime};

/// What the lane is to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Place the order.
    Send,
    /// Ask by our key.
    Ask,
    /// Ask by the broker's id, since the order server wants to know.
    Observe,
    /// Ask for a cancel.
    Cancel,
}

impl Task {
    const fn rank(self) -> Rank {
        match self {
            Self::Send => Rank::Send,
            Self::Ask | Self::Observe => Rank::Question,
            Self::Cancel => Rank::Cancel,
        }
    }
}

/// One request inside one transaction.
pub struct Case<'a> {
    rules: &'a Rules,
    now: Now,
    jitter: Jitter,
    /// A wait that a call on a living order asked for.
    hold_until: Option<OffsetDateTime>,
    attempts: Vec<Attempt>,
    change: Change,
}

impl<'a> Case<'a> {
    /// Takes up a request that the transaction has locked.
    #[must_use]
    pub fn new(rules: &'a Rules, (request, attempts): Loaded, now: Now, jitter: Jitter) -> Self {
        let change = Change {
            before: request.clone(),
            request,
            cause: None,
            expired_attempts: Vec::new(),
            new_attempt: None,
            new_cancel: None,
            ended_attempts: Vec::new(),
            ended_lookups: Vec::new(),
            ended_cancels: Vec::new(),
            events: Vec::new(),
            alarms: Vec::new(),
        };
        Self { rules, now, jitter, hold_until: None, attempts, change }
    }

    /// The request as it stands now.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.change.request
    }

    /// The customer wants it cancelled.
    pub fn cancel(&mut self, number: i32) {
        let owed = &mut self.change.request.cancel;
        if number > owed.requested {
            owed.requested = number;
            owed.tries = 0;
        }
    }

    /// The order server wants to know how it stands.
    pub fn observe(&mut self) {
        let owed = &mut self.change.request.observe;
        owed.requested = owed.requested.saturating_add(1);
        owed.tries = 0;
    }

    /// Evidence of life: the broker has the order.
    pub fn alive(&mut self, observed: ObservedOrder, source: EvidenceSource) {
        let is_terminal = alpaca::OrderStatus::from(observed.status.as_str()).is_terminal();
        let before = self.change.request.state;
        match &self.change.request.broker_order_id {
            Some(known) if *known != observed.broker_order_id => {
                self.change.alarms.push(Alarm::SecondBrokerOrder {
                    known: known.to_string(),
                    other: observed.broker_order_id.to_string(),
                });
                return;
            }
            _ => {}
        }
        if before.is_end_without_life() {
            self.change.alarms.push(Alarm::AliveAfterEnd { said: before.as_str() });
        }
        let request = &mut self.change.request;
        request.broker_order_id = Some(observed.broker_order_id.clone());
        request.broker_status = Some(observed.status.clone());
        if !before.is_alive() {
            let cause = format!("{}: {}", source_word(source), observed.status);
            let event = GatewayEvent::Acknowledged {
                order_id: request.order_id,
                broker: request.broker.clone(),
                observed,
                source,
            };
            self.change.events.push(event);
            self.enter(State::Live, cause);
        }
        if is_terminal {
            self.close();
        }
    }

    /// Evidence that the broker has something else under our key.
    pub fn contradict(&mut self, what: &str) {
        self.change.alarms.push(Alarm::Contradiction { what: what.to_owned() });
        if self.change.request.contradiction.is_none() {
            self.change.request.contradiction = Some(what.to_owned());
        }
    }

    /// The broker says that the order is at its end.
    pub fn close(&mut self) {
        if self.change.request.state == State::Live {
            self.enter(State::Closed, "the broker says that it is at its end".to_owned());
        }
        // What is at its end cannot be cancelled any more, and the order server learns the end from
        // the same evidence.
        self.change.request.cancel = self.change.request.cancel.done();
    }

    fn enter(&mut self, state: State, cause: String) {
        if self.change.request.state != state {
            self.change.request.state = state;
            self.change.cause = Some(cause);
        }
    }

    /// Closes attempts whose owner can no longer bring a result.
    fn expire(&mut self) {
        let mut history = History { attempts: std::mem::take(&mut self.attempts), ..History::default() };
        let expired = history.expire(self.now.at);
        self.attempts = history.attempts;
        for attempt in &expired {
            self.change.events.push(GatewayEvent::InDoubt {
                order_id: self.change.request.order_id,
                broker: Some(self.change.request.broker.clone()),
                attempt: *attempt,
                reason: "no result by the deadline".to_owned(),
            });
        }
        self.change.expired_attempts.extend(expired);
    }

    /// Works out what follows: enters the state that the history adds up to, ends what is at its
    /// end, and says what is to be done now, if anything. Otherwise the due time is set.
    fn next(&mut self) -> Option<Task> {
        self.change.request.due = None;
        match self.change.request.state {
            State::Refused | State::NotSent | State::Manual | State::Absent => return None,
            State::Live | State::Closed => return self.next_alive(),
            State::Queued | State::Sending | State::Doubt => {}
        }
        self.expire();
        let history = self.change.request.history(self.attempts.clone());
        self.enter_standing(&standing(&history));
        match next_action(&self.rules.profile, &self.rules.retry, &history, self.now, self.jitter) {
            Action::Send => Some(Task::Send),
            Action::Ask => Some(Task::Ask),
            Action::Wait(at) => {
                let rank = if self.change.request.state == State::Queued { Rank::Send } else { Rank::Question };
                self.change.request.due = Some(Due { at, rank });
                None
            }
            Action::Finish(finish) => {
                self.finish(finish);
                None
            }
            // Only with an attempt that ended accepted, which is recorded together with the state.
            Action::Alive => self.next_alive(),
        }
    }

    fn next_alive(&mut self) -> Option<Task> {
        let request = &self.change.request;
        let task = if request.state == State::Live && request.cancel.is_pending() {
            Task::Cancel
        } else if request.observe.is_pending() {
            Task::Observe
        } else {
            return None;
        };
        match self.hold_until {
            Some(at) => {
                self.change.request.due = Some(Due { at, rank: task.rank() });
                None
            }
            None => Some(task),
        }
    }

    fn enter_standing(&mut self, standing: &Standing) {
        let (state, cause) = match standing {
            Standing::Unsent { .. } => (State::Queued, "nothing has left us"),
            Standing::InFlight { .. } => (State::Sending, "an attempt is under way"),
            Standing::Hidden(_) => (State::Doubt, "the broker reports a duplicate key"),
            Standing::Doubtful(_) => (State::Doubt, "an attempt ended without an answer"),
            Standing::Refused(_) | Standing::Alive | Standing::Contradicted { .. } => return,
        };
        self.enter(state, cause.to_owned());
    }

    fn finish(&mut self, finish: Finish) {
        let order_id = self.change.request.order_id;
        match finish {
            Finish::Refused(refusal) => {
                self.enter(State::Refused, format!("the broker's refusal, code {}", refusal.code));
                let event = GatewayEvent::Refused { order_id, code: refusal.code, message: refusal.message };
                self.change.events.push(event);
            }
            Finish::NotSent { reason, evidence } => {
                self.enter(State::NotSent, format!("{reason:?} on {evidence:?}"));
                self.change.events.push(GatewayEvent::NotSent { order_id, reason });
            }
            Finish::Manual { reason } => self.manual(reason.to_string()),
        }
    }

    /// Hands the order to persons.
    pub fn manual(&mut self, reason: String) {
        self.enter(State::Manual, reason.clone());
        let order_id = self.change.request.order_id;
        self.change.events.push(GatewayEvent::Manual { order_id, reason });
    }

    /// Two persons settled it: the broker never had it.
    pub(super) fn settle_absent(&mut self, by: Vec<String>, digest: String) {
        let order_id = self.change.request.order_id;
        self.enter(State::Absent, format!("settled by {} on evidence {digest}", by.join(" and ")));
        self.change.events.push(GatewayEvent::SettledAbsent { order_id, by, evidence: digest });
    }

    /// Two persons settled it: it is this order of the broker's.
    pub(super) fn settle_bound(&mut self, broker_order_id: BrokerOrderId) {
        let observed = ObservedOrder { broker_order_id, status: "accepted".to_owned(), cumulative_quantity: None };
        self.alive(observed, EvidenceSource::Settlement);
        // How it really stands comes from the broker.
        self.observe();
    }

    /// What the lane is to do now; the caller claims it with one of the `claim_` methods.
    #[must_use]
    pub fn take_up(&mut self) -> Option<Task> {
        self.next()
    }

    /// Claims a new attempt with these bytes. None when they are not those of an earlier attempt
    /// that may have arrived: then a person is asked.
    pub fn claim_send(&mut self, bytes_hash: [u8; 32]) -> Option<NewAttempt> {
        if self.attempts.iter().any(|earlier| earlier.may_have_arrived() && earlier.bytes_hash != bytes_hash) {
            self.change.alarms.push(Alarm::OtherBytes);
            self.manual("a further attempt would not send the same bytes".to_owned());
            return None;
        }
        let timings = self.rules.timings;
        let claimed_at = self.now.at;
        let request = &mut self.change.request;
        let number = request.attempts.saturating_add(1);
        let attempt = NewAttempt {
            number,
            bytes_hash,
            claimed_at,
            send_before: claimed_at.saturating_add(timings.send_grace),
            give_up_at: claimed_at.saturating_add(timings.give_up_after()),
        };
        request.attempts = number;
        request.asked.start_again();
        self.enter(State::Sending, "an attempt is under way".to_owned());
        self.change.request.due = Some(Due { at: attempt.give_up_at, rank: Rank::Question });
        self.change.new_attempt = Some(attempt.clone());
        Some(attempt)
    }

    /// The time that the request must carry, fixed here at the first attempt.
    pub fn fix_valid_until(&mut self) -> Option<OffsetDateTime> {
        if self.rules.profile.honours_valid_until() && self.change.request.valid_until.is_none() {
            let until = self.now.at.saturating_add(self.rules.timings.valid_for);
            self.change.request.valid_until = Some(until.replace_nanosecond(0).unwrap_or(until));
        }
        self.change.request.valid_until
    }

    /// Claims a lookup by our key. Answers when it began at the earliest.
    pub fn claim_ask(&mut self) -> OffsetDateTime {
        self.change.request.asked.began(self.now.at);
        self.hold_for_call(Rank::Question);
        self.now.at
    }

    /// Claims an observation.
    pub fn claim_observe(&mut self) -> OffsetDateTime {
        self.hold_for_call(Rank::Question);
        self.now.at
    }

    /// Claims a cancel call. None without a broker's id, which a living order has.
    pub fn claim_cancel(&mut self) -> Option<NewCancelAttempt> {
        let broker_order_id = self.change.request.broker_order_id.clone()?;
        let cancel = NewCancelAttempt {
            request: self.change.request.cancel.requested,
            broker_order_id,
            claimed_at: self.now.at,
            give_up_at: self.give_up_at(),
        };
        self.hold_for_call(Rank::Cancel);
        self.change.new_cancel = Some(cancel.clone());
        Some(cancel)
    }

    fn hold_for_call(&mut self, rank: Rank) {
        self.change.request.due = Some(Due { at: self.give_up_at(), rank });
    }

    fn give_up_at(&self) -> OffsetDateTime {
        self.now.at.saturating_add(self.rules.timings.give_up_after())
    }

    /// Ends a case in which calls were claimed.
    #[must_use]
    pub fn claimed(self) -> Change {
        self.change
    }

    /// Ends a case: what is to be done next becomes due, at once or when it is ready.
    #[must_use]
    pub fn settled(mut self) -> Change {
        if let Some(task) = self.next() {
            let rank = match self.change.request.state {
                // Also where the order is to be sent again: that settles a doubt, and new orders of
                // its account wait for it. It must never wait with them.
                State::Doubt => Rank::Question,
                _ => task.rank(),
            };
            self.change.request.due = Some(Due { at: self.now.at, rank });
        }
        self.change
    }

    /// Puts calls on a living order off.
    fn hold(&mut self, until: OffsetDateTime) {
        let latest = self.now.at.saturating_add(Duration::hours(1));
        self.hold_until = Some(until.min(latest));
    }
}

const fn source_word(source: EvidenceSource) -> &'static str {
    match source {
        EvidenceSource::Reply => "reply",
        EvidenceSource::Lookup => "lookup",
        EvidenceSource::Stream => "stream",
        EvidenceSource::Settlement => "settlement",
    }
}

#[cfg(test)]
mod tests;
