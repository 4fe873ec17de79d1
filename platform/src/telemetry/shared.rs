//! Metrics of parts that several processes have.

use super::metric::{FLAG, Group, SECONDS, counter, gauge, histogram};

/// Of every process with a database and an event log.
pub static EVERY_PROCESS: Group = Group {
    title: "Every process",
    metrics: &[
        counter(
            "bus_dropped_total",
            "events",
            &["reason"],
            "Committed events that were not put on the bus; consumers take them from the feed.",
        ),
        counter("bus_late_total", "events", &[], "Events whose place on the bus was taken already."),
        counter("bus_published_total", "events", &[], "Events put on the bus."),
        counter(
            "bus_stream_removed_total",
            "streams",
            &[],
            "Bus streams removed because they carried what the log does not have.",
        ),
        counter("bus_stream_suspected_total", "streams", &[], "Bus streams that looked ahead of the log and were not."),
        gauge("bus_up", FLAG, &[], "1 while Redis takes what this process publishes."),
        counter("feed_events_served_total", "events", &[], "Events that consumers took from the feed of this process."),
        counter("feed_refused_total", "requests", &["status"], "Requests for the feed that were refused."),
        counter(
            "http_connections_refused_total",
            "connections",
            &[],
            "Connections closed at once because their address has too many.",
        ),
        histogram("invariant_check_duration_seconds", SECONDS, &[], "Time that a round of invariant checks took."),
        counter("invariant_check_failures_total", "rounds", &[], "Rounds of invariant checks that could not be made."),
        gauge(
            "invariant_violations",
            "subjects",
            &["invariant", "check"],
            "Subjects found in breach of an invariant and not found in order since.",
        ),
    ],
};

/// Of processes that consume events of others and share partitions by leases.
pub static CONSUMERS: Group = Group {
    title: "Event consumers and leases",
    metrics: &[
        gauge(
            "consumer_applied_seq",
            "events",
            &["consumer", "producer", "partition"],
            "Number of the last event that took effect.",
        ),
        counter(
            "consumer_events_applied_total",
            "events",
            &["consumer", "producer", "source"],
            "Events that took effect, by where they were read.",
        ),
        counter(
            "consumer_feed_empty_total",
            "reads",
            &["consumer", "producer"],
            "Reads of the feed that found nothing although more was announced.",
        ),
        counter("consumer_feed_errors_total", "reads", &["consumer", "producer"], "Reads of the feed that failed."),
        counter("consumer_feed_reads_total", "reads", &["producer", "reason"], "Reads of the feed, by their reason."),
        gauge(
            "consumer_head_seq",
            "events",
            &["consumer", "producer", "partition"],
            "Number of the newest event that is known to exist.",
        ),
        gauge(
            "consumer_lag_events",
            "events",
            &["consumer", "producer"],
            "Events of the partitions of this copy that exist and have not taken effect.",
        ),
        gauge(
            "consumer_mode",
            FLAG,
            &["consumer", "producer"],
            "1 while the consumer polls the feed instead of reading the bus.",
        ),
        counter(
            "consumer_moved_total",
            "slices",
            &["consumer", "producer"],
            "Slices that another copy had applied already.",
        ),
        counter("consumer_panics_total", "slices", &["consumer", "producer"], "Slices over which our code panicked."),
        counter(
            "consumer_sink_errors_total",
            "slices",
            &["consumer", "producer"],
            "Slices that could not be applied and are offered again.",
        ),
        gauge(
            "consumer_stopped_partitions",
            "partitions",
            &["consumer", "producer"],
            "Partitions that stand still because the producer has another history than was applied.",
        ),
        gauge("lease_copies", "copies", &[], "Copies of this process that live, as the leases show."),
        counter("lease_errors_total", "rounds", &[], "Rounds of lease keeping that failed."),
        gauge("lease_partitions", "partitions", &[], "Partitions, or the one stream, whose lease this copy holds."),
        counter("lease_taken_total", "leases", &[], "Leases taken over by this copy."),
        counter("lease_given_up_total", "leases", &[], "Leases left to copies that can work, because this one cannot."),
    ],
};

/// Of processes that lock accounts.
pub static LOCKS: Group = Group {
    title: "Account locks",
    metrics: &[
        counter("account_lock_acquired_total", "locks", &[], "Account locks taken."),
        gauge("account_lock_breaker_open", FLAG, &[], "1 while Redis is not asked for locks."),
        counter("account_lock_busy_total", "locks", &[], "Account locks that another copy held."),
        counter(
            "account_lock_expired_while_held_total",
            "locks",
            &[],
            "Account locks whose lease ended while they were held.",
        ),
        counter(
            "account_lock_leftover_dropped_total",
            "locks",
            &[],
            "Locks left to their lease because too many waited to be given back.",
        ),
        counter(
            "account_lock_partial_acquire_released_total",
            "locks",
            &[],
            "Locks given back that a call had taken before it failed half-way.",
        ),
        counter("account_lock_release_failed_total", "locks", &[], "Releases without an answer."),
        counter(
            "account_lock_release_refused_total",
            "locks",
            &[],
            "Releases refused because another holds the lock by now.",
        ),
        counter("account_lock_released_total", "locks", &[], "Account locks given back."),
        counter("account_lock_unavailable_total", "locks", &[], "Account locks that could not be asked for."),
    ],
};
