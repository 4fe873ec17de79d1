//! Random stories of one request against the broker model: whatever happens, there are never two
//! orders, never an end without life that is not true, and every exit from doubt has its evidence.

use super::attempt::{Attempt, AttemptEnd};
use super::broker_model::{Answer, Broker, Reply, Tape};
use super::history::History;
use super::profile::{KeyEnforcement, Profile, ValidUntil};
use super::retry::{Action, Finish, Jitter, Now, RetryPolicy, next_action};
use super::standing::{Standing, standing};
use contracts::BrokerId;
use proptest::prelude::*;
use time::{Duration, OffsetDateTime};

const CALL_TIMEOUT: Duration = Duration::seconds(5);
const SEND_GRACE: Duration = Duration::seconds(1);
const STEPS_MAX: usize = 3000;

fn policy() -> RetryPolicy {
    RetryPolicy {
        ladder: [1, 2, 4, 8].map(Duration::minutes).to_vec(),
        lookup_delay_first: Duration::milliseconds(200),
        lookup_delay_max: Duration::seconds(60),
        unsent_delay_first: Duration::milliseconds(250),
        unsent_delay_max: Duration::seconds(30),
        doubt_max: Duration::minutes(60),
        send_grace: SEND_GRACE,
        reviewed_since: OffsetDateTime::UNIX_EPOCH,
        review_hold_max: Duration::seconds(30),
    }
}

fn profiles() -> impl Strategy<Value = Profile> {
    let enforcement = prop_oneof![
        Just(KeyEnforcement::Always),
        (60i64..600).prop_map(|s| KeyEnforcement::Window(Duration::seconds(s))),
        Just(KeyEnforcement::Never),
    ];
    let valid_until = prop_oneof![
        (0i64..120).prop_map(|s| ValidUntil::Honoured { record_lag_max: Some(Duration::seconds(s)) }),
        Just(ValidUntil::Honoured { record_lag_max: None }),
        Just(ValidUntil::Ignored),
    ];
    (enforcement, valid_until, any::<bool>(), prop::option::of(5i64..300)).prop_map(
        |(key_enforcement, valid_until, key_looked_up, flight)| Profile {
            broker: BrokerId::new("model").unwrap(),
            key_accepted: true,
            key_looked_up,
            key_enforcement,
            valid_until,
            longest_flight: flight.map(Duration::seconds),
            clock_skew_max: Duration::seconds(2),
            rate_limited_is_unprocessed: true,
        },
    )
}

/// One request, the gateway's side.
struct Story {
    profile: Profile,
    broker: Broker,
    tape: Tape,
    valid_for: Duration,
    history: History,
    now: OffsetDateTime,
}

impl Story {
    fn new(profile: Profile, bytes: Vec<u8>) -> Self {
        let mut tape = Tape::new(bytes);
        let skew = tape.duration(profile.clock_skew_max * 2) - profile.clock_skew_max;
        let broker = Broker::new(profile.clone(), skew);
        let valid_for = [20 * 60, 5, 30, 120][usize::from(tape.choose(4))];
        let valid_for = Duration::seconds(valid_for);
        Self { profile, broker, tape, valid_for, history: History::default(), now: OffsetDateTime::UNIX_EPOCH }
    }

    /// Runs until the protocol is done with the request.
    fn run(&mut self) -> Option<Action> {
        for _ in 0..STEPS_MAX {
            self.broker.advance(self.now);
            self.disturb();
            self.history.expire(self.now);
            let now = Now { at: self.now, is_trusted: true };
            let jitter = Jitter(u16::from(self.tape.choose(200)) * 5);
            match next_action(&self.profile, &policy(), &self.history, now, jitter) {
                Action::Send => self.send(),
                Action::Ask => self.ask(),
                Action::Wait(until) => {
                    assert!(until > self.now, "a wait that does not wait");
                    // Sometimes the gateway is down for a while.
                    let late = if self.tape.choose(5) == 4 {
                        self.tape.duration(Duration::minutes(30))
                    } else {
                        Duration::ZERO
                    };
                    self.now = until + late;
                }
                done @ (Action::Alive | Action::Finish(_)) => return Some(done),
            }
        }
        None
    }

    fn disturb(&mut self) {
        if self.tape.choose(30) == 29 {
            self.history.cancel_requested = true;
        }
        if self.broker.has_shown(self.now) && self.tape.choose(40) == 39 {
            self.history.is_alive = true; // a fill came by the stream
        }
    }

