//! Carrying calls out under a fault.

use contracts::alpaca::{Side, codes};
use rust_decimal::Decimal;
use std::sync::Arc;

use super::Exchange;
use crate::broker::fault::{Call, FaultKind, FaultSpec, Query, Stage};
use crate::broker::journal::Record;
use crate::broker::order::Terms;
use crate::broker::reply::{Delivery, Reply};

impl Exchange {
    /// Writes down that a fault struck.
    pub(in crate::broker) fn strike(&mut self, spec: &FaultSpec, key: &str) {
        let strike = self.faults.strike(spec, key);
        if self.journal.is_kept() {
            self.journal.record(&Record::Strike(strike));
        }
    }

    /// Writes down that a fault of an order's terms struck.
    pub(super) fn strike_order(&mut self, index: usize, kind: FaultKind) {
        let Some(terms) = self.orders.get(index).map(|order| Arc::clone(&order.terms)) else { return };
        if let Some(spec) = terms.fault(kind) {
            self.strike(&spec, terms.key());
        }
    }

    fn drew(&mut self, specs: &[FaultSpec]) {
        if self.journal.is_kept() {
            for spec in specs {
                self.journal.record(&Record::Drawn { fault: spec.kind, rule: spec.rule });
            }
        }
    }

    pub(super) fn draw_request(&mut self, query: &Query<'_>) -> Option<FaultSpec> {
        let drawn = self.faults.draw_request(&self.config, query);
        self.drew(drawn.as_slice());
        drawn
    }

    pub(in crate::broker) fn draw_all(&mut self, query: &Query<'_>, stage: Stage) -> Vec<FaultSpec> {
        let drawn = self.faults.draw_all(&self.config, query, stage);
        self.drew(&drawn);
        drawn
    }

    /// What a call about an order says about itself.
    pub(super) fn query<'a>(&self, terms: &'a Terms, call: Call, attempt: u64) -> Query<'a> {
        Query {
            call,
            key: terms.key(),
            symbol: &terms.symbol,
            side: &terms.side,
            qty: terms.qty,
            attempt,
            at: self.clock,
        }
    }

    /// The request fault of a call about an order that is known, or of one about nothing.
    pub(super) fn draw_call(&mut self, account: usize, key: &str, call: Call) -> Option<FaultSpec> {
        let attempt = self.count_call(account, key, call);
        let order = self.order_of_key(account, key);
        let terms = order.and_then(|order| self.orders.get(order)).map(|order| Arc::clone(&order.terms));
        let query = match &terms {
            Some(terms) => Query { key, ..self.query(terms, call, attempt) },
            None => Query { call, key, symbol: "", side: &Side::Buy, qty: Decimal::ZERO, attempt, at: self.clock },
        };
        self.draw_request(&query)
    }

    /// Carries out a call under a request fault.
    pub(super) fn under_fault(
        &mut self,
        fault: Option<FaultSpec>,
        key: &str,
        effect: impl FnOnce(&mut Self) -> Reply,
    ) -> Reply {
        let Some(fault) = fault else { return effect(self) };
        self.strike(&fault, key);
        match fault.kind {
            FaultKind::DropReply => effect(self).delivered(Delivery::HangUp),
            FaultKind::ErrorBeforeEffect => server_error(fault),
            FaultKind::ErrorAfterEffect => {
                effect(self);
                server_error(fault)
            }
            FaultKind::SlowReply => effect(self).delivered(Delivery::SendAfter(fault.delay_ms)),
            FaultKind::RateLimited => too_many_requests(),
            FaultKind::Maintenance => under_maintenance(),
            FaultKind::Unauthorized => Reply::error(401, codes::UNAUTHORIZED, "the key or token is not taken"),
            FaultKind::Reject => Reply::error(403, codes::FORBIDDEN, "insufficient buying power"),
            FaultKind::Nonsense | FaultKind::Html | FaultKind::HalfBody | FaultKind::NeverAnswer => {
                let reply = if fault.effect { effect(self) } else { server_error(fault) };
                garbled(reply, fault, self.config.never_answer_ms)
            }
            // The rest either closes the connection before anything is done, or never gets here.
            _ => Reply::hang_up(),
        }
    }
}

fn server_error(fault: FaultSpec) -> Reply {
    let status = match fault.delay_ms % 4 {
        0 => 500,
        1 => 502,
        2 => 503,
        _ => 504,
    };
    Reply::error(status, codes::INTERNAL, "internal server error occurred")
}

/// 429.
#[must_use]
pub(in crate::broker) fn too_many_requests() -> Reply {
    Reply::error(429, codes::RATE_LIMITED, "too many requests")
}

/// 503, without a word about what was done, as brokers do it at night.
#[must_use]
pub(in crate::broker) fn under_maintenance() -> Reply {
    Reply::error(503, codes::UNAVAILABLE, "the broker is under maintenance")
}

fn garbled(reply: Reply, fault: FaultSpec, never_answer_ms: u64) -> Reply {
    match fault.kind {
        FaultKind::Html => reply.delivered(Delivery::Html),
        FaultKind::HalfBody => reply.delivered(Delivery::HalfBody),
        FaultKind::NeverAnswer => reply.delivered(Delivery::NeverAnswer(never_answer_ms)),
        _ => {
            let body: &[u8] = match fault.delay_ms % 3 {
                0 => br#"{"ok":true}"#,
                1 => b"[]",
                _ => br#"{"id":7,"status":["new"]"#,
            };
            Reply { status: 200, body: body.to_vec(), delivery: Delivery::Send }
        }
    }
}
