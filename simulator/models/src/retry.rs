//! The retry protocol beside a broker that can do what real ones do: take an order and lose the reply,
//! take it and show it only later, get a request late, refuse, throttle, forget a key after a window.
//!
//! The decisions are [`next_action`]'s, and the bookkeeping between them is the gateway's own
//! ([`History`], [`Attempt::close`], [`Asked`](broker_gateway::domain::history::Asked)). One tick is
//! a second. What a tick brings is not: between any two ticks anything that may happen may happen, in
//! any order, or not at all; only what a profile promises (the longest flight, the longest time until
//! a taken order is shown) happens in time.

mod broker;
mod step;

pub use broker::{Broker, Mood, Profiles};
pub use step::Step;

use broker_gateway::domain::attempt::{Attempt, AttemptEnd};
use broker_gateway::domain::history::History;
use broker_gateway::domain::outcome::Refusal;
use broker_gateway::domain::profile::{KeyEnforcement, Profile};
use broker_gateway::domain::retry::{
    AbsenceProof, Action, Finish, Jitter, ManualReason, Now, RetryPolicy, next_action,
};
use contracts::event::NotSentReason;
use stateright::{Model, Property};
use time::{Duration, OffsetDateTime};

/// Longest time from writing an attempt's row to writing its bytes.
pub const SEND_GRACE: u8 = 1;
/// How long the caller waits for a reply.
pub const CALL_TIMEOUT: u8 = 1;
/// How long a request may be under way where the profile says so.
pub const LONGEST_FLIGHT: u8 = 2;
/// How long a taken order may stay hidden where the profile says so.
pub const RECORD_LAG: u8 = 1;
/// How far the broker's clock is off, at most.
pub const SKEW: i8 = 1;

/// A moment: so many seconds after the story began.
#[must_use]
pub fn moment(tick: u8) -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::seconds(i64::from(tick))
}

/// Who decides what is done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    /// The gateway.
    Production,
    /// A lookup that found nothing twice counts as proof that nothing is there.
    NotFoundTwiceMeansFailed,
    /// Whatever the last attempt was refused for is the order's end.
    RefusalOfTheLastAttemptIsFinal,
    /// The ladder of waits goes on, whatever the broker's window is.
    LadderBeyondTheWindow,
    /// The window is compared with the moment of sending, not with the latest moment of arrival.
    WindowWithoutTheFlight,
    /// The window is tested when the resend is planned; the bytes may leave any time after.
    WindowTestedWhenPlanned,
    /// Every attempt has a key of its own.
    NewKeyForEachAttempt,
    /// An attempt without an answer counts as failed.
    SilenceMeansFailed,
}

/// The bounds of a check.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Who decides.
    pub design: Design,
    /// What the broker promises, and keeps.
    pub profile: Profile,
    /// Ticks that a story lasts.
    pub horizon: u8,
    /// Most attempts.
    pub attempts_max: usize,
    /// Ticks from the first attempt until the broker must not take it any more.
    pub valid_for: u8,
    /// How far the broker's clock may be off, in ticks.
    pub skews: &'static [i8],
    /// Whether the customer may want the order cancelled.
    pub with_cancel: bool,
    /// How often the gateway may die, or stand still with a full lane, each time for as long as it may be.
    pub deaths_max: u8,
}

/// What the caller of an attempt has in hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hand {
    /// The row is committed, no byte is out.
    Committed,
    /// The bytes went out at this tick; the reply is awaited.
    Waiting(u8),
    /// It knows how the attempt ended, and has not recorded it.
    Holds(AttemptEnd),
    /// It has recorded the end, or died.
    Gone,
}

/// A lookup under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// It was claimed at this tick, and the broker has not answered.
    Asked(u8),
    /// The broker has answered, and nobody has recorded it.
    Answered {
        /// When it was claimed.
        began: u8,
        /// What the answer was; none where it is of no use.
        found: Option<bool>,
    },
}

/// A moment of a story.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Seconds since the story began.
    pub now: u8,
    /// What the gateway's database knows.
    pub history: History,
    /// What each attempt's caller has in hand.
    pub hands: Vec<Hand>,
    /// A lookup under way.
    pub question: Option<Question>,
    /// Whether the gateway is at work.
    pub is_up: bool,
    /// How often it has died.
    pub deaths: u8,
    /// How many lookups found nothing; counted only for the design that looks at it.
    pub nones: u8,
    /// How the protocol ended the request.
    pub finished: Option<Finish>,
    /// The truth.
    pub broker: Broker,
}

