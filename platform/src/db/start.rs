//! A start that finds its database away: after a power cut all come up together, and a server that crashed recovers
//! before it takes anybody in.

use super::{DbError, options};
use crate::config::DatabaseConfig;
use crate::reconnect::ReconnectDelay;
use crate::telemetry::Chain;
use sqlx::{ConnectOptions, Connection, PgConnection};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const DELAY_INITIAL: Duration = Duration::from_millis(100);
const DELAY_MAX: Duration = Duration::from_secs(2);

/// Waits until the server takes a connection, at most `database.start_wait_ms`, and no longer than until the process
/// is asked to end. What no waiting heals (a wrong password, a database that does not exist) is an error at once.
///
/// # Errors
/// [`DbError::Connect`] with the last reason, [`DbError::AskedToEnd`], or [`DbError::Url`].
pub async fn wait_until_there(config: &DatabaseConfig, end: &CancellationToken) -> Result<(), DbError> {
    let options = options(config)?;
    let limit = Duration::from_millis(config.acquire_timeout_ms);
    let began = Instant::now();
    let until = began + Duration::from_millis(config.start_wait_ms);
    let mut delay = ReconnectDelay::new(DELAY_INITIAL, DELAY_MAX);
    let mut waited = false;
    loop {
        let error = match timeout(limit, options.connect()).await {
            Ok(Ok(connection)) => {
                if waited {
                    tracing::info!(waited_ms = began.elapsed().as_millis(), "the database is there");
                }
                close(connection).await;
                return Ok(());
            }
            Ok(Err(error)) => error,
            Err(_) => sqlx::Error::PoolTimedOut,
        };
        if !passes(&error) || Instant::now() >= until {
            return Err(DbError::Connect(error));
        }
        let pause = delay.next_delay();
        let left_ms = until.saturating_duration_since(Instant::now()).as_millis();
        tracing::warn!(error = %Chain(&error), left_ms, "the database is not there yet, the start waits for it");
        waited = true;
        tokio::select! {
            () = end.cancelled() => return Err(DbError::AskedToEnd(error)),
            () = sleep(pause) => {}
        }
    }
}

/// The server need not hear of it: it notices when the socket is gone.
async fn close(connection: PgConnection) {
    let _best_effort = timeout(DELAY_MAX, connection.close()).await;
}

/// Whether the same attempt may succeed later without anybody's doing.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| passes_by_code(&code)),
        _ => false,
    }
}

/// 57P01 to 57P03: shutting down, crashed, starting up. Class 08: the connection. Class 53: no connection, memory or
/// disk left.
fn passes_by_code(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03") || code.starts_with("08") || code.starts_with("53")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_starting_full_or_going_down_is_waited_for_and_a_refusal_is_not() {
        for code in ["57P03", "57P02", "57P01", "53300", "53100", "08006"] {
            assert!(passes_by_code(code), "{code}");
        }
        for code in ["28P01", "28000", "3D000", "42501", "57014"] {
            assert!(!passes_by_code(code), "{code}");
        }
    }
}
