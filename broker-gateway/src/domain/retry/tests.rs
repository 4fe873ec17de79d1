//! The known traps of the retry protocol, one test each.

use super::*;
use crate::domain::attempt::{Attempt, AttemptEnd};
use crate::domain::history::Asked;
use crate::domain::profile::ValidUntil;
use contracts::BrokerId;

const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const NO_JITTER: Jitter = Jitter(0);

fn at(seconds: i64) -> OffsetDateTime {
    START + Duration::seconds(seconds)
}

fn now(seconds: i64) -> Now {
    Now { at: at(seconds), is_trusted: true }
}

fn profile() -> Profile {
    Profile {
        broker: BrokerId::new("sim").unwrap(),
        key_accepted: true,
        key_looked_up: true,
        key_enforcement: KeyEnforcement::Always,
        valid_until: ValidUntil::Honoured { record_lag_max: Some(Duration::seconds(30)) },
        longest_flight: Some(Duration::seconds(20)),
        clock_skew_max: Duration::seconds(2),
        rate_limited_is_unprocessed: true,
    }
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        ladder: [1, 2, 4, 8].map(Duration::minutes).to_vec(),
        lookup_delay_first: Duration::seconds(1),
        lookup_delay_max: Duration::seconds(60),
        unsent_delay_first: Duration::milliseconds(250),
        unsent_delay_max: Duration::seconds(30),
        doubt_max: Duration::minutes(60),
        send_grace: Duration::seconds(1),
        reviewed_since: OffsetDateTime::UNIX_EPOCH,
        review_hold_max: Duration::seconds(30),
    }
}

fn refused() -> AttemptEnd {
    AttemptEnd::Rejected(Refusal { code: 40_310_000, message: "insufficient buying power".to_owned() })
}

/// Attempts at the given seconds, each ended five seconds later.
fn history(attempts: &[(i64, AttemptEnd)]) -> History {
    let attempts = attempts
        .iter()
        .enumerate()
        .map(|(index, (second, end))| Attempt {
            number: i32::try_from(index).unwrap() + 1,
            claimed_at: at(*second),
            give_up_at: at(second + 10),
            end: Some((end.clone(), at(second + 5))),
            bytes_hash: [0; 32],
        })
        .collect();
    History { attempts, valid_until: Some(at(1800)), ..History::default() }
}

fn none_begun_at(second: i64) -> Asked {
    Asked { count: 1, last_began_at: Some(at(second)), last_none_began_at: Some(at(second)) }
}

fn next(profile: &Profile, history: &History, second: i64) -> Action {
    next_action(profile, &policy(), history, now(second), NO_JITTER)
}

#[test]
fn a_request_without_attempts_is_sent() {
    assert_eq!(next(&profile(), &History::default(), 0), Action::Send);
}

#[test]
fn in_doubt_the_broker_is_asked_before_anything_is_sent_again() {
    let doubt = history(&[(0, AttemptEnd::Unknown)]);
    assert_eq!(next(&profile(), &doubt, 5), Action::Ask);
    assert_eq!(next(&profile(), &doubt, 500), Action::Ask, "also long after the ladder's first step");
}

#[test]
fn refusal_of_attempt_two_after_unknown_attempt_one_is_not_final() {
    let mut both = history(&[(0, AttemptEnd::Unknown), (66, refused())]);
    assert_eq!(next(&profile(), &both, 71), Action::Ask);
    both.asked = none_begun_at(71);
    let action = next(&profile(), &both, 71);
    assert!(matches!(action, Action::Wait(_)), "{action:?}");
    both.asked = none_begun_at(1000);
    let action = next(&profile(), &both, 1000);
    assert!(matches!(action, Action::Wait(_)), "and it is not sent a third time: {action:?}");
    both.asked = none_begun_at(1833);
    let Action::Finish(Finish::Refused(refusal)) = next(&profile(), &both, 1833) else { panic!("none is final now") };
    assert_eq!(refusal.code, 40_310_000);
}

#[test]
fn none_means_resend_only_after_the_ladder_and_only_when_asked_again() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = none_begun_at(5);
    assert_eq!(next(&profile(), &doubt, 5), Action::Wait(at(6)), "asks again soon");
    doubt.asked = none_begun_at(64);
    assert_eq!(next(&profile(), &doubt, 65), Action::Ask, "the none from before the ladder's step is stale");
    doubt.asked = none_begun_at(65);
    assert_eq!(next(&profile(), &doubt, 65), Action::Send);
}

