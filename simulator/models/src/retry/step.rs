//! What may happen next in the retry model, and what it does.

use super::broker::{Flight, Mood};
use super::{CALL_TIMEOUT, Design, Hand, Question, Retry, SEND_GRACE, State, moment, numbered};
use broker_gateway::domain::attempt::{Attempt, AttemptEnd};
use broker_gateway::domain::history::History;
use broker_gateway::domain::retry::Action;
use time::OffsetDateTime;

/// One step of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A second passes.
    Tick,
    /// The gateway looks at the request and does what is to be done.
    Decide,
    /// The bytes of an attempt leave.
    Write(usize),
    /// The caller knows that they did not: no connection, or the grace is over.
    CannotWrite(usize),
    /// A request reaches the broker, and its reply the caller or not.
    Arrive {
        /// Which flight.
        flight: usize,
        /// What the broker does with it.
        mood: Mood,
        /// Whether the reply gets through.
        reply: bool,
    },
    /// A request is lost.
    Lose(usize),
    /// The caller has waited long enough.
    TimeOut(usize),
    /// The caller records how its attempt ended.
    Record(usize),
    /// The broker shows an order that it took.
    Show(usize),
    /// The broker answers the lookup.
    Answer {
        /// Whether the answer is of use.
        usable: bool,
    },
    /// The answer is recorded.
    RecordAnswer,
    /// The broker's stream tells of the order.
    Stream,
    /// The gateway dies, with everything that its callers have in hand.
    Die,
    /// It is back.
    Start,
    /// The customer wants the order cancelled.
    Cancel,
}

/// A request that does nothing and whose reply is lost is a lost request, which is a step of its own.
const ARRIVALS: [(Mood, bool); 4] =
    [(Mood::Take, true), (Mood::Take, false), (Mood::Refuse, true), (Mood::Throttle, true)];

/// A result that is this many ticks older than its claim is recorded, or its owner has died.
const RECORDED_AFTER: u8 = SEND_GRACE + CALL_TIMEOUT + 1;

impl Retry {
    /// Whether the story goes on for the gateway. The broker's side goes on all the same.
    fn is_open(state: &State) -> bool {
        state.finished.is_none() && !state.history.is_alive
    }

