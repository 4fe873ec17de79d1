//! The retry protocol beside every kind of broker, and the designs that must not pass.

use broker_gateway::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use models::check::{exhaust, refute};
use models::retry::{Design, Profiles, Retry};

fn check(name: &str, model: Retry) {
    let bounds = format!(
        "{} ticks, {} attempts, {} deaths{}",
        model.horizon,
        model.attempts_max,
        model.deaths_max,
        if model.with_cancel { ", cancel" } else { "" }
    );
    let reached = exhaust(model);
    println!("retry, {name} ({bounds}): {reached}");
    assert!(reached.refuted.is_empty(), "{:#?}", reached.refuted);
    assert!(reached.never_seen.is_empty(), "never reached: {:?}", reached.never_seen);
}

fn holds(name: &str, profile: &Profile) {
    for model in Retry::quick(profile) {
        check(name, model);
    }
}

fn is_refuted(model: Retry, property: &str) {
    let design = model.design;
    let reached = refute(model);
    let (broken, steps) = reached.refuted.first().expect("the checker must find a counterexample");
    println!("retry, {design:?} is refuted ({reached}): {broken}\n{steps}");
    assert_eq!(*broken, property);
}

fn nothing_stated() -> Profile {
    Profile {
        longest_flight: None,
        valid_until: ValidUntil::Honoured { record_lag_max: None },
        key_enforcement: KeyEnforcement::Window(time::Duration::seconds(8)),
        ..Profiles::full()
    }
}

const ONE_ORDER: &str = "one order of ours is at most one order at the broker";
const TRUE_END: &str = "what is called gone is not there, nor ever will be";

#[test]
fn a_broker_that_enforces_keys_and_can_be_asked() {
    holds("full", &Profiles::full());
}

#[test]
fn a_broker_that_enforces_keys_for_a_window() {
    holds("windowed", &Profiles::windowed(8));
}

#[test]
fn a_broker_that_only_finds_by_key() {
    holds("lookup only", &Profiles::lookup_only());
}

#[test]
fn a_blind_broker() {
    check("blind", Retry::of(Profiles::blind()));
}

#[test]
fn a_broker_that_enforces_keys_and_cannot_be_asked() {
    holds("keys without lookup", &Profile { key_looked_up: false, ..Profiles::full() });
}

#[test]
fn a_broker_that_promises_nothing_about_time() {
    holds("nothing stated", &nothing_stated());
}

#[test]
#[ignore = "minutes, and gigabytes of memory: `make models`"]
fn every_broker_within_wide_bounds() {
    let profiles = [("windowed", Profiles::windowed(8)), ("lookup only", Profiles::lookup_only())];
    for (name, profile) in profiles {
        check(name, Retry::of(profile));
    }
}

#[test]
fn not_found_twice_is_no_proof() {
    is_refuted(Retry::of(Profiles::full()).by(Design::NotFoundTwiceMeansFailed), TRUE_END);
}

#[test]
fn silence_is_no_proof() {
    is_refuted(Retry::of(Profiles::full()).by(Design::SilenceMeansFailed), TRUE_END);
}

#[test]
fn a_refusal_of_the_second_attempt_says_nothing_about_the_first() {
    is_refuted(Retry::of(Profiles::full()).by(Design::RefusalOfTheLastAttemptIsFinal), TRUE_END);
}

#[test]
fn a_ladder_longer_than_the_window_makes_a_second_order() {
    is_refuted(Retry::of(Profiles::windowed(8)).by(Design::LadderBeyondTheWindow), ONE_ORDER);
}

#[test]
fn a_window_tested_without_the_flight_makes_a_second_order() {
    is_refuted(Retry::of(Profiles::windowed(8)).by(Design::WindowWithoutTheFlight), ONE_ORDER);
}

#[test]
fn a_window_tested_when_the_resend_is_planned_makes_a_second_order() {
    is_refuted(Retry::of(Profiles::windowed(8)).by(Design::WindowTestedWhenPlanned), ONE_ORDER);
}

#[test]
fn a_resend_to_a_broker_that_does_not_enforce_keys_makes_a_second_order() {
    is_refuted(Retry::of(Profiles::lookup_only()).by(Design::LadderBeyondTheWindow), ONE_ORDER);
}

#[test]
fn a_key_for_each_attempt_makes_a_second_order() {
    is_refuted(Retry::of(Profiles::full()).by(Design::NewKeyForEachAttempt), ONE_ORDER);
}