#[test]
fn no_answer_to_the_question_is_not_a_none() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = Asked { count: 3, last_began_at: Some(at(65)), last_none_began_at: None };
    assert_eq!(next(&profile(), &doubt, 66), Action::Wait(at(69)));
}

#[test]
fn the_ladder_is_one_two_four_eight_minutes_and_then_ends() {
    let mut ends = vec![(0, AttemptEnd::Unknown)];
    let mut last = 0;
    for minutes in [1, 2, 4, 8] {
        let mut doubt = history(&ends);
        let ready = last + 5 + minutes * 60;
        doubt.asked = none_begun_at(ready - 1);
        assert_eq!(next(&profile(), &doubt, ready - 1), Action::Wait(at(ready)), "{minutes} minutes");
        doubt.asked = none_begun_at(ready);
        assert_eq!(next(&profile(), &doubt, ready), Action::Send, "{minutes} minutes");
        last = ready;
        ends.push((last, AttemptEnd::Unknown));
    }
    let mut doubt = history(&ends);
    doubt.asked = none_begun_at(1700);
    assert!(matches!(next(&profile(), &doubt, 1700), Action::Wait(_)), "a sixth attempt is never made");
}

#[test]
fn jitter_only_lengthens_a_wait_and_never_puts_off_twice() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = Asked { count: 3, last_began_at: Some(at(10)), last_none_began_at: None };
    let wait = |jitter, second| next_action(&profile(), &policy(), &doubt, now(second), Jitter(jitter));
    assert_eq!(wait(0, 10), Action::Wait(at(14)));
    assert_eq!(wait(1000, 10), Action::Wait(at(15)));
    assert_eq!(wait(1000, 14), Action::Ask);
}

#[test]
fn second_resend_is_refused_after_the_key_window() {
    let windowed = Profile {
        key_enforcement: KeyEnforcement::Window(Duration::minutes(4)),
        valid_until: ValidUntil::Ignored,
        ..profile()
    };
    let mut doubt = history(&[(0, AttemptEnd::Unknown), (65, AttemptEnd::Unknown)]);
    doubt.valid_until = None;
    doubt.asked = none_begun_at(190);
    assert_eq!(next(&windowed, &doubt, 190), Action::Send, "190 + 1 + 20 + 2 is before 240");
    doubt.asked = none_begun_at(217);
    let action = next(&windowed, &doubt, 217);
    assert!(matches!(action, Action::Wait(_)), "it would arrive when the key is forgotten: {action:?}");
}

#[test]
fn the_window_is_tested_at_the_moment_of_sending_not_of_planning() {
    let windowed = Profile { key_enforcement: KeyEnforcement::Window(Duration::minutes(3)), ..profile() };
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = none_begun_at(65);
    assert_eq!(next(&windowed, &doubt, 65), Action::Send);
    assert_ne!(next(&windowed, &doubt, 160), Action::Send, "the same plan, executed too late");
}

#[test]
fn without_a_stated_flight_a_windowed_key_is_never_used_twice() {
    let unstated = Profile {
        key_enforcement: KeyEnforcement::Window(Duration::hours(24)),
        longest_flight: None,
        valid_until: ValidUntil::Ignored,
        ..profile()
    };
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.valid_until = None;
    doubt.asked = none_begun_at(65);
    assert!(matches!(next(&unstated, &doubt, 65), Action::Wait(_)));
    doubt.asked = none_begun_at(3600);
    let manual = Action::Finish(Finish::Manual { reason: ManualReason::NoneIsNeverFinal });
    assert_eq!(next(&unstated, &doubt, 3600), manual);
}

#[test]
fn where_the_key_is_not_enforced_there_is_one_attempt_ever() {
    let lookup_only = Profile { key_enforcement: KeyEnforcement::Never, ..profile() };
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    for second in [65, 300, 900, 1799] {
        doubt.asked = none_begun_at(second);
        assert_ne!(next(&lookup_only, &doubt, second), Action::Send);
    }
    let unsent = history(&[(0, AttemptEnd::NotSent)]);
    assert_eq!(next(&lookup_only, &unsent, 6), Action::Send, "but what never left may leave");
}

#[test]
fn none_is_final_only_for_a_lookup_begun_after_expiry_skew_and_record_lag() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    // valid until 1800, skew 2, lag 30
    doubt.asked = none_begun_at(1832);
    let action = next(&profile(), &doubt, 2000);
    assert_eq!(action, Action::Ask, "a none begun at the edge is not final, however late it is looked at");
    doubt.asked = none_begun_at(1833);
    let gone = Finish::NotSent { reason: NotSentReason::Expired, evidence: AbsenceProof::FinalNone };
    assert_eq!(next(&profile(), &doubt, 1833), Action::Finish(gone));
}

