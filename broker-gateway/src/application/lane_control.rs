//! The rate and pause of a lane.

use crate::domain::lane::{Grant, Lane};
use crate::domain::outcome::LaneSignal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The rate and pause of a lane, shared with the operator port.
#[derive(Debug, Clone)]
pub struct LaneControl {
    lane: Arc<Mutex<Lane>>,
    started: Instant,
}

impl LaneControl {
    /// Control of a new lane.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        show_rate(lane.rate_per_s());
        Self { lane: Arc::new(Mutex::new(lane)), started: Instant::now() }
    }

    /// Leave to start up to `wanted` calls now, or when to ask again.
    pub(super) fn take(&self, wanted: u32) -> Grant {
        self.lock().take(self.started.elapsed(), wanted)
    }

    /// Calls that were granted and not made.
    pub(super) fn give_back(&self, calls: u32) {
        self.lock().give_back(calls);
    }

    fn lock(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rate of all copies together from now on, in this one.
    pub fn set_rate(&self, rate_per_s: u32) {
        self.lock().set_rate(self.started.elapsed(), rate_per_s);
        show_rate(rate_per_s);
        tracing::info!(rate_per_s, "lane rate changed");
    }

    /// Shares the rate among this many copies of the gateway from now on.
    pub fn share(&self, copies: u32) {
        let mut lane = self.lock();
        lane.share(self.started.elapsed(), copies);
        metrics::gauge!("gateway_lane_copies").set(f64::from(lane.lanes()));
    }

    /// Starts no call for a while.
    pub fn hold(&self, pause: Duration) {
        self.lock().hold(self.started.elapsed(), pause);
    }

    /// How many copies of the gateway share the rate.
    #[must_use]
    pub fn copies(&self) -> u32 {
        self.lock().lanes()
    }

    /// Calls a second, of all copies together.
    #[must_use]
    pub fn rate_per_s(&self) -> u32 {
        self.lock().rate_per_s()
    }

    /// For how long nothing may start.
    #[must_use]
    pub fn paused_for(&self) -> Duration {
        self.lock().paused_for(self.started.elapsed())
    }

    pub(super) fn observe(&self, signal: LaneSignal) {
        let mut lane = self.lock();
        lane.observe(self.started.elapsed(), signal);
        if !matches!(signal, LaneSignal::Reached | LaneSignal::Silent) {
            let paused = lane.paused_for(self.started.elapsed());
            metrics::gauge!("gateway_lane_pause_seconds").set(paused.as_secs_f64());
        }
    }
}

/// Shown as the time between two calls, so that with the calls made it gives the lane's use. Without a
/// rate it is without an end.
fn show_rate(rate_per_s: u32) {
    let interval = Duration::from_secs(1).checked_div(rate_per_s).map_or(f64::INFINITY, |time| time.as_secs_f64());
    metrics::gauge!("gateway_lane_call_interval_seconds").set(interval);
}