    pub(super) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let waits = state.broker.may_wait(&self.profile, state.now) && self.callers_may_wait(state);
        if state.now < self.horizon && waits && !self.has_work(state) {
            steps.push(Step::Tick);
        }
        for flight in 0..state.broker.flights.len() {
            steps.push(Step::Lose(flight));
            steps.extend(ARRIVALS.map(|(mood, reply)| Step::Arrive { flight, mood, reply }));
        }
        for (n, hand) in state.hands.iter().enumerate() {
            match hand {
                Hand::Committed => steps.extend([Step::Write(n), Step::CannotWrite(n)]),
                Hand::Waiting(since) if state.now >= since + CALL_TIMEOUT => steps.push(Step::TimeOut(n)),
                Hand::Holds(_) => steps.push(Step::Record(n)),
                Hand::Waiting(_) | Hand::Gone => {}
            }
        }
        steps.extend((0..state.broker.orders.len()).map(Step::Show));
        if !Self::is_open(state) {
            return;
        }
        steps.push(if state.is_up { Step::Decide } else { Step::Start });
        match state.question {
            Some(Question::Asked(_)) => steps.extend([true, false].map(|usable| Step::Answer { usable })),
            Some(Question::Answered { .. }) => steps.push(Step::RecordAnswer),
            None => {}
        }
        if state.broker.shows() {
            steps.push(Step::Stream);
        }
        if state.is_up && state.deaths < self.deaths_max {
            steps.push(Step::Die);
        }
        if self.with_cancel && !state.history.cancel_requested {
            steps.push(Step::Cancel);
        }
    }

    /// Takes a step; false where it changes nothing.
    pub(super) fn take(&self, state: &mut State, step: Step) -> bool {
        let changed = self.apply(state, step);
        self.forget(state);
        changed
    }

    fn apply(&self, state: &mut State, step: Step) -> bool {
        match step {
            Step::Tick => state.now += 1,
            Step::Decide => return self.step_decide(state),
            Step::Write(n) => return self.write(state, n),
            Step::CannotWrite(n) => set(state, n, Hand::Holds(AttemptEnd::NotSent)),
            Step::Arrive { flight, mood, reply } => return self.arrive(state, flight, mood, reply),
            Step::Lose(flight) => drop(state.broker.flights.remove(flight)),
            Step::TimeOut(n) => set(state, n, Hand::Holds(AttemptEnd::Unknown)),
            Step::Record(n) => return record(state, n),
            Step::Show(n) => {
                let Some(order) = state.broker.orders.get_mut(n).filter(|order| !order.shown) else { return false };
                order.shown = true;
            }
            Step::Answer { usable } => {
                let Some(Question::Asked(began)) = state.question else { return false };
                let found = (usable && self.profile.key_looked_up).then(|| state.broker.shows());
                state.question = Some(Question::Answered { began, found });
            }
            Step::RecordAnswer => return self.record_answer(state),
            Step::Stream => state.history.is_alive = true,
            Step::Die => {
                state.hands.fill(Hand::Gone);
                state.question = None;
                state.is_up = false;
                state.deaths += 1;
            }
            Step::Start => state.is_up = true,
            Step::Cancel => state.history.cancel_requested = true,
        }
        true
    }

    /// What no longer matters does not tell states apart.
    fn forget(&self, state: &mut State) {
        if !Self::is_open(state) {
            let is_alive = state.history.is_alive;
            let valid_until = state.history.valid_until;
            let attempts = match state.hands.contains(&Hand::Committed) {
                true => std::mem::take(&mut state.history.attempts),
                false => Vec::new(),
            };
            state.hands.truncate(attempts.len());
            state.history = History { attempts, is_alive, valid_until, ..History::default() };
            for hand in state.hands.iter_mut().filter(|hand| **hand != Hand::Committed) {
                *hand = Hand::Gone;
            }
            state.question = None;
            state.nones = 0;
            (state.is_up, state.deaths) = (true, 0);
        }
        state.broker.forget(&self.profile);
    }

    fn step_decide(&self, state: &mut State) -> bool {
        let expired = !state.history.expire(moment(state.now)).is_empty();
        match self.decide(state) {
            Action::Send if state.history.attempts.len() < self.attempts_max => self.claim(state),
            Action::Ask if state.question.is_none() => {
                state.history.asked.began(moment(state.now));
                state.question = Some(Question::Asked(state.now));
            }
            Action::Finish(finish) => state.finished = Some(finish),
            Action::Alive => state.history.is_alive = true,
            Action::Send | Action::Ask | Action::Wait(_) => return expired,
        }
        true
    }

    /// Writes the row of a new attempt.
    fn claim(&self, state: &mut State) {
        let history = &mut state.history;
        if self.profile.honours_valid_until() && history.valid_until.is_none() {
            history.valid_until = Some(moment(state.now.saturating_add(self.valid_for)));
        }
        history.asked.start_again();
        history.attempts.push(Attempt {
            number: i32::try_from(history.attempts.len()).unwrap_or(i32::MAX).saturating_add(1),
            claimed_at: moment(state.now),
            give_up_at: moment(state.now.saturating_add(SEND_GRACE + CALL_TIMEOUT)),
            end: None,
            bytes_hash: [0; 32],
        });
        state.hands.push(Hand::Committed);
    }

    /// Whether the gateway is up and has something to do at once.
    fn has_work(&self, state: &State) -> bool {
        let has_room = state.history.attempts.len() < self.attempts_max;
        state.is_up
            && Self::is_open(state)
            && (!state.history.clone().expire(moment(state.now)).is_empty()
                || match self.decide(state) {
                    Action::Send => has_room,
                    Action::Ask => state.question.is_none(),
                    Action::Finish(_) | Action::Alive => true,
                    Action::Wait(_) => false,
                })
    }

    /// Whether every caller still has time for what it is at.
    fn callers_may_wait(&self, state: &State) -> bool {
        let claimed = state.history.attempts.iter().map(|attempt| tick(attempt.claimed_at));
        let hands = state.hands.iter().zip(claimed).all(|(hand, claimed)| match hand {
            Hand::Committed => state.now <= claimed + SEND_GRACE || self.design == Design::WindowTestedWhenPlanned,
            Hand::Waiting(since) => state.now < since + CALL_TIMEOUT,
            Hand::Holds(_) => state.now < claimed + RECORDED_AFTER,
            Hand::Gone => true,
        });
        hands
            && match state.question {
                Some(Question::Asked(began)) => state.now < began + CALL_TIMEOUT,
                Some(Question::Answered { began, .. }) => state.now < began + CALL_TIMEOUT + 1,
                None => true,
            }
    }

    fn write(&self, state: &mut State, n: usize) -> bool {
        let Some(claimed_at) = state.history.attempts.get(n).map(|attempt| tick(attempt.claimed_at)) else {
            return false;
        };
        if state.now > claimed_at.saturating_add(SEND_GRACE) && self.design != Design::WindowTestedWhenPlanned {
            return false;
        }
        let valid_until = state.history.valid_until.map(tick);
        let attempt = u8::try_from(n).unwrap_or(u8::MAX);
        state.broker.flights.push(Flight { attempt, left: state.now, valid_until });
        set(state, n, Hand::Waiting(state.now));
        true
    }

    fn arrive(&self, state: &mut State, flight: usize, mood: Mood, reply: bool) -> bool {
        let flight = state.broker.flights.remove(flight);
        let key = if self.design == Design::NewKeyForEachAttempt { flight.attempt } else { 0 };
        let end = state.broker.arrive(&self.profile, &flight, key, mood, state.now);
        let n = usize::from(flight.attempt);
        match state.hands.get(n) {
            Some(Hand::Waiting(_)) if reply => set(state, n, Hand::Holds(end)),
            // Nobody waits for the reply: the same as a lost one, which is a step of its own.
            _ if reply => return false,
            _ => {}
        }
        true
    }

    fn record_answer(&self, state: &mut State) -> bool {
        let Some(Question::Answered { began, found }) = state.question.take() else { return false };
        match found {
            Some(true) => state.history.is_alive = true,
            Some(false) => {
                state.history.asked.heard_none(moment(began));
                if self.design == Design::NotFoundTwiceMeansFailed {
                    state.nones = state.nones.saturating_add(1).min(2);
                }
            }
            None => {}
        }
        true
    }
}

fn set(state: &mut State, n: usize, hand: Hand) {
    if let Some(place) = state.hands.get_mut(n) {
        *place = hand;
    }
}

fn record(state: &mut State, n: usize) -> bool {
    let Some(Hand::Holds(end)) = state.hands.get(n).cloned() else { return false };
    set(state, n, Hand::Gone);
    if end == AttemptEnd::Accepted {
        state.history.is_alive = true;
    }
    let at = moment(state.now);
    if let Some(attempt) = numbered(&mut state.history, n) {
        attempt.close(end, at);
    }
    true
}

fn tick(at: OffsetDateTime) -> u8 {
    u8::try_from((at - OffsetDateTime::UNIX_EPOCH).whole_seconds()).unwrap_or(u8::MAX)
}
