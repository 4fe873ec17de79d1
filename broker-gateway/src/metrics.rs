//! The metrics of the broker gateway; `docs/METRICS.md` says what to do when one is off.

use platform::telemetry::metric::{Group, SECONDS, counter, gauge, histogram};
use platform::telemetry::shared::{CONSUMERS, EVERY_PROCESS};

/// All that it has.
pub static ALL: [&Group; 3] = [&EVERY_PROCESS, &CONSUMERS, &OWN];

/// What only the broker gateway has.
pub static OWN: Group = Group {
    title: "broker-gateway",
    metrics: &[
        counter("gateway_alarms_total", "alarms", &["alarm"], "Things that must never happen at the broker."),
        histogram(
            "gateway_call_duration_seconds",
            SECONDS,
            &["call", "outcome"],
            "Calls to the broker, with how they ended.",
        ),
        gauge("gateway_calls_in_flight", "calls", &[], "Calls to the broker under way."),
        histogram("gateway_claim_duration_seconds", SECONDS, &[], "Time of the transaction that claims due requests."),
        histogram("gateway_claim_requests", "requests", &[], "Requests in a claim."),
        counter(
            "gateway_clock_disagreements_total",
            "claims",
            &[],
            "Claims at which the database's clock and ours differed too much.",
        ),
        gauge("gateway_deferred_events", "events", &[], "Events set aside."),
        counter("gateway_deferred_events_total", "events", &["producer", "reason"], "Events that were set aside."),
        gauge("gateway_due_age_seconds", SECONDS, &[], "For how long the oldest due request has been due."),
        gauge("gateway_due_requests", "requests", &[], "Requests that are due."),
        gauge("gateway_in_doubt_age_seconds", SECONDS, &[], "For how long the oldest request in doubt has been."),
        gauge("gateway_in_doubt_requests", "requests", &[], "Requests whose outcome is not known."),
        counter("gateway_intake_events_total", "events", &["producer"], "Events that took effect at the gateway."),
        counter("gateway_intake_panics_total", "events", &[], "Events over which our code panicked."),
        gauge(
            "gateway_lane_call_interval_seconds",
            SECONDS,
            &[],
            "Shortest mean time between two calls of all copies: one by the rate of the lane.",
        ),
        gauge("gateway_lane_copies", "copies", &[], "Copies of the gateway that share the rate."),
        gauge(
            "gateway_lane_pause_seconds",
            SECONDS,
            &[],
            "Length of the pause that the broker's last bad answer began.",
        ),
        gauge(
            "gateway_manual_age_seconds",
            SECONDS,
            &[],
            "For how long the oldest request in the hands of persons has been.",
        ),
        gauge("gateway_manual_requests", "requests", &[], "Requests in the hands of persons."),
        histogram("gateway_record_calls", "calls", &[], "Ended calls recorded in one transaction."),
        histogram("gateway_record_duration_seconds", SECONDS, &[], "Time of the transaction that records ended calls."),
        counter(
            "gateway_redriven_events_total",
            "events",
            &["producer"],
            "Set-aside events that took effect after all.",
        ),
        counter(
            "gateway_reference_failures_total",
            "reads",
            &["what"],
            "Reads of the broker's assets or prices that failed.",
        ),
        counter(
            "gateway_send_grace_exceeded_total",
            "calls",
            &[],
            "Claimed calls that were not made because they came too late to the socket.",
        ),
        counter("gateway_store_errors_total", "transactions", &["operation"], "Claims or records that failed."),
        counter(
            "gateway_straight_calls_total",
            "calls",
            &[],
            "Calls of new orders that were claimed with their intake.",
        ),
        counter("gateway_unrecorded_calls_total", "calls", &[], "Ends of calls that could never be recorded."),
        gauge(
            "gateway_unreviewed_requests",
            "requests",
            &[],
            "Requests in doubt that no lookup has answered yet; their accounts send nothing new.",
        ),
    ],
};
