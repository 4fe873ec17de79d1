use contracts::alpaca::Side;
use rust_decimal::Decimal;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::broker::config::{Probability, SimConfig};

const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn query(key: &str, attempt: u64) -> Query<'_> {
    Query { call: Call::Submit, key, symbol: "AAPL", side: &Side::Buy, qty: Decimal::ONE, attempt, at: START }
}

fn rule(key: Option<&str>, selector: Option<Selector>, kind: FaultKind, times: Option<u32>) -> FaultRule {
    let rule = FaultRule::once("", Call::Submit, FaultSpec::new(kind, 10, true));
    FaultRule { client_order_id: key.map(str::to_owned), selector, times, ..rule }
}

#[test]
fn words_are_those_of_serde() {
    for kind in FaultKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}

#[test]
fn fault_by_key_strikes_as_often_as_asked_and_no_other_order() {
    let (mut book, config) = (FaultBook::default(), SimConfig::new(1));
    book.add(rule(Some("a"), None, FaultKind::DropReply, Some(2)), START).unwrap();
    assert_eq!(book.draw_request(&config, &query("b", 1)), None);
    let first = book.draw_request(&config, &query("a", 1)).unwrap();
    assert_eq!((first.rule, first.attempt), (Some(1), 1));
    assert!(book.draw_request(&config, &query("a", 2)).is_some());
    assert_eq!(book.draw_request(&config, &query("a", 3)), None);
    assert!(book.pending(START, 10).is_empty());
}

#[test]
fn fault_by_match_strikes_first_attempts_of_fitting_orders() {
    let (mut book, config) = (FaultBook::default(), SimConfig::new(1));
    let other = Selector { symbol: Some("KO".to_owned()), ..Selector::default() };
    book.add(rule(None, Some(other), FaultKind::Reject, Some(1)), START).unwrap();
    book.add(rule(None, Some(Selector::default()), FaultKind::DropReply, Some(1)), START).unwrap();
    assert_eq!(book.draw_request(&config, &query("a", 2)), None);
    assert_eq!(book.draw_request(&config, &query("b", 1)).unwrap().kind, FaultKind::DropReply);
    assert_eq!(book.draw_request(&config, &query("c", 1)), None);
}

#[test]
fn a_rule_with_a_span_strikes_every_attempt_in_it_and_none_outside() {
    let (mut book, config) = (FaultBook::default(), SimConfig::new(1));
    let second = |n| START + Duration::seconds(n);
    let spanned = FaultRule {
        from: Some(second(10)),
        until: Some(second(25)),
        ..rule(None, Some(Selector::default()), FaultKind::DropReply, None)
    };
    spanned.check().unwrap();
    book.add(spanned, START).unwrap();
    let mut strikes = |at, attempt| {
        let query = Query { at: second(at), ..query("a", attempt) };
        book.draw_request(&config, &query).is_some()
    };
    assert_eq!([9, 10, 24, 25].map(|at| strikes(at, 7)), [false, true, true, false]);
    assert_eq!(book.pending(second(24), 10).len(), 1);
    assert!(book.pending(second(25), 10).is_empty());
    let tally = book.rules(0, 10).first().unwrap().tally;
    assert_eq!(tally, Tally { armed: 2, hits: 0 }, "drawn, and not yet carried out");
}

#[test]
fn rules_that_never_strike_or_never_end_are_refused() {
    let all = || Some(Selector::default());
    let cases = [
        (rule(None, None, FaultKind::Reject, Some(1)), RuleError::Target),
        (rule(Some("a"), all(), FaultKind::Reject, Some(1)), RuleError::Target),
        (rule(Some("a"), None, FaultKind::StreamReset, Some(1)), RuleError::Misplaced),
        (rule(Some("a"), None, FaultKind::Reject, Some(0)), RuleError::Never),
        (rule(None, all(), FaultKind::Reject, None), RuleError::Endless),
        (
            FaultRule { from: Some(START), until: Some(START), ..rule(None, all(), FaultKind::Reject, None) },
            RuleError::EmptySpan,
        ),
    ];
    for (rule, why) in cases {
        assert_eq!(rule.check(), Err(why), "{rule:?}");
    }
}

/// The three ways in which a fault is asked for, for every kind there is.
#[test]
fn every_kind_can_be_named_drawn_and_spanned() {
    let probability = Probability::from_millionths(Probability::CERTAIN);
    for kind in FaultKind::ALL {
        let call = kind.stage().call();
        let strikes = |book: &mut FaultBook, config: &SimConfig| {
            let query = Query { call, ..query("k", 1) };
            match kind.stage() {
                Stage::Request => book.draw_request(config, &query).map(|spec| spec.kind),
                stage => book.draw_all(config, &query, stage).first().map(|spec| spec.kind),
            }
        };
        let base = FaultRule::once("k", call, FaultSpec::new(*kind, 1, true));
        let spanned = FaultRule {
            client_order_id: None,
            selector: Some(Selector::default()),
            times: None,
            until: Some(START + Duration::SECOND),
            ..base.clone()
        };
        for asked in [base, spanned] {
            asked.check().unwrap();
            let mut book = FaultBook::default();
            book.add(asked, START).unwrap();
            assert_eq!(strikes(&mut book, &SimConfig::new(1)), Some(*kind), "{kind:?}");
        }
        let table = json!({call.as_str(): {kind.as_str(): "1"}});
        let config = SimConfig::new(1).merged(table).unwrap();
        assert_eq!(config.table(call).get(kind), Some(&probability));
        assert_eq!(strikes(&mut FaultBook::default(), &config), Some(*kind), "{kind:?}");
    }
}

#[test]
fn drawn_faults_depend_on_seed_key_and_attempt_only() {
    let config = SimConfig::new(9)
        .merged(json!({"submit": {"drop_reply": 0.3, "slow_reply": 0.3, "duplicate_fill": 0.5}}))
        .unwrap();
    let story = |order: &[usize]| {
        let mut book = FaultBook::default();
        let mut told: Vec<_> = order
            .iter()
            .map(|n| {
                let key = format!("k{n}");
                let request = book.draw_request(&config, &query(&key, 1));
                let later = book.draw_all(&config, &query(&key, 1), Stage::Execution);
                (*n, request, later)
            })
            .collect();
        told.sort_by_key(|(n, ..)| *n);
        told
    };
    let forward: Vec<usize> = (0..200).collect();
    let backward: Vec<usize> = (0..200).rev().collect();
    let told = story(&forward);
    assert_eq!(told, story(&backward));
    let hits = told.iter().filter(|(_, request, _)| request.is_some()).count();
    assert!((80..160).contains(&hits), "{hits}");
}

#[test]
fn every_kind_is_in_the_document() {
    let document = include_str!("../../../../docs/BROKER-SIM.md");
    for kind in FaultKind::ALL {
        assert!(document.contains(&format!("| `{}` |", kind.as_str())), "{kind:?}");
    }
}