#[test]
fn without_an_honoured_time_or_a_declared_lag_none_ends_with_a_person() {
    for valid_until in [ValidUntil::Ignored, ValidUntil::Honoured { record_lag_max: None }] {
        let profile = Profile { valid_until, key_enforcement: KeyEnforcement::Never, ..profile() };
        let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
        doubt.asked = none_begun_at(3599);
        assert!(matches!(next(&profile, &doubt, 3599), Action::Wait(_) | Action::Ask));
        let manual = Action::Finish(Finish::Manual { reason: ManualReason::NoneIsNeverFinal });
        assert_eq!(next(&profile, &doubt, 3600), manual);
    }
}

#[test]
fn a_blind_broker_ends_with_a_person_at_once() {
    let blind = Profile {
        key_accepted: false,
        key_looked_up: false,
        key_enforcement: KeyEnforcement::Never,
        valid_until: ValidUntil::Ignored,
        ..profile()
    };
    let manual = Action::Finish(Finish::Manual { reason: ManualReason::CannotBeAsked });
    assert_eq!(next(&blind, &history(&[(0, AttemptEnd::Unknown)]), 5), manual);
}

#[test]
fn a_duplicate_with_lookup_none_keeps_asking_and_is_never_sent_again() {
    let mut hidden = history(&[(0, AttemptEnd::Unknown), (65, AttemptEnd::Duplicate)]);
    assert_eq!(next(&profile(), &hidden, 70), Action::Ask);
    for second in [200, 900, 1833, 3000] {
        hidden.asked = none_begun_at(second);
        let action = next(&profile(), &hidden, second);
        assert!(matches!(action, Action::Wait(_)), "none is not believed: {action:?}");
        assert_eq!(next(&profile(), &hidden, second + 2), Action::Ask);
    }
    let manual = Action::Finish(Finish::Manual { reason: ManualReason::DuplicateNotShown });
    assert_eq!(next(&profile(), &hidden, 3600), manual);
}

#[test]
fn an_original_that_is_not_ours_goes_to_a_person() {
    let mut other = history(&[(0, AttemptEnd::Duplicate)]);
    other.contradiction = Some("quantity".to_owned());
    let action = next(&profile(), &other, 10);
    assert!(matches!(action, Action::Finish(Finish::Manual { reason: ManualReason::Contradicted { .. } })));
}

#[test]
fn evidence_of_life_ends_the_doubt_at_once() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.is_alive = true;
    assert_eq!(next(&profile(), &doubt, 5), Action::Alive);
}

#[test]
fn a_cancel_request_stops_resends_but_not_lookups() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.cancel_requested = true;
    assert_eq!(next(&profile(), &doubt, 5), Action::Ask);
    doubt.asked = none_begun_at(100);
    assert!(matches!(next(&profile(), &doubt, 100), Action::Wait(_)));
    doubt.asked = none_begun_at(1833);
    let gone = Finish::NotSent { reason: NotSentReason::CancelRequested, evidence: AbsenceProof::FinalNone };
    assert_eq!(next(&profile(), &doubt, 1833), Action::Finish(gone));
}

#[test]
fn a_cancel_withdraws_what_was_proven_not_to_have_left() {
    let mut unsent = history(&[(0, AttemptEnd::NotSent)]);
    unsent.cancel_requested = true;
    let gone = Finish::NotSent { reason: NotSentReason::CancelRequested, evidence: AbsenceProof::NothingLeft };
    assert_eq!(next(&profile(), &unsent, 5), Action::Finish(gone));
}

#[test]
fn a_clock_that_runs_backwards_or_is_not_believed_never_sends_again() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = none_begun_at(65);
    let untrusted = Now { at: at(65), is_trusted: false };
    assert_ne!(next_action(&profile(), &policy(), &doubt, untrusted, NO_JITTER), Action::Send);
    doubt.attempts[0].end = Some((AttemptEnd::Unknown, at(3)));
    let mut backwards = history(&[(0, AttemptEnd::Unknown), (10, AttemptEnd::NotSent)]);
    backwards.attempts[0].end = Some((AttemptEnd::Unknown, at(-100)));
    backwards.asked = none_begun_at(12);
    assert_ne!(next(&profile(), &backwards, 12), Action::Send, "an attempt ended at 15, and it is 12");
}

