//! One trace an order, over all processes, sent to an OpenTelemetry collector where one is
//! configured.
//!
//! The trace id of an order *is* its id. So every process finds the trace from the event in its hand,
//! days later and after any crash, and nothing has to be stored or carried for it. A client's own
//! trace is linked to the order's, since one request of a client may place many orders.
//!
//! Where no collector is configured a step costs one look at a static.

mod export;

pub use export::{ExportError, end, start};

use crate::config::{Checks, ConfigError, Secret};
use contracts::OrderId;
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// Where traces go.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// URL to which OTLP is posted as protobuf; empty for none.
    pub otlp_endpoint: String,
    /// Value of the `Authorization` header there; empty for none.
    pub otlp_authorization: Secret,
    /// Longest wait for the collector's answer.
    pub otlp_timeout_ms: u64,
    /// One order in so many is traced.
    pub trace_one_in: u32,
    /// Most steps that wait to be sent; beyond it they are dropped.
    pub queue_len_max: usize,
    /// Most steps of one message.
    pub batch_len_max: usize,
    /// Time between two messages.
    pub interval_ms: u64,
}

impl TelemetryConfig {
    /// Checks the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] naming the fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut checks = Checks::default();
        if !self.otlp_endpoint.is_empty() {
            checks.server_url("telemetry.otlp_endpoint", &self.otlp_endpoint);
        }
        checks.positive(&[
            ("telemetry.otlp_timeout_ms", self.otlp_timeout_ms),
            ("telemetry.trace_one_in", u64::from(self.trace_one_in)),
            ("telemetry.batch_len_max", self.batch_len_max as u64),
            ("telemetry.interval_ms", self.interval_ms),
        ]);
        checks.require(
            self.queue_len_max >= self.batch_len_max,
            "telemetry.queue_len_max must not be below telemetry.batch_len_max",
        );
        checks.require(self.queue_len_max <= 1 << 20, "telemetry.queue_len_max must be at most 1048576");
        checks.finish()
    }
}

fn trace_of(order: OrderId) -> TraceId {
    TraceId::from_bytes(order.as_uuid().into_bytes())
}

/// The first step of every order, to which all others are children.
fn root_of(order: OrderId) -> SpanId {
    let (_, low) = order.as_uuid().as_u64_pair();
    // Never zero, which would be no id.
    SpanId::from_bytes(low.max(1).to_be_bytes())
}

fn is_chosen(order: OrderId, one_in: u32) -> bool {
    let (_, low) = order.as_uuid().as_u64_pair();
    one_in > 0 && low % u64::from(one_in) == 0
}

fn header(order: OrderId, span: SpanId, is_sampled: bool) -> String {
    format!("00-{}-{span}-{:02x}", trace_of(order), u8::from(is_sampled))
}

/// The W3C `traceparent` of an order's events: its trace, under its first step.
#[must_use]
pub fn traceparent_of(order: OrderId) -> String {
    let is_sampled = export::tracer().is_some_and(|tracer| is_chosen(order, tracer.one_in));
    header(order, root_of(order), is_sampled)
}

