//! Asking for faults, and what became of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use contracts::alpaca::codes;
use serde::Deserialize;
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::operator::{answer, read};
use super::{error, invalid};
use crate::broker::config::Probability;
use crate::broker::exchange::Exchange;
use crate::broker::fault::{Call, FaultKind, FaultRule, FaultSpec, Selector};
use crate::broker::shared::Shared;

/// Pending faults that are shown.
const PENDING_SHOWN_MAX: usize = 1_000;
/// Longest delay of a fault, in milliseconds.
const DELAY_MAX_MS: u64 = 600_000;
/// Longest time from now to a rule's span, in milliseconds.
const SPAN_MAX_MS: u64 = 86_400_000;
/// Rows of a page, unless asked for otherwise, and at most.
const PAGE_DEFAULT: usize = 1_000;
const PAGE_MAX: usize = 10_000;

/// How often each kind was to strike and did, and some of the rules that still wait.
pub(super) async fn faults(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, |exchange| {
        let tallies = exchange.fault_tallies();
        let hits: BTreeMap<_, _> = tallies.iter().map(|(kind, tally)| (*kind, tally.hits)).collect();
        let armed: BTreeMap<_, _> = tallies.iter().map(|(kind, tally)| (*kind, tally.armed)).collect();
        let pending = exchange.pending_faults(PENDING_SHOWN_MAX);
        axum::Json(json!({"armed": armed, "hits": hits, "pending": pending})).into_response()
    })
}

/// Body of `POST /sim/v1/faults`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    client_order_id: Option<String>,
    #[serde(rename = "match")]
    selector: Option<SelectorRequest>,
    fault: FaultKind,
    on: Option<Call>,
    delay_ms: Option<u64>,
    effect: Option<bool>,
    times: Option<u32>,
    probability: Option<Probability>,
    /// From now, in milliseconds.
    from_ms: Option<u64>,
    /// From now, in milliseconds.
    until_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum SelectorRequest {
    Word(String),
    Terms(Selector),
}

impl FaultRequest {
    fn rule(self, now: OffsetDateTime, delay_default_ms: u64) -> Result<FaultRule, String> {
        let spans = self.from_ms.is_some() || self.until_ms.is_some();
        let selector = match self.selector {
            None if self.client_order_id.is_none() && (spans || self.probability.is_some()) => {
                Some(Selector::default())
            }
            None => None,
            Some(SelectorRequest::Terms(selector)) => Some(selector),
            Some(SelectorRequest::Word(word)) if word == "all" => Some(Selector::default()),
            Some(SelectorRequest::Word(_)) => return Err("match is \"all\" or an object".to_owned()),
        };
        let delay_ms = self.delay_ms.unwrap_or(delay_default_ms);
        if delay_ms > DELAY_MAX_MS {
            return Err(format!("delay_ms must be at most {DELAY_MAX_MS}"));
        }
        if self.from_ms.into_iter().chain(self.until_ms).any(|ms| ms > SPAN_MAX_MS) {
            return Err(format!("from_ms and until_ms must be at most {SPAN_MAX_MS}"));
        }
        let bounded = self.until_ms.is_some() || self.probability.is_some();
        let moment = |ms: u64| now.saturating_add(Duration::milliseconds(i64::try_from(ms).unwrap_or(i64::MAX)));
        let rule = FaultRule {
            id: 0,
            client_order_id: self.client_order_id,
            selector,
            on: self.on.unwrap_or(self.fault.stage().call()),
            fault: FaultSpec::new(self.fault, delay_ms, self.effect.unwrap_or(true)),
            times: self.times.or((!bounded).then_some(1)),
            probability: self.probability.unwrap_or(Probability::from_millionths(Probability::CERTAIN)),
            from: self.from_ms.map(moment),
            until: self.until_ms.map(moment),
        };
        rule.check().map_err(|error| error.to_string())?;
        Ok(rule)
    }
}

pub(super) async fn add_fault(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    let request: FaultRequest = match read(&body) {
        Ok(request) => request,
        Err(message) => return invalid(message),
    };
    answer(&shared, |exchange| match request.rule(exchange.now(), exchange.config().fault_delay_max_ms) {
        Ok(rule) => match exchange.add_fault(rule) {
            Ok(id) => (StatusCode::CREATED, axum::Json(json!({"id": id}))).into_response(),
            Err(full) => error(StatusCode::SERVICE_UNAVAILABLE, codes::UNAVAILABLE, full.to_string()),
        },
        Err(message) => invalid(message),
    })
}

pub(super) async fn clear_faults(State(shared): State<Arc<Shared>>) -> Response {
    answer(&shared, |exchange| {
        exchange.clear_faults();
        StatusCode::NO_CONTENT.into_response()
    })
}

/// `GET /sim/v1/oracle/faults`: each kind and each rule, how often it was to strike and how often it did.
pub(super) async fn oracle_faults(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (after, limit) = match page(&query) {
        Ok(page) => page,
        Err(name) => return invalid(format!("invalid {name}")),
    };
    answer(&shared, |exchange: &mut Exchange| {
        let rules = exchange.fault_rules(after.unwrap_or_default(), limit);
        let next_after = rules.last().filter(|_| rules.len() == limit).map(|rule| rule.id);
        let kinds = exchange.fault_tallies();
        axum::Json(json!({"kinds": kinds, "rules": rules, "next_after": next_after})).into_response()
    })
}

/// `GET /sim/v1/oracle/strikes`: which attempt of which order each fault struck.
pub(super) async fn oracle_strikes(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let (after, limit) = match page(&query) {
        Ok(page) => page,
        Err(name) => return invalid(format!("invalid {name}")),
    };
    answer(&shared, |exchange| {
        let (start, strikes) = exchange.strikes(after.map_or(0, |after| after.saturating_add(1)), limit);
        let next_after = (strikes.len() == limit).then(|| start + strikes.len() as u64 - 1);
        axum::Json(json!({"strikes": strikes, "next_after": next_after})).into_response()
    })
}

fn page(query: &HashMap<String, String>) -> Result<(Option<u64>, usize), &'static str> {
    let number = |name: &'static str| query.get(name).map(|text| text.parse::<u64>().map_err(|_| name)).transpose();
    let limit = number("limit")?.and_then(|limit| usize::try_from(limit).ok());
    Ok((number("after")?, limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)))
}
