//! A cancel against fills, ends and replies, in every order.

use models::check::{exhaust, refute};
use models::race::Race;

#[test]
fn a_cancel_never_ends_an_order_that_the_broker_has_not_ended() {
    let reached = exhaust(Race::new(false));
    println!("cancel races fill (2 shares, 2 cancels): {reached}");
    assert!(reached.refuted.is_empty(), "{:#?}", reached.refuted);
    assert!(reached.never_seen.is_empty(), "never reached: {:?}", reached.never_seen);
}

#[test]
fn an_answer_to_a_cancel_is_no_end_of_the_order() {
    let reached = refute(Race::new(true));
    let (broken, steps) = reached.refuted.first().expect("the checker must find a counterexample");
    let steps: String = steps.lines().filter(|line| !line.contains("=>")).map(|line| format!("{line}\n")).collect();
    println!("an answer taken for the end is refuted ({reached}): {broken}\n{steps}");
}
