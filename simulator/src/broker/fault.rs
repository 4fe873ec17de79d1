//! What can go wrong, and when it was asked to.

use std::collections::{BTreeMap, HashMap};

use contracts::alpaca::Side;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use super::config::SimConfig;
use super::dice::Dice;

/// Most faults that can wait for their order.
const PENDING_MAX: usize = 100_000;
/// Most of them that are not bound to one client order id: they are tried one by one.
const PENDING_MATCHES_MAX: usize = 1_000;

/// Which call of a client a fault is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Call {
    /// A new order.
    #[default]
    Submit,
    /// A cancel.
    Cancel,
    /// A lookup by client order id or by order id.
    Lookup,
}

impl Call {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Lookup => "lookup",
        }
    }
}

/// Where in the life of an order a kind of fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The request or its reply; at most one a request.
    Request,
    /// What becomes of an accepted order; any number an order.
    Execution,
    /// What a cancel does.
    Cancel,
    /// The event stream.
    Stream,
    /// A push.
    Push,
}

macro_rules! fault_kinds {
    ($($(#[$meta:meta])* $variant:ident = $word:literal, $stage:ident;)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum FaultKind {
            $($(#[$meta])* $variant,)+
        }

        impl FaultKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its word in configuration and tallies.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Where it strikes.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)+ }
            }
        }
    };
}

fault_kinds! {
    /// The connection closes; nothing was received.
    DropBeforeReceipt = "drop_before_receipt", Request;
    /// Done, but the connection closes instead of a reply.
    DropReply = "drop_reply", Request;
    /// The connection closes; the order is taken and its key used, but it can only be seen, and
    /// only trades, some time later.
    RecordLate = "record_late", Request;
    /// The connection closes; the request arrives, and is processed, some time later.
    ArriveLate = "arrive_late", Request;
    /// A 5xx, and nothing was done.
    ErrorBeforeEffect = "error_before_effect", Request;
    /// A 5xx, although it was done.
    ErrorAfterEffect = "error_after_effect", Request;
    /// Done at once, answered late.
    SlowReply = "slow_reply", Request;
    /// A 429, and nothing was done.
    RateLimited = "rate_limited", Request;
    /// A 200 whose JSON means nothing.
    Nonsense = "nonsense", Request;
    /// A 502 page of HTML.
    Html = "html", Request;
    /// The reply breaks off in the middle.
    HalfBody = "half_body", Request;
    /// No reply, until the client gives up.
    NeverAnswer = "never_answer", Request;
    /// A 403: the broker does not want the order.
    Reject = "reject", Request;
    /// An execution is sent a second time, under a new event id.
    DuplicateFill = "duplicate_fill", Execution;
    /// The order is filled, and the events are out, before the reply is.
    FillBeforeAck = "fill_before_ack", Execution;
    /// Two executions of equal quantity, price and time.
    IdenticalPartials = "identical_partials", Execution;
    /// An event of the order comes after the one that followed it.
    ReorderEvents = "reorder_events", Execution;
    /// Accepted, and rejected a while later.
    RejectLate = "reject_late", Execution;
    /// An order that is not ours appears beside it.
    ForeignOrder = "foreign_order", Execution;
    /// A fill never reaches live streams; only a replay shows it.
    LostEvent = "lost_event", Execution;
    /// The cancel is accepted, then a fill comes, then the cancel takes effect.
    FillAfterCancel = "fill_after_cancel", Cancel;
    /// The cancel is refused although the order is open.
    CancelRefused = "cancel_refused", Cancel;
    /// All streams break off.
    StreamReset = "stream_reset", Stream;
    /// A push is sent again after its acknowledgement.
    PushDuplicate = "push_duplicate", Push;
    /// A push is sent by somebody who does not know the secret, before the broker sends it.
    PushForged = "push_forged", Push;
    /// The broker hangs up before the acknowledgement, and sends the push again.
    PushLostAck = "push_lost_ack", Push;
    /// A push is sent late.
    PushDelayed = "push_delayed", Push;
    /// The events of a push come in reverse order.
    PushReordered = "push_reordered", Push;
}

impl FaultKind {
    /// Whether it makes sense for new orders only.
    #[must_use]
    pub const fn only_on_submit(self) -> bool {
        matches!(self, Self::RecordLate | Self::ArriveLate | Self::Reject)
    }
}

