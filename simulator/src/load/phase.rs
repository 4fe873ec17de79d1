//! The phases of a round, and what is waited for between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use super::generator::{self, LoadPlan, LoadResult};
use super::{LoadError, OrderBook};
use crate::drill::trader::Placed;
use crate::stack::{ProcessName, Stack};

/// The processes behind the order server.
const BEHIND: [ProcessName; 2] = [ProcessName::BrokerGateway, ProcessName::FillReceiver];
/// Between two looks at whether orders are open.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at whether anything moves: rows that change all the time are slow to read, and what that costs
/// would be measured.
const PROGRESS_PAUSE: Duration = Duration::from_secs(2);
/// Without any progress for so long, fills are given up.
const STALL_LIMIT: Duration = Duration::from_secs(90);
/// For how long an order is posted again whose outcome is not known.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Stops the gateway and the receiver.
///
/// # Errors
/// When one does not end.
pub(super) async fn stop_behind(stack: &Stack) -> Result<(), LoadError> {
    for name in BEHIND {
        stack.stop(name).await?;
    }
    Ok(())
}

/// Starts the gateway and the receiver again.
///
/// # Errors
/// When one does not start.
pub(super) async fn start_behind(stack: &Stack) -> Result<(), LoadError> {
    for name in BEHIND {
        stack.restart(name).await?;
    }
    for name in BEHIND {
        stack.wait_ready(name).await?;
    }
    Ok(())
}

/// Posts a load, and again what was not answered for sure.
///
/// # Errors
/// As [`generator::run`].
pub(super) async fn post(stack: &Stack, book: &Arc<OrderBook>, plan: LoadPlan) -> Result<LoadResult, LoadError> {
    let (posting, api_url) = (book.clone(), stack.addresses().order_api.clone());
    let run = tokio::task::spawn_blocking(move || generator::run(&posting, &api_url, &plan));
    let mut result = run.await.map_err(|_| LoadError::Thread)??;
    for (number, placed) in &mut result.posted {
        if let (Placed::Unknown(_), Some((trader, order))) = (&*placed, book.order(*number)) {
            *placed = trader.post_until_known(&order, ANSWER_LIMIT).await.0;
        }
    }
    Ok(result)
}

/// The books of the order server, looked at from outside.
#[derive(Debug)]
pub(super) struct Books(PgConnection);

impl Books {
    /// Connects.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub(super) async fn open(stack: &Stack) -> Result<Self, LoadError> {
        let url = &stack.databases().order_core;
        let connected = async {
            let mut connection = PgConnection::connect(url).await?;
            // The open orders have an index of their own; reading all orders instead would slow down what is measured.
            sqlx::query("set enable_seqscan = off").execute(&mut connection).await?;
            Ok(Self(connection))
        };
        connected.await.map_err(|source| LoadError::Database { what: "connecting to the books", source })
    }

    /// Waits until no order is open.
    ///
    /// # Errors
    /// When the books do not move any more before that.
    pub(super) async fn wait_until_none_is_open(&mut self) -> Result<(), LoadError> {
        let (mut last, mut moved_at, mut looked_at) = (0, Instant::now(), Instant::now());
        while self.any_open().await? {
            if looked_at.elapsed() >= PROGRESS_PAUSE {
                let applied = self.applied().await?;
                looked_at = Instant::now();
                if applied != last {
                    (last, moved_at) = (applied, looked_at);
                } else if moved_at.elapsed() > STALL_LIMIT {
                    return Err(LoadError::NotFilled(STALL_LIMIT));
                }
            }
            sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    async fn any_open(&mut self) -> Result<bool, LoadError> {
        sqlx::query_scalar("select exists(select 1 from orders where not closed)")
            .fetch_one(&mut self.0)
            .await
            .map_err(|source| LoadError::Database { what: "looking for open orders", source })
    }

    /// How many events of brokers and gateway have reached the books.
    async fn applied(&mut self) -> Result<i64, LoadError> {
        sqlx::query_scalar("select coalesce(sum(seq), 0)::bigint from applied")
            .fetch_one(&mut self.0)
            .await
            .map_err(|source| LoadError::Database { what: "reading the applied positions", source })
    }

    /// Refuses a server whose commits are not durable.
    ///
    /// # Errors
    /// When a setting is off.
    pub(super) async fn require_durable(&mut self) -> Result<(), LoadError> {
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value: String = sqlx::query_scalar("select current_setting($1)")
                .bind(setting)
                .fetch_one(&mut self.0)
                .await
                .map_err(|source| LoadError::Database { what: "reading the server's settings", source })?;
            if value != "on" {
                return Err(LoadError::Settings(format!(
                    "{setting} is {value}: what is measured would not be durable"
                )));
            }
        }
        Ok(())
    }
}