    fn send(&mut self) {
        let number = i32::try_from(self.history.attempts.len()).unwrap() + 1;
        let valid_until =
            self.profile.honours_valid_until().then(|| self.history.valid_until.unwrap_or(self.now + self.valid_for));
        self.history.valid_until = valid_until;
        let claimed_at = self.now;
        let give_up_at = claimed_at + SEND_GRACE + CALL_TIMEOUT;
        let mut attempt = Attempt { number, claimed_at, give_up_at, end: None, bytes_hash: [0; 32] };
        self.now += self.tape.duration(SEND_GRACE);
        // Where the profile cannot state the flight, a request may take very long.
        let flight = self.profile.longest_flight.unwrap_or(Duration::minutes(40));
        match self.tape.choose(6) {
            1 => attempt.end = Some((AttemptEnd::NotSent, self.now)),
            2 => self.now += CALL_TIMEOUT, // lost before receipt
            3 => {
                // The gateway dies with the request under way.
                let arrives_at = self.now + self.tape.duration(flight);
                self.broker.send(number, arrives_at, valid_until, &mut self.tape);
            }
            fate => {
                let arrives_at = self.now + self.tape.duration(flight);
                self.broker.send(number, arrives_at, valid_until, &mut self.tape);
                let answered = fate != 4; // 4: the reply is lost
                let patience = self.now + CALL_TIMEOUT;
                self.now = if answered { arrives_at.min(patience) } else { patience };
                self.broker.advance(self.now);
                let reply = self.broker.reply(number, self.now).filter(|_| answered).unwrap_or(Reply::Nothing);
                attempt.end = Some((end(reply), self.now));
            }
        }
        self.history.asked.count = 0;
        self.history.attempts.push(attempt);
    }

    fn ask(&mut self) {
        let began_at = self.now;
        self.history.asked.count += 1;
        self.history.asked.last_began_at = Some(began_at);
        self.now += self.tape.duration(CALL_TIMEOUT) + Duration::MILLISECOND;
        match self.broker.lookup(self.now, &mut self.tape) {
            Answer::Found => self.history.is_alive = true,
            Answer::None => self.history.asked.last_none_began_at = Some(began_at),
            Answer::Unknown => {}
        }
    }
}

fn end(reply: Reply) -> AttemptEnd {
    match reply {
        Reply::Accepted => AttemptEnd::Accepted,
        Reply::Duplicate => AttemptEnd::Duplicate,
        Reply::Rejected(refusal) => AttemptEnd::Rejected(refusal),
        Reply::NotProcessed => AttemptEnd::NotSent,
        Reply::Nothing => AttemptEnd::Unknown,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn never_two_orders_and_never_an_end_that_is_not_true(
        profile in profiles(),
        bytes in prop::collection::vec(any::<u8>(), 0..250),
    ) {
        let mut story = Story::new(profile.clone(), bytes);
        let done = story.run();
        let orders = story.broker.orders_in_the_end();
        prop_assert!(orders <= 1, "{orders} orders at the broker");
        let Some(done) = done else { return Err(TestCaseError::fail("the protocol never came to an end")) };
        match done {
            Action::Alive => prop_assert_eq!(orders, 1, "called alive without evidence"),
            Action::Finish(Finish::Refused(_) | Finish::NotSent { .. }) => {
                prop_assert_eq!(orders, 0, "called gone while it is there: {:?}", done);
            }
            Action::Finish(Finish::Manual { .. }) => {
                let provable = profile.none_is_final_after(Some(story.now)).is_some();
                let hidden = matches!(standing(&story.history), Standing::Hidden(_));
                prop_assert!(!provable || hidden, "a person is asked what a program could settle");
            }
            other => prop_assert!(false, "not an end: {other:?}"),
        }
    }

    #[test]
    fn an_enforced_key_that_can_be_asked_always_ends_without_a_person(
        lag in 0i64..120,
        bytes in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let profile = Profile {
            broker: BrokerId::new("model").unwrap(),
            key_accepted: true,
            key_looked_up: true,
            key_enforcement: KeyEnforcement::Always,
            valid_until: ValidUntil::Honoured { record_lag_max: Some(Duration::seconds(lag)) },
            longest_flight: Some(Duration::seconds(20)),
            clock_skew_max: Duration::seconds(2),
            rate_limited_is_unprocessed: true,
        };
        let mut story = Story::new(profile, bytes);
        let done = story.run();
        let manual = matches!(done, None | Some(Action::Finish(Finish::Manual { .. })));
        prop_assert!(!manual, "{done:?}");
    }
}
