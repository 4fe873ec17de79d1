//! The metrics of the simulated broker, and counting its requests.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use platform::telemetry::metric::{Group, SECONDS, counter, gauge, histogram};

/// All that it has.
pub static OWN: Group = Group {
    title: "broker-sim",
    metrics: &[
        counter("sim_events_total", "events", &[], "Events of the simulated broker since its state began."),
        counter("sim_faults_total", "faults", &["fault"], "Faults that struck."),
        counter("sim_push_attempts_total", "pushes", &["result"], "Pushes sent, by how they ended."),
        histogram(
            "sim_request_duration_seconds",
            SECONDS,
            &["route"],
            "Time from the head of a request to the head of its answer.",
        ),
        counter("sim_requests_total", "requests", &["route", "status"], "Requests answered, or hung up on as a fault."),
        gauge("sim_streams_open", "streams", &[], "Event streams that are open."),
    ],
};

/// Counts a request and its time, by the pattern of its route.
pub(super) async fn observe(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("sim_requests_total", "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("sim_request_duration_seconds", "route" => route).record(started.elapsed());
    response
}