impl Retry {
    /// The gateway's protocol with this broker, within the usual bounds.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        // The broker's clock matters only where it looks at the time in a request.
        let skews: &[i8] = if profile.honours_valid_until() { &[-SKEW, SKEW] } else { &[0] };
        Self {
            design: Design::Production,
            profile,
            horizon: 11,
            attempts_max: 3,
            valid_for: 6,
            skews,
            with_cancel: true,
            deaths_max: 1,
        }
    }

    /// The bounds that every run of the tests affords: two attempts, and either a death of the gateway
    /// or a cancel.
    #[must_use]
    pub fn quick(profile: &Profile) -> [Self; 2] {
        let wide = Self { attempts_max: 2, ..Self::of(profile.clone()) };
        [Self { with_cancel: false, ..wide.clone() }, Self { deaths_max: 0, ..wide }]
    }

    /// The same, decided by another design, within bounds that are wide enough to refute it.
    #[must_use]
    pub fn by(self, design: Design) -> Self {
        Self { design, attempts_max: 2, skews: &[0], with_cancel: false, ..self }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy {
            ladder: [1, 2].map(Duration::seconds).to_vec(),
            lookup_delay_first: Duration::seconds(1),
            lookup_delay_max: Duration::seconds(2),
            unsent_delay_first: Duration::seconds(1),
            unsent_delay_max: Duration::seconds(1),
            doubt_max: Duration::seconds(6),
            send_grace: Duration::seconds(i64::from(SEND_GRACE)),
            reviewed_since: OffsetDateTime::UNIX_EPOCH,
            review_hold_max: Duration::ZERO,
        }
    }

    /// What is to be done next with a request, after its owner-less attempts were given up.
    fn decide(&self, state: &State) -> Action {
        let now = Now { at: moment(state.now), is_trusted: true };
        let history = &state.history;
        let believed = |profile: &Profile| next_action(profile, &Self::policy(), history, now, Jitter(0));
        let gone =
            Action::Finish(Finish::NotSent { reason: NotSentReason::Expired, evidence: AbsenceProof::FinalNone });
        let last_end = || history.attempts.last().and_then(|attempt| attempt.end.as_ref()).map(|(end, _)| end);
        match self.design {
            Design::NotFoundTwiceMeansFailed if state.nones >= 2 && !history.is_alive => gone,
            Design::SilenceMeansFailed if last_end() == Some(&AttemptEnd::Unknown) && !history.is_alive => gone,
            Design::RefusalOfTheLastAttemptIsFinal => match last_end() {
                Some(AttemptEnd::Rejected(refusal)) if !history.is_alive => {
                    Action::Finish(Finish::Refused(refusal.clone()))
                }
                _ => believed(&self.profile),
            },
            Design::LadderBeyondTheWindow => {
                believed(&Profile { key_enforcement: KeyEnforcement::Always, ..self.profile.clone() })
            }
            Design::WindowWithoutTheFlight => {
                believed(&Profile { longest_flight: Some(Duration::ZERO), ..self.profile.clone() })
            }
            Design::Production
            | Design::WindowTestedWhenPlanned
            | Design::NewKeyForEachAttempt
            | Design::NotFoundTwiceMeansFailed
            | Design::SilenceMeansFailed => believed(&self.profile),
        }
    }

    fn start(skew: i8) -> State {
        State {
            now: 0,
            history: History::default(),
            hands: Vec::new(),
            question: None,
            is_up: true,
            deaths: 0,
            nones: 0,
            finished: None,
            broker: Broker::new(skew),
        }
    }
}

/// The refusal that the broker gives.
#[must_use]
pub fn refusal() -> Refusal {
    Refusal { code: 40_310_000, message: String::new() }
}

impl Model for Retry {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        self.skews.iter().map(|skew| Self::start(*skew)).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        self.steps(state, steps);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut next = last.clone();
        self.take(&mut next, step).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::always("one order of ours is at most one order at the broker", |_, state| {
                state.broker.orders.len() <= 1
            }),
            Property::<Self>::always("what is called gone is not there, nor ever will be", |_, state| {
                let gone = matches!(state.finished, Some(Finish::Refused(_) | Finish::NotSent { .. }));
                !gone || state.broker.orders.is_empty()
            }),
            Property::<Self>::always("what is called alive is there", |_, state| {
                !state.history.is_alive || state.broker.orders.len() == 1
            }),
            Property::<Self>::always("a broker that can prove absence needs no person", |model, state| {
                let asked_a_person = matches!(
                    &state.finished,
                    Some(Finish::Manual { reason }) if !matches!(reason, ManualReason::DuplicateNotShown)
                );
                !asked_a_person || model.profile.none_is_final_after(Some(moment(0))).is_none()
            }),
        ];
        if self.design == Design::Production {
            properties.extend(self.reachable());
        }
        properties
    }
}

impl Retry {
    /// What must be reached for the check to mean something.
    fn reachable(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::<Self>::sometimes("an order lives whose reply was lost", |_, state| {
                state.history.is_alive
                    && state.history.attempts.iter().all(|a| matches!(a.end, Some((AttemptEnd::Unknown, _))))
            }),
            Property::<Self>::sometimes("a refused order ends refused", |_, state| {
                matches!(state.finished, Some(Finish::Refused(_)))
            }),
        ];
        let resends = match self.profile.key_enforcement {
            KeyEnforcement::Never => false,
            KeyEnforcement::Window(_) => self.profile.longest_flight.is_some(),
            KeyEnforcement::Always => true,
        };
        if resends {
            properties.push(Property::<Self>::sometimes("two attempts are at the broker", |_, state| {
                state.history.attempts.iter().filter(|attempt| attempt.may_have_arrived()).count() >= 2
            }));
            properties.push(Property::<Self>::sometimes("the broker reports a duplicate", |_, state| {
                state.history.attempts.iter().any(|a| matches!(a.end, Some((AttemptEnd::Duplicate, _))))
            }));
        }
        if self.profile.none_is_final_after(Some(moment(0))).is_some() {
            properties.push(Property::<Self>::sometimes("a final none ends a doubt", |_, state| {
                matches!(state.finished, Some(Finish::NotSent { evidence: AbsenceProof::FinalNone, .. }))
            }));
        } else {
            properties.push(Property::<Self>::sometimes("a person is asked", |_, state| {
                matches!(state.finished, Some(Finish::Manual { .. }))
            }));
        }
        properties
    }
}

/// Whether an attempt of this history is this one.
fn numbered(history: &mut History, number: usize) -> Option<&mut Attempt> {
    history.attempts.get_mut(number)
}
