//! Orders of events that the database may bring about.

use super::*;
use crate::application::change::CallTrace;
use crate::config::Settings;
use crate::domain::attempt::AttemptEnd;
use crate::domain::history::Asked;
use crate::domain::live::Owed;
use crate::domain::order::SeenOrder;
use crate::domain::order::tests::{seen, terms};
use crate::domain::outcome::{CancelOutcome, CreateOutcome, LookupOutcome, Refusal};
use contracts::event::Payload;
use contracts::{AccountId, BrokerId, OrderId, Partition};
use platform::config::Configuration;
use uuid::Uuid;

fn rules() -> Rules {
    Settings::defaults().unwrap().rules().unwrap()
}

fn at(seconds: i64) -> Now {
    Now { at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds), is_trusted: true }
}

fn request(state: State) -> Request {
    Request {
        order_id: OrderId::new(Uuid::from_u128(1)),
        account_id: AccountId::new(Uuid::from_u128(2)),
        partition: Partition::new(2).unwrap(),
        broker: BrokerId::new("sim").unwrap(),
        terms: terms(),
        traceparent: None,
        version: 1,
        state,
        due: None,
        attempts: 1,
        valid_until: Some(at(1800).at),
        asked: Asked::default(),
        broker_order_id: None,
        broker_status: None,
        contradiction: None,
        cancel: Owed::default(),
        observe: Owed::default(),
    }
}

fn attempt(end: Option<AttemptEnd>) -> Attempt {
    Attempt {
        number: 1,
        claimed_at: at(0).at,
        give_up_at: at(7).at,
        end: end.map(|end| (end, at(7).at)),
        bytes_hash: [0; 32],
    }
}

fn kinds(change: &Change) -> Vec<&'static str> {
    change.events.iter().map(Payload::kind).collect()
}

fn accepted() -> CreateOutcome {
    CreateOutcome::Accepted(Box::new(seen()))
}

#[test]
fn a_late_reply_to_an_attempt_that_was_given_up_still_counts() {
    let rules = rules();
    let given_up = (request(State::Doubt), vec![attempt(Some(AttemptEnd::Unknown))]);
    let mut case = Case::new(&rules, given_up.clone(), at(9), Jitter(0));
    let refusal = Refusal { code: 40_310_000, message: "no".to_owned() };
    case.attempt_ended(1, &CreateOutcome::Rejected(refusal), CallTrace::default());
    let change = case.settled();
    assert_eq!(kinds(&change), ["gateway.refused"], "the only attempt was refused after all");
    let mut case = Case::new(&rules, given_up, at(9), Jitter(0));
    case.attempt_ended(1, &accepted(), CallTrace::default());
    assert_eq!(kinds(&case.settled()), ["gateway.acknowledged"]);
}

#[test]
fn an_attempt_that_expires_and_gets_its_late_reply_in_one_change_tells_of_no_doubt() {
    let rules = rules();
    let open = (request(State::Sending), vec![attempt(None)]);
    let mut case = Case::new(&rules, open, at(60), Jitter(0));
    case.attempt_ended(1, &accepted(), CallTrace::default());
    let change = case.settled();
    assert_eq!(kinds(&change), ["gateway.acknowledged"]);
    assert!(change.expired_attempts.is_empty());
}

#[test]
fn recording_the_same_end_twice_changes_the_request_once() {
    let rules = rules();
    let open = (request(State::Sending), vec![attempt(None)]);
    let mut case = Case::new(&rules, open, at(3), Jitter(0));
    case.attempt_ended(1, &accepted(), CallTrace::default());
    let first = case.settled();
    let mut case = Case::new(&rules, (first.request, Vec::new()), at(4), Jitter(0));
    case.attempt_ended(1, &accepted(), CallTrace::default());
    let second = case.settled();
    assert!(!second.is_of_request());
    assert!(second.events.is_empty() && second.alarms.is_empty());
}

#[test]
fn evidence_before_the_reply_is_told_once_and_an_unknown_reply_after_it_is_no_doubt() {
    let rules = rules();
    let open = (request(State::Sending), vec![attempt(None)]);
    let mut case = Case::new(&rules, open, at(2), Jitter(0));
    case.alive(seen().observed(), EvidenceSource::Stream);
    let alive = case.settled();
    assert_eq!((kinds(&alive), alive.request.due), (vec!["gateway.acknowledged"], None));
    for outcome in [accepted(), CreateOutcome::Unknown { reason: "reset".to_owned() }, CreateOutcome::Duplicate] {
        let mut case = Case::new(&rules, (alive.request.clone(), Vec::new()), at(3), Jitter(0));
        case.attempt_ended(1, &outcome, CallTrace::default());
        assert!(case.settled().events.is_empty(), "{outcome:?}");
    }
}

