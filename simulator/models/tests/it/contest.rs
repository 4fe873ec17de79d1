//! Two copies and one account: what the version stops, and what locks and tokens do not.

use models::check::{Reached, exhaust, refute};
use models::contest::{Contest, Told, Unlock};
use models::memory::{Guard, Op};
use models::tasks::{Faults, Happens};
use stateright::Model;

const NONE: Faults = Faults { most: 0, unconfirmed_commits: false, leases: false, lock_server: false, deaths: false };
const EVERY: Faults = Faults { most: 2, unconfirmed_commits: true, leases: true, lock_server: true, deaths: true };
const LEASES: Faults = Faults { most: 1, leases: true, ..NONE };

fn holds(name: &str, model: Contest) -> Reached {
    let faults = model.faults.most;
    let reached = exhaust(model);
    println!("lock and version, {name} (2 copies, {faults} faults): {reached}");
    assert!(reached.refuted.is_empty(), "{:#?}", reached.refuted);
    assert!(reached.never_seen.is_empty(), "never reached: {:?}", reached.never_seen);
    reached
}

fn is_refuted(name: &str, model: Contest) {
    let reached = refute(model);
    let (broken, steps) = reached.refuted.first().expect("the checker must find a counterexample");
    let steps: String = steps.lines().filter(|line| !line.contains("=>")).map(|line| format!("{line}\n")).collect();
    println!("lock and version, {name} is refuted ({reached}): {broken}\n{steps}");
}

#[test]
fn the_version_guards_whatever_becomes_of_the_lock() {
    holds("version", Contest::new(Guard::Version, Unlock::AfterCommit, EVERY));
    let once = Faults { most: 1, ..EVERY };
    holds("version, impatient", Contest::new(Guard::Version, Unlock::AfterCommit, once).impatient());
}

#[test]
fn the_version_guards_also_when_locks_are_given_back_too_early() {
    holds("version, early unlock", Contest::new(Guard::Version, Unlock::BeforeCommit, LEASES));
}

#[test]
fn the_account_lock_is_given_back_only_after_the_commit() {
    let model = Contest::new(Guard::Version, Unlock::AfterCommit, NONE);
    let mut state = model.init_states().remove(0);
    let mut calls = Vec::new();
    while let Some(call) = state.tasks[0].pending.as_deref().map(Op::as_str) {
        calls.push(call);
        state = model.next_state(&state, Happens::Call(0, call)).expect("nobody else is there to wait for");
        assert!(calls.len() < 20, "one order is one batch: {calls:?}");
    }
    assert_eq!(state.tasks[0].ended, Some(Told::Accepted));
    let place = |call| calls.iter().position(|done| *done == call);
    assert!(place("acquire") < place("commit") && place("commit") < place("release"), "{calls:?}");
    assert_eq!(calls.last(), Some(&"release"), "nothing of the account is written or read without its lock");
}

#[test]
fn a_lock_that_never_fails_would_do() {
    holds("lock alone, nothing fails", Contest::new(Guard::LockAlone, Unlock::AfterCommit, NONE));
}

#[test]
fn a_lock_alone_spends_twice_when_its_lease_ends() {
    is_refuted("lock alone", Contest::new(Guard::LockAlone, Unlock::AfterCommit, LEASES));
}

#[test]
fn a_token_that_is_checked_only_at_the_write_spends_twice() {
    is_refuted("token at the write", Contest::new(Guard::TokenAtWrite, Unlock::AfterCommit, LEASES));
}

#[test]
fn a_lock_that_is_given_back_before_the_commit_spends_twice() {
    is_refuted("unlock before commit", Contest::new(Guard::LockAlone, Unlock::BeforeCommit, NONE));
}
