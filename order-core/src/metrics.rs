//! The metrics of the order server; `docs/METRICS.md` says what to do when one is off.

use platform::telemetry::metric::{FLAG, Group, SECONDS, counter, gauge, histogram};
use platform::telemetry::shared::{CONSUMERS, EVERY_PROCESS, LOCKS};

/// All that it has.
pub static ALL: [&Group; 4] = [&EVERY_PROCESS, &CONSUMERS, &LOCKS, &OWN];

/// What only the order server has.
pub static OWN: Group = Group {
    title: "order-server",
    metrics: &[
        counter(
            "account_lock_went_on_without_total",
            "accounts",
            &["reason"],
            "Accounts, or commands of a busy account, decided under the version check alone.",
        ),
        counter(
            "account_versions_lost_total",
            "commands",
            &[],
            "Commands decided again because their account had changed meanwhile.",
        ),
        counter("api_rate_limited_total", "requests", &[], "Requests refused with 429."),
        histogram(
            "api_request_duration_seconds",
            SECONDS,
            &["method", "route"],
            "Time from the head of a request to the head of its answer.",
        ),
        counter("api_requests_total", "requests", &["method", "route", "status"], "Requests answered."),
        counter("command_batches_total", "batches", &[], "Batches of commands that were decided."),
        counter(
            "commands_batched_total",
            "commands",
            &[],
            "Commands in those batches; one that is tried again counts again.",
        ),
        counter("commands_not_taken_total", "commands", &["reason"], "Commands answered as proven not taken (503)."),
        counter(
            "commands_unknown_total",
            "commands",
            &[],
            "Commands whose outcome could not be told to their client (500).",
        ),
        gauge("database_up", FLAG, &[], "1 while the database answers."),
        counter(
            "executions_contradicted_total",
            "executions",
            &[],
            "Executions that came again with other figures; the first stays.",
        ),
        counter("fact_panics_total", "transactions", &[], "Transactions of events over which our code panicked."),
        counter(
            "fact_transactions_total",
            "transactions",
            &[],
            "Transactions in which replies and broker events took effect.",
        ),
        counter("facts_applied_total", "events", &[], "Replies and broker events that took effect."),
        counter("facts_deferred_total", "events", &["reason"], "Events set aside until what they need is there."),
        gauge("orders", "orders", &["status"], "Orders by status."),
        counter("orders_overfilled_total", "orders", &[], "Broker events after which more was filled than ordered."),
        counter("orders_reopened_total", "orders", &[], "Ended orders that the broker showed alive again."),
        counter("orphans_kept_total", "events", &[], "Broker events kept because their order cannot be told yet."),
        gauge("reference_assets", "assets", &[], "Assets known from the gateway."),
        counter("reference_polls_total", "polls", &["outcome"], "Looks at the gateway's reference data."),
        gauge("reference_skipped", "assets", &[], "Rows of the last look that could not be read."),
        counter(
            "stream_closed_total",
            "streams",
            &["transport", "reason"],
            "Update streams that were ended, by the reason.",
        ),
        gauge("stream_connections", "streams", &["transport"], "Update streams that are open."),
        histogram(
            "stream_delay_seconds",
            SECONDS,
            &["transport"],
            "Time from an update's commit until it was handed to a live stream's socket.",
        ),
        counter("key_watch_failures_total", "looks", &[], "Looks whether any API key has changed that failed."),
        counter("stream_poll_failures_total", "polls", &[], "Looks for new updates or ended keys that failed."),
        counter("stream_updates_sent_total", "updates", &["transport"], "Updates handed to sockets."),
    ],
};