#[test]
fn a_reply_that_is_already_at_its_end_carries_status_and_cumulative_quantity() {
    let rules = rules();
    let open = (request(State::Sending), vec![attempt(None)]);
    let filled = SeenOrder {
        status: "filled".to_owned(),
        is_terminal: true,
        cumulative_quantity: terms().quantity().value(),
        ..seen()
    };
    let mut case = Case::new(&rules, open, at(2), Jitter(0));
    case.attempt_ended(1, &CreateOutcome::Accepted(Box::new(filled.clone())), CallTrace::default());
    let change = case.settled();
    let [GatewayEvent::Acknowledged { observed, .. }] = change.events.as_slice() else { panic!("{change:?}") };
    assert_eq!(*observed, filled.observed());
    assert_eq!(change.request.state, State::Closed);
}

#[test]
fn a_cancel_whose_order_ended_meanwhile_tells_nothing() {
    let rules = rules();
    let mut live = request(State::Live);
    live.broker_order_id = Some(seen().broker_order_id);
    live.cancel = Owed { requested: 1, answered: 0, tries: 0 };
    let mut case = Case::new(&rules, (live, Vec::new()), at(2), Jitter(0));
    case.close();
    let refusal = Refusal { code: 42_210_000, message: "order is filled".to_owned() };
    case.cancel_ended(at(1).at, &CancelOutcome::Refused(refusal), CallTrace::default());
    let change = case.settled();
    assert!(change.events.is_empty(), "{change:?}");
    assert_eq!((change.request.state, change.request.due), (State::Closed, None));
}

#[test]
fn an_observation_that_shows_another_order_is_an_alarm_and_is_not_told_as_ours() {
    let rules = rules();
    let mut live = request(State::Live);
    live.broker_order_id = Some(seen().broker_order_id);
    live.observe = Owed { requested: 1, answered: 0, tries: 0 };
    let told = |seen: SeenOrder| {
        let mut case = Case::new(&rules, (live.clone(), Vec::new()), at(2), Jitter(0));
        case.observation_ended(at(1).at, &LookupOutcome::Found(Box::new(seen)), CallTrace::default());
        case.settled()
    };
    assert_eq!(kinds(&told(seen())), ["gateway.observed"]);
    let other_terms = told(SeenOrder { side: "sell".to_owned(), ..seen() });
    let other_order = told(SeenOrder { broker_order_id: BrokerOrderId::new("b-other").unwrap(), ..seen() });
    for change in [other_terms, other_order] {
        assert!(change.events.is_empty(), "{change:?}");
        assert_eq!(change.alarms.len(), 1, "{change:?}");
    }
}

#[test]
fn a_further_attempt_is_due_as_a_doubt_and_only_what_is_new_as_new() {
    let rules = rules();
    // Past the ladder's first step, with a "none" from after it: it is to be sent again.
    let lost = (request(State::Doubt), vec![attempt(Some(AttemptEnd::Unknown))]);
    let mut case = Case::new(&rules, lost, at(70), Jitter(0));
    case.ask_ended(at(69).at, &LookupOutcome::None, CallTrace::default());
    let change = case.settled();
    assert_eq!(change.request.due, Some(Due { at: at(70).at, rank: Rank::Question }));
    let mut again = Case::new(&rules, (change.request, vec![attempt(Some(AttemptEnd::Unknown))]), at(70), Jitter(0));
    assert_eq!(again.take_up(), Some(Task::Send));
    let unsent = (request(State::Queued), vec![attempt(Some(AttemptEnd::NotSent))]);
    let change = Case::new(&rules, unsent, at(70), Jitter(0)).settled();
    assert_eq!(change.request.due, Some(Due { at: at(70).at, rank: Rank::Send }));
}

#[test]
fn a_further_attempt_with_other_bytes_is_left_to_persons() {
    let rules = rules();
    for (end, is_sent) in [(AttemptEnd::Unknown, false), (AttemptEnd::NotSent, true)] {
        let earlier = (request(State::Doubt), vec![attempt(Some(end))]);
        let mut same = Case::new(&rules, earlier.clone(), at(70), Jitter(0));
        assert_eq!(same.claim_send([0; 32]).map(|attempt| attempt.number), Some(2));
        let mut other = Case::new(&rules, earlier, at(70), Jitter(0));
        assert_eq!(other.claim_send([1; 32]).is_some(), is_sent, "only what may have arrived binds the next");
        let change = other.claimed();
        assert_eq!((change.new_attempt.is_some(), change.request.state == State::Manual), (is_sent, !is_sent));
    }
}
