//! One call of the database, on one connection, for a bounded time.
//!
//! The server's own limits do not help where the server hangs. A connection whose call was not done
//! in time is closed, not given back: the pool would wait for its answer, and the server rolls back
//! what it was doing as soon as it notices.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::StoreError;
use platform::warm::WarmConnection;
use sqlx::PgConnection;
use std::future::Future;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// The database did not answer in time. What was under way may have been committed.
#[derive(Debug, Clone, Copy, Error)]
#[error("database did not answer within {limit_ms} ms")]
struct CallTimedOut {
    limit_ms: u128,
}

/// The moment by which a call must be done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    since: Instant,
    deadline: Instant,
}

impl Limit {
    /// Does the work, or gives it up.
    pub(super) async fn of<T>(self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match timeout_at(self.deadline, work).await {
            Ok(done) => done,
            Err(_elapsed) => {
                let limit_ms = (self.deadline - self.since).as_millis();
                Err(StoreError::Unavailable(Box::new(CallTimedOut { limit_ms })))
            }
        }
    }
}

/// A connection for the time of one call.
pub(super) struct Call {
    connection: Option<WarmConnection>,
    limit: Limit,
}

impl Call {
    pub(super) const fn limit(&self) -> Limit {
        self.limit
    }

    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        // There is one until this is dropped.
        self.connection.as_deref_mut().ok_or_else(|| StoreError::Unavailable(Box::new(sqlx::Error::PoolClosed)))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && Instant::now() >= self.limit.deadline
        {
            connection.discard();
        }
    }
}

impl PgStore {
    /// Takes a connection; the wait for it is bounded by the pool.
    pub(super) async fn call(&self) -> Result<Call, StoreError> {
        let connection = self.warm.acquire().await.map_err(sorted)?;
        let since = Instant::now();
        Ok(Call { connection: Some(connection), limit: Limit { since, deadline: since + self.call_limit } })
    }
}
