//! What the gateway says about itself.

use crate::adapters::db::Gauges;
use crate::application::lane_control::LaneControl;
use platform::consumer::ConsumerStatus;
use platform::http::Health;
use platform::invariants::Invariants;
use platform::lease::Leases;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Health of the gateway: its consumers, its lane, what waits.
#[derive(Debug, Clone)]
pub struct GatewayHealth {
    consumers: Vec<ConsumerStatus>,
    lane: LaneControl,
    leases: Leases,
    invariants: Invariants,
    gauges: Arc<Mutex<Option<Gauges>>>,
}

impl GatewayHealth {
    /// Health over these parts.
    #[must_use]
    pub fn new(consumers: Vec<ConsumerStatus>, lane: LaneControl, leases: Leases, invariants: Invariants) -> Self {
        Self { consumers, lane, leases, invariants, gauges: Arc::default() }
    }

    /// Takes the newest figures; none when the database did not answer.
    pub fn set_gauges(&self, gauges: Option<Gauges>) {
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner) = gauges;
    }

    fn gauges(&self) -> Option<Gauges> {
        *self.gauges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health for GatewayHealth {
    fn ready(&self) -> Result<(), String> {
        if self.gauges().is_none() {
            return Err("the database does not answer".to_owned());
        }
        for consumer in &self.consumers {
            let snapshot = consumer.snapshot();
            if !snapshot.started {
                return Err(format!("the log of {} has not been read yet", snapshot.producer));
            }
            if snapshot.is_stopped() {
                return Err(format!("the log of {} is not of the history that was applied", snapshot.producer));
            }
        }
        Ok(())
    }

    fn report(&self) -> Value {
        let consumers: Vec<_> = self.consumers.iter().map(ConsumerStatus::snapshot).collect();
        json!({
            "service": "broker-gateway",
            "ready": self.ready().is_ok(),
            "reason": self.ready().err(),
            "lane": {
                "rate_per_s": self.lane.rate_per_s(),
                "copies": self.lane.copies(),
                "paused_ms": u64::try_from(self.lane.paused_for().as_millis()).unwrap_or(u64::MAX),
            },
            "requests": self.gauges(),
            "leases": self.leases.snapshot(),
            "consumers": consumers,
            "degraded": self.invariants.broken(),
            "invariants": self.invariants.report(),
        })
    }
}