#[test]
fn an_open_attempt_is_left_to_its_owner_until_it_must_have_given_up() {
    let mut open = history(&[(0, AttemptEnd::Unknown)]);
    open.attempts[0].end = None;
    assert_eq!(next(&profile(), &open, 9), Action::Wait(at(10)));
    assert_eq!(open.expire(at(10)), vec![1]);
    assert_eq!(next(&profile(), &open, 10), Action::Ask);
}

#[test]
fn what_never_left_is_tried_again_until_its_time_is_over() {
    let unsent = history(&[(0, AttemptEnd::NotSent), (6, AttemptEnd::NotSent)]);
    assert_eq!(next(&profile(), &unsent, 11), Action::Wait(at(11) + Duration::milliseconds(500)));
    assert_eq!(next(&profile(), &unsent, 12), Action::Send);
    let gone = Finish::NotSent { reason: NotSentReason::Expired, evidence: AbsenceProof::NothingLeft };
    assert_eq!(next(&profile(), &unsent, 1800), Action::Finish(gone));
}

#[test]
fn nothing_is_asked_while_the_clock_is_not_believed() {
    // A "none" that is final by a clock that runs ahead would free a hold that the broker still fills.
    let doubtful = history(&[(0, AttemptEnd::Unknown)]);
    let look = |is_trusted| {
        let now = Now { at: at(86_400), is_trusted };
        next_action(&profile(), &policy(), &doubtful, now, NO_JITTER)
    };
    let (trusted, distrusted) = (look(true), look(false));
    assert_eq!(trusted, Action::Ask);
    assert!(matches!(distrusted, Action::Wait(_)), "{distrusted:?}");
}

#[test]
fn after_a_try_that_did_not_leave_a_resend_waits_anew_and_wants_a_fresh_none() {
    let p = profile();
    // In doubt since second 5; a "none" at 65 allowed the second attempt, which never left us.
    let mut doubt = history(&[(0, AttemptEnd::Unknown), (66, AttemptEnd::NotSent)]);
    doubt.asked = none_begun_at(65);
    let sends = |doubt: &History, millis: i64| {
        let now = Now { at: START + Duration::milliseconds(millis), is_trusted: true };
        next_action(&p, &policy(), doubt, now, NO_JITTER)
    };
    assert!(!matches!(sends(&doubt, 71_000), Action::Send), "no wait of its own");
    assert_eq!(sends(&doubt, 71_250), Action::Ask, "the old none is too old");
    doubt.asked = Asked {
        count: 1,
        last_began_at: Some(START + Duration::milliseconds(71_249)),
        last_none_began_at: Some(START + Duration::milliseconds(71_249)),
    };
    assert_ne!(sends(&doubt, 71_300), Action::Send, "a none from before the wait was over");
    doubt.asked = none_begun_at(72);
    assert_eq!(sends(&doubt, 72_000), Action::Send);
    // Each further such try doubles the wait.
    let mut more = history(&[(0, AttemptEnd::Unknown), (66, AttemptEnd::NotSent), (72, AttemptEnd::NotSent)]);
    more.asked = Asked {
        count: 1,
        last_began_at: Some(START + Duration::milliseconds(77_300)),
        last_none_began_at: Some(START + Duration::milliseconds(77_300)),
    };
    assert_ne!(sends(&more, 77_499), Action::Send);
    assert_eq!(sends(&more, 77_500), Action::Ask);
}

#[test]
fn where_keys_cannot_be_looked_up_a_resend_after_one_that_did_not_leave_waits_too() {
    let blind = Profile { key_looked_up: false, ..profile() };
    let doubt = history(&[(0, AttemptEnd::Unknown), (66, AttemptEnd::NotSent)]);
    let now = |millis: i64| Now { at: START + Duration::milliseconds(millis), is_trusted: true };
    let action = next_action(&blind, &policy(), &doubt, now(71_000), NO_JITTER);
    assert_eq!(action, Action::Wait(START + Duration::milliseconds(71_250)));
    assert_eq!(next_action(&blind, &policy(), &doubt, now(71_250), NO_JITTER), Action::Send);
}

#[test]
fn a_doubt_from_before_this_process_is_asked_about_at_once() {
    let mut doubt = history(&[(0, AttemptEnd::Unknown)]);
    doubt.asked = Asked { count: 9, last_began_at: Some(at(20)), last_none_began_at: Some(at(20)) };
    assert!(matches!(next(&profile(), &doubt, 30), Action::Wait(_)));
    let anew = RetryPolicy { reviewed_since: at(29), ..policy() };
    assert_eq!(next_action(&profile(), &anew, &doubt, now(30), NO_JITTER), Action::Ask);
}
