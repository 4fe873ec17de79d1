//! Real servers for integration tests: a database a test, a Redis of its own to stop and freeze,
//! and waiting for conditions. Behind the feature `testing`, never in a shipped binary.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot have its servers has failed")]

mod database;
mod metrics;
mod process;
mod redis_server;

pub use database::TestDatabase;
pub use metrics::{metric_faults, scrape_faults};
pub use process::TestProcess;
pub use redis_server::TestRedis;

use std::future::Future;
use std::time::{Duration, Instant};

/// Pause between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds, at most `timeout`. Answers whether it did.
#[must_use = "a condition that was not reached is a failed test: assert it"]
pub async fn eventually<F, Fut>(timeout: Duration, mut condition: F) -> bool
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = Instant::now() + timeout;
    loop {
        if condition().await {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