/// One fault with its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultSpec {
    /// What goes wrong.
    pub kind: FaultKind,
    /// How long it takes, where it takes time, in milliseconds.
    pub delay_ms: u64,
    /// Whether the request is carried out, for kinds that leave it open.
    pub effect: bool,
}

/// Which requests a pending fault waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Orders of this symbol only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<String>,
    /// Orders of this side only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Orders of exactly this quantity only.
    #[serde(default, with = "rust_decimal::serde::str_option", skip_serializing_if = "Option::is_none")]
    pub qty: Option<Decimal>,
    /// Also later attempts of an order, not just its first.
    #[serde(default)]
    pub every_attempt: bool,
}

/// A fault that waits for its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PendingFault {
    /// Its number.
    pub id: u64,
    /// The one order that it is for; otherwise `match` says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<String>,
    /// Which orders it is for.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Which call of theirs.
    pub on: Call,
    /// What goes wrong.
    pub fault: FaultSpec,
    /// How many more times.
    pub times: u32,
}

/// What is known of a request when its faults are drawn.
#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) call: Call,
    pub(super) key: &'a str,
    pub(super) symbol: &'a str,
    pub(super) side: &'a Side,
    pub(super) qty: Decimal,
    /// 1 for the first call of its kind with this key.
    pub(super) attempt: u64,
}

/// There are too many faults waiting already.
#[derive(Debug, thiserror::Error)]
#[error("too many pending faults")]
pub struct TooManyFaults;

/// Pending faults, and the tally of those that struck.
#[derive(Debug, Default)]
pub(super) struct FaultBook {
    next_id: u64,
    by_key: HashMap<String, Vec<PendingFault>>,
    by_key_len: usize,
    matches: Vec<PendingFault>,
    hits: BTreeMap<FaultKind, u64>,
}

impl FaultBook {
    /// Adds a pending fault and answers its number.
    pub(super) fn add(&mut self, mut fault: PendingFault) -> Result<u64, TooManyFaults> {
        self.next_id += 1;
        fault.id = self.next_id;
        match &fault.client_order_id {
            Some(key) if self.by_key_len < PENDING_MAX => {
                self.by_key_len += 1;
                self.by_key.entry(key.clone()).or_default().push(fault);
            }
            None if self.matches.len() < PENDING_MATCHES_MAX => self.matches.push(fault),
            _ => return Err(TooManyFaults),
        }
        Ok(self.next_id)
    }

    pub(super) fn clear_pending(&mut self) {
        self.by_key.clear();
        self.by_key_len = 0;
        self.matches.clear();
    }

    pub(super) fn count(&mut self, kind: FaultKind) {
        *self.hits.entry(kind).or_default() += 1;
        metrics::counter!("sim_faults_total", "fault" => kind.as_str()).increment(1);
    }

    pub(super) fn hits(&self) -> &BTreeMap<FaultKind, u64> {
        &self.hits
    }

    /// Some of the pending faults, oldest first.
    pub(super) fn pending(&self, limit: usize) -> Vec<PendingFault> {
        let mut pending: Vec<_> = self.by_key.values().flatten().chain(&self.matches).take(limit).cloned().collect();
        pending.sort_by_key(|fault| fault.id);
        pending
    }

    /// The one request fault that strikes this call, if any: one asked for, else one drawn.
    pub(super) fn draw_request(&mut self, config: &SimConfig, query: &Query<'_>) -> Option<FaultSpec> {
        if let Some(spec) = self.take(query, |kind| kind.stage() == Stage::Request) {
            return Some(spec);
        }
        let table = config.table(query.call);
        if table.is_empty() {
            return None;
        }
        let mut dice = Dice::new(config.seed, query.call.as_str(), query.key, query.attempt);
        let draw = dice.millionth();
        let mut upper = 0;
        for (kind, probability) in table.iter().filter(|(kind, _)| kind.stage() == Stage::Request) {
            upper += probability.millionths();
            if draw < upper {
                return Some(drawn(*kind, config, &mut dice));
            }
        }
        None
    }

