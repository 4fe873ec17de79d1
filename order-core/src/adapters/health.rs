//! What this process says about itself.

use crate::application::reference::ReferenceData;
use platform::breaker::BreakerState;
use platform::clock::Clock;
use platform::consumer::{ConsumerStatus, Mode};
use platform::http::Health;
use platform::invariants::Invariants;
use platform::lease::Leases;
use platform::lock::AccountLocks;
use serde_json::{Value, json};
use sqlx::{Connection, PgPool};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Whether the database answered the last time that it was asked.
#[derive(Debug, Default)]
pub struct DatabaseProbe(AtomicBool);

impl DatabaseProbe {
    /// Asks the database again and again until `shutdown`, each time for at most `wait_max`.
    pub async fn watch(
        self: Arc<Self>,
        pool: PgPool,
        interval: Duration,
        wait_max: Duration,
        shutdown: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let up = tokio::time::timeout(wait_max, answers(&pool)).await.unwrap_or(false);
            if self.0.swap(up, Ordering::Relaxed) != up {
                tracing::info!(up, "database");
            }
            metrics::gauge!("database_up").set(if up { 1.0 } else { 0.0 });
        }
    }

    fn is_up(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

async fn answers(pool: &PgPool) -> bool {
    match pool.acquire().await {
        Ok(mut conn) => conn.ping().await.is_ok(),
        Err(_) => false,
    }
}

/// The order server's health.
pub struct OrderServerHealth {
    /// The database.
    pub database: Arc<DatabaseProbe>,
    /// The account lock.
    pub locks: AccountLocks,
    /// The logs that are read.
    pub consumers: Vec<ConsumerStatus>,
    /// Which partitions this copy looks after.
    pub leases: Leases,
    /// What is checked of the books.
    pub invariants: Invariants,
    /// Assets and prices.
    pub reference: Arc<ReferenceData>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// From which age prices count as stale.
    pub price_age_max: Duration,
    /// Since when this process runs.
    pub started_at: OffsetDateTime,
}

impl OrderServerHealth {
    fn price_age(&self) -> Option<time::Duration> {
        self.reference.refreshed_at().map(|at| self.clock.now() - at)
    }

    /// What works worse than it should, in words for a person. Orders are accepted all the same.
    fn degraded(&self) -> Vec<String> {
        let mut reasons = self.invariants.broken();
        if self.locks.health().breaker == BreakerState::Open {
            reasons.push("account locks are unavailable: the version check alone guards".to_owned());
        }
        if self.price_age().is_none_or(|age| age > self.price_age_max) {
            reasons.push("prices are not refreshed: market orders are refused".to_owned());
        }
        for snapshot in self.consumers.iter().map(ConsumerStatus::snapshot) {
            let producer = snapshot.producer;
            if snapshot.is_stopped() {
                reasons.push(format!("the log of {producer} does not fit what was applied: a person must look"));
            }
            if snapshot.mode != Mode::Bus {
                reasons.push(format!("the log of {producer} is read from its feed, not from the bus"));
            }
            if !snapshot.feed_reachable {
                reasons.push(format!("the feed of {producer} does not answer"));
            }
        }
        reasons
    }
}

impl Health for OrderServerHealth {
    fn ready(&self) -> Result<(), String> {
        if !self.database.is_up() {
            return Err("the database does not answer".to_owned());
        }
        if self.reference.assets().is_empty() {
            return Err("no asset is known yet".to_owned());
        }
        Ok(())
    }

    fn report(&self) -> Value {
        let degraded = self.degraded();
        let consumers: Vec<_> = self.consumers.iter().map(ConsumerStatus::snapshot).collect();
        json!({
            "service": "order-server",
            "status": if degraded.is_empty() { "ok" } else { "degraded" },
            "degraded": degraded,
            "uptime_s": (self.clock.now() - self.started_at).whole_seconds(),
            "database": {"up": self.database.is_up()},
            "locks": self.locks.health(),
            "leases": self.leases.snapshot(),
            "consumers": consumers,
            "invariants": self.invariants.report(),
            "reference": {
                "assets": self.reference.assets().len(),
                "refreshed_s_ago": self.price_age().map(time::Duration::whole_seconds),
            },
        })
    }
}
