//! The metrics of the fill receiver; `docs/METRICS.md` says what to do when one is off.

use platform::telemetry::metric::{BYTES, FLAG, Group, SECONDS, counter, gauge, histogram};
use platform::telemetry::shared::EVERY_PROCESS;

/// All that it has.
pub static ALL: [&Group; 2] = [&EVERY_PROCESS, &OWN];

/// What only the fill receiver has.
pub static OWN: Group = Group {
    title: "fill-receiver",
    metrics: &[
        gauge(
            "fill_receiver_audit_behind_seconds",
            SECONDS,
            &[],
            "Age of the newest moment up to which the stream was read a second time.",
        ),
        counter("fill_receiver_audits_total", "audits", &["result"], "Second readings of a stretch of the stream."),
        histogram("fill_receiver_batch_events", "events", &[], "Events stored in one transaction."),
        counter("fill_receiver_bytes_total", BYTES, &[], "Bytes read from the stream."),
        counter("fill_receiver_connect_failures_total", "connections", &[], "Connections to the stream that failed."),
        gauge("fill_receiver_database_up", FLAG, &[], "1 while the database answers."),
        counter("fill_receiver_dropped_messages_total", "messages", &[], "Messages that the broker said it dropped."),
        counter("fill_receiver_events_total", "events", &["result"], "Events, by what became of them."),
        counter(
            "fill_receiver_fallen_orders_total",
            "orders",
            &[],
            "Orders of which less is filled than was told before.",
        ),
        counter("fill_receiver_found_by_audit_total", "events", &[], "Events that only the second reading brought."),
        counter("fill_receiver_frames_total", "frames", &[], "Frames of the stream that were stored or known."),
        gauge("fill_receiver_parked_open", "frames", &[], "Frames that could not be read and wait for a person."),
        counter("fill_receiver_polls_total", "polls", &["result"], "Readings of the broker's orders."),
        histogram("fill_receiver_push_duration_seconds", SECONDS, &[], "Time from a push's last byte to its answer."),
        counter("fill_receiver_pushes_total", "pushes", &["result"], "Pushes, by what became of them."),
        counter(
            "fill_receiver_reconnects_total",
            "connections",
            &["reason"],
            "Connections that were left, by the reason.",
        ),
        histogram("fill_receiver_store_duration_seconds", SECONDS, &[], "Time of the transaction that stores events."),
        counter("fill_receiver_store_errors_total", "transactions", &[], "Transactions that failed."),
        gauge("fill_receiver_stream_connected", FLAG, &[], "1 while this copy reads the stream."),
        gauge(
            "fill_receiver_suspects_open",
            "orders",
            &[],
            "Broker orders that contradict ours and wait for a person.",
        ),
        gauge(
            "fill_receiver_unproven_open",
            "ranges",
            &[],
            "Stretches of the stream that the broker will not replay and nobody has closed.",
        ),
        counter("fill_receiver_unproven_ranges_total", "ranges", &[], "Such stretches that were found."),
        counter("fill_receiver_unreadable_orders_total", "orders", &[], "Orders in polls that could not be read."),
    ],
};
