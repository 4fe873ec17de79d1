//! Two consumers of one log, and what becomes of events when one takes over from the other.

use models::check::{exhaust, refute};
use models::memory::Positions;
use models::takeover::Takeover;
use models::tasks::Faults;

const NONE: Faults = Faults { most: 0, unconfirmed_commits: false, leases: false, lock_server: false, deaths: false };
const DEATH: Faults = Faults { most: 1, unconfirmed_commits: true, deaths: true, ..NONE };

fn holds(name: &str, faults: Faults, copies: usize, with_cancel: bool) {
    let reached = exhaust(Takeover::new(Positions::WithTheEffect, faults, copies, with_cancel));
    println!("takeover, {name} (3 events): {reached}");
    assert!(reached.refuted.is_empty(), "{:#?}", reached.refuted);
    assert!(reached.never_seen.is_empty(), "never reached: {:?}", reached.never_seen);
}

fn is_refuted(name: &str, positions: Positions, property: &str) {
    let reached = refute(Takeover::new(positions, DEATH, 2, false));
    let (broken, steps) = reached.refuted.first().expect("the checker must find a counterexample");
    let steps: String = steps.lines().filter(|line| !line.contains("=>")).map(|line| format!("{line}\n")).collect();
    println!("takeover, {name} is refuted ({reached}): {broken}\n{steps}");
    assert_eq!(*broken, property);
}

#[test]
fn every_event_takes_effect_once_and_in_order_whoever_dies() {
    holds("2 copies, 1 death or unconfirmed commit", DEATH, 2, false);
}

#[test]
fn a_cancel_in_between_delays_events_and_loses_none() {
    holds("1 copy and a cancel, 1 death or unconfirmed commit", DEATH, 1, true);
}

#[test]
fn a_position_that_moves_before_the_effect_loses_events() {
    is_refuted("position first", Positions::BeforeTheEffect, "what is passed has its effect, or waits");
}

#[test]
fn a_position_that_moves_from_anywhere_applies_events_twice() {
    is_refuted("position from anywhere", Positions::FromAnywhere, "an event takes effect once");
}

#[test]
#[ignore = "minutes: `make models`"]
fn two_copies_and_a_cancel() {
    holds("2 copies and a cancel, nothing fails", NONE, 2, true);
}