    /// All faults of a stage that strike, each drawn on its own.
    pub(super) fn draw_all(&mut self, config: &SimConfig, query: &Query<'_>, stage: Stage) -> Vec<FaultSpec> {
        let mut specs: Vec<FaultSpec> = Vec::new();
        if self.by_key_len > 0 || !self.matches.is_empty() {
            for kind in FaultKind::ALL.iter().filter(|kind| kind.stage() == stage) {
                specs.extend(self.take(query, |other| other == *kind));
            }
        }
        let table = config.table(query.call);
        if !table.is_empty() {
            let mut dice = Dice::new(config.seed, "behaviour", query.key, query.attempt);
            for (kind, probability) in table.iter().filter(|(kind, _)| kind.stage() == stage) {
                let hit = dice.hits(*probability);
                let spec = drawn(*kind, config, &mut dice);
                if hit {
                    specs.push(spec);
                }
            }
        }
        specs.sort_by_key(|spec| spec.kind);
        specs.dedup_by_key(|spec| spec.kind);
        specs
    }

    /// Takes the oldest pending fault of such a kind that this call is the one for.
    fn take(&mut self, query: &Query<'_>, wanted: impl Fn(FaultKind) -> bool) -> Option<FaultSpec> {
        if self.by_key_len > 0
            && let Some(list) = self.by_key.get_mut(query.key)
            && let Some((spec, emptied)) = take_from(list, query, &wanted)
        {
            if emptied {
                self.by_key_len -= 1;
            }
            if list.is_empty() {
                self.by_key.remove(query.key);
            }
            return Some(spec);
        }
        take_from(&mut self.matches, query, &wanted).map(|(spec, _)| spec)
    }
}

fn drawn(kind: FaultKind, config: &SimConfig, dice: &mut Dice) -> FaultSpec {
    let delay_ms = dice.between(config.fault_delay_min_ms, config.fault_delay_max_ms);
    FaultSpec { kind, delay_ms, effect: dice.coin() }
}

/// The first fault in a list that fits, and whether that was its last time.
fn take_from(
    list: &mut Vec<PendingFault>,
    query: &Query<'_>,
    wanted: impl Fn(FaultKind) -> bool,
) -> Option<(FaultSpec, bool)> {
    let index = list.iter().position(|fault| wanted(fault.fault.kind) && fits(fault, query))?;
    let fault = list.get_mut(index)?;
    let spec = fault.fault;
    fault.times = fault.times.saturating_sub(1);
    let emptied = fault.times == 0;
    if emptied {
        list.remove(index);
    }
    Some((spec, emptied))
}

fn fits(fault: &PendingFault, query: &Query<'_>) -> bool {
    let Some(selector) = &fault.selector else { return fault.on == query.call };
    fault.on == query.call
        && (selector.every_attempt || query.attempt == 1)
        && selector.symbol.as_deref().is_none_or(|symbol| symbol == query.symbol)
        && selector.side.as_ref().is_none_or(|side| side == query.side)
        && selector.qty.is_none_or(|qty| qty == query.qty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn query(key: &str, attempt: u64) -> Query<'_> {
        Query { call: Call::Submit, key, symbol: "AAPL", side: &Side::Buy, qty: Decimal::ONE, attempt }
    }

    fn pending(key: Option<&str>, selector: Option<Selector>, kind: FaultKind, times: u32) -> PendingFault {
        let fault = FaultSpec { kind, delay_ms: 10, effect: true };
        PendingFault { id: 0, client_order_id: key.map(str::to_owned), selector, on: Call::Submit, fault, times }
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
        book.add(pending(Some("a"), None, FaultKind::DropReply, 2)).unwrap();
        assert_eq!(book.draw_request(&config, &query("b", 1)), None);
        assert!(book.draw_request(&config, &query("a", 1)).is_some());
        assert!(book.draw_request(&config, &query("a", 2)).is_some());
        assert_eq!(book.draw_request(&config, &query("a", 3)), None);
        assert!(book.pending(10).is_empty());
    }

    #[test]
    fn fault_by_match_strikes_first_attempts_of_fitting_orders() {
        let (mut book, config) = (FaultBook::default(), SimConfig::new(1));
        let other = Selector { symbol: Some("KO".to_owned()), ..Selector::default() };
        book.add(pending(None, Some(other), FaultKind::Reject, 1)).unwrap();
        book.add(pending(None, Some(Selector::default()), FaultKind::DropReply, 1)).unwrap();
        assert_eq!(book.draw_request(&config, &query("a", 2)), None);
        assert_eq!(book.draw_request(&config, &query("b", 1)).unwrap().kind, FaultKind::DropReply);
        assert_eq!(book.draw_request(&config, &query("c", 1)), None);
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
}
