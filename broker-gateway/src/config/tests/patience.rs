//! What the settings add up to over the life of a lost order, on a clock of its own.

use super::usable;
use crate::config::Settings;
use crate::domain::attempt::{Attempt, AttemptEnd};
use crate::domain::history::History;
use crate::domain::retry::{AbsenceProof, Action, Finish, Jitter, Now, next_action};
use contracts::event::NotSentReason;
use time::{Duration, OffsetDateTime};

const LOOKUP: Duration = Duration::seconds(1);

/// How it went with a broker that loses every request, after its whole time limit, and answers every
/// lookup with "none".
struct Lost {
    /// When it was sent, from the first time on.
    sent_after: Vec<Duration>,
    ended_after: Duration,
    finish: Finish,
}

fn lost(settings: &Settings, cancel_after: Option<Duration>) -> Lost {
    let rules = settings.rules().unwrap();
    let start = OffsetDateTime::UNIX_EPOCH + Duration::DAY;
    let mut history = History { valid_until: Some(start + rules.timings.valid_for), ..History::default() };
    let (mut now, mut sent_after) = (start, Vec::new());
    for _ in 0..1000 {
        history.cancel_requested = cancel_after.is_some_and(|after| now - start >= after);
        let at = Now { at: now, is_trusted: true };
        match next_action(&rules.profile, &rules.retry, &history, at, Jitter(1000)) {
            Action::Send => {
                sent_after.push(now - start);
                let ended_at = now + rules.timings.give_up_after();
                history.attempts.push(Attempt {
                    number: i32::try_from(sent_after.len()).unwrap(),
                    claimed_at: now,
                    give_up_at: ended_at,
                    end: Some((AttemptEnd::Unknown, ended_at)),
                    bytes_hash: [0; 32],
                });
                history.asked.count = 0;
                now = ended_at;
            }
            Action::Ask => {
                history.asked.count += 1;
                history.asked.last_began_at = Some(now);
                history.asked.last_none_began_at = Some(now);
                now += LOOKUP;
            }
            Action::Wait(until) => now = until,
            Action::Finish(finish) => return Lost { sent_after, ended_after: now - start, finish },
            Action::Alive => panic!("nothing has shown that it lives"),
        }
    }
    panic!("it never ends")
}

fn final_none(reason: NotSentReason) -> Finish {
    Finish::NotSent { reason, evidence: AbsenceProof::FinalNone }
}

#[test]
fn with_the_defaults_a_lost_order_takes_every_step_of_the_ladder_however_slow_its_attempts_are() {
    let settings = usable();
    let lost = lost(&settings, None);
    assert_eq!(lost.sent_after.len(), 1 + settings.retry.ladder_minutes.len(), "{:?}", lost.sent_after);
    assert_eq!(lost.finish, final_none(NotSentReason::Expired));
}

#[test]
fn a_lost_order_that_is_cancelled_is_in_doubt_until_none_is_final_and_not_one_lookup_longer() {
    let settings = usable();
    let profile = settings.profile().unwrap();
    let lost = lost(&settings, Some(Duration::seconds(10)));
    assert_eq!((lost.sent_after.len(), lost.finish), (1, final_none(NotSentReason::CancelRequested)));
    let valid_for = settings.rules().unwrap().timings.valid_for;
    let final_after = valid_for + profile.clock_skew_max + Duration::milliseconds(settings.profile.record_lag_max_ms);
    assert!(lost.ended_after > final_after, "{}", lost.ended_after);
    assert!(lost.ended_after <= final_after + LOOKUP + Duration::milliseconds(1), "{}", lost.ended_after);
}

#[test]
fn a_broker_that_refuses_the_last_step_of_a_slow_ladder_is_a_mistake_of_the_settings() {
    let mut settings = usable();
    settings.retry.minute_ms = 1_000;
    settings.retry.ladder_minutes = vec![60, 60];
    // Two waits of a minute, two attempts of seven seconds, and the grace of the last one.
    settings.retry.valid_for_minutes = 135;
    let error = settings.validate().unwrap_err().to_string();
    assert!(error.contains("retry.ladder_minutes") && error.contains("broker.call_timeout_ms"), "{error}");
    settings.retry.valid_for_minutes += 1;
    settings.validate().unwrap();
}