/// Reads a client's `traceparent`. What is not valid by W3C is ignored.
fn client_context(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_ok = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    if !is_ok || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// A step of an order that is under way. It ends when dropped.
#[derive(Debug)]
pub struct Step {
    order: OrderId,
    name: &'static str,
    span: SpanId,
    parent: SpanId,
    kind: SpanKind,
    began: SystemTime,
    attributes: Vec<KeyValue>,
    links: SpanLinks,
}

impl Step {
    fn of(order: OrderId, name: &'static str, span: SpanId, parent: SpanId, kind: SpanKind) -> Self {
        let attributes = vec![KeyValue::new("order_id", order.as_uuid().to_string())];
        Self { order, name, span, parent, kind, began: SystemTime::now(), attributes, links: SpanLinks::default() }
    }

    /// Adds what is known about it.
    pub fn note(&mut self, name: &'static str, value: impl ToString) {
        self.attributes.push(KeyValue::new(name, value.to_string()));
    }

    /// The `traceparent` for a call that belongs to it.
    #[must_use]
    pub fn traceparent(&self) -> String {
        header(self.order, self.span, true)
    }

    fn data(&mut self) -> SpanData {
        let (trace, flags) = (trace_of(self.order), TraceFlags::SAMPLED);
        SpanData {
            span_context: SpanContext::new(trace, self.span, flags, false, TraceState::default()),
            parent_span_id: self.parent,
            parent_span_is_remote: self.parent != SpanId::INVALID,
            span_kind: self.kind.clone(),
            name: self.name.into(),
            start_time: self.began,
            end_time: SystemTime::now(),
            attributes: std::mem::take(&mut self.attributes),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: std::mem::take(&mut self.links),
            status: Status::Unset,
            instrumentation_scope: InstrumentationScope::builder("order-router").build(),
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(tracer) = export::tracer() {
            let data = self.data();
            tracer.take(data);
        }
    }
}

/// Begins the first step of an order; `client` is the `traceparent` that its client sent. None where
/// nothing is recorded.
#[must_use]
pub fn root(name: &'static str, order: OrderId, client: Option<&str>) -> Option<Step> {
    let tracer = export::tracer()?;
    if !is_chosen(order, tracer.one_in) {
        return None;
    }
    let mut step = Step::of(order, name, root_of(order), SpanId::INVALID, SpanKind::Server);
    if let Some(context) = client.and_then(client_context) {
        step.note("client_trace_id", context.trace_id());
        step.links.links.push(Link::new(context, Vec::new(), 0));
    }
    Some(step)
}

/// Begins a later step of an order, in any process. None where nothing is recorded.
#[must_use]
pub fn step(name: &'static str, order: OrderId, kind: SpanKind) -> Option<Step> {
    let tracer = export::tracer()?;
    if !is_chosen(order, tracer.one_in) {
        return None;
    }
    let span = SpanId::from_bytes(rand::random::<u64>().max(1).to_be_bytes());
    Some(Step::of(order, name, span, root_of(order), kind))
}

/// A later step inside a process.
#[must_use]
pub fn inner(name: &'static str, order: OrderId) -> Option<Step> {
    step(name, order, SpanKind::Internal)
}

/// A later step that waits for another system.
#[must_use]
pub fn call(name: &'static str, order: OrderId) -> Option<Step> {
    step(name, order, SpanKind::Client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn order(low: u64) -> OrderId {
        OrderId::new(Uuid::from_u64_pair(0x0197_0000_0000_7000, low))
    }

    #[test]
    fn every_process_finds_the_same_trace_from_the_order_alone() {
        let order = OrderId::new(Uuid::from_u128(0x0197_1111_2222_7333_8444_5555_6666_7777));
        assert_eq!(header(order, root_of(order), true), "00-01971111222273338444555566667777-8444555566667777-01");
        assert_eq!(traceparent_of(order), header(order, root_of(order), false));
        assert!(inner("x", order).is_none() && root("x", order, None).is_none());
    }

    #[test]
    fn one_order_in_so_many_is_chosen_and_the_same_one_everywhere() {
        let chosen = |one_in| (0..1_000).filter(|low| is_chosen(order(*low), one_in)).count();
        assert_eq!([chosen(1), chosen(10), chosen(0)], [1_000, 100, 0]);
    }

    #[test]
    fn a_client_s_traceparent_is_read_by_w3c_and_anything_else_is_ignored() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(client_context(good).unwrap().trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(client_context(&good.replace("00-", "cc-")).is_some());
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replace("00-4", "ff-4"),
            &format!("{good}-00"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473ä-00f067aa0ba902b7-01",
        ] {
            assert!(client_context(bad).is_none(), "{bad}");
        }
    }
}
