//! One connection to Redis that several tasks share, that starts without a server, heals, and never
//! waits longer than its limits.
//!
//! The library's own manager keeps a connection that stopped answering; here a timeout drops it, so
//! that the next call finds out afresh whether the server is there.

use crate::breaker::Failure;
use crate::config::RedisConfig;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, Value};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// Why Redis gave no answer.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The URL cannot be read.
    #[error("redis url is not valid")]
    Url(#[source] RedisError),
    /// No connection.
    #[error("could not connect to redis")]
    Connect(#[source] RedisError),
    /// No connection in time.
    #[error("redis did not take a connection within {waited_ms} ms")]
    ConnectTimeout {
        /// How long was waited.
        waited_ms: u128,
    },
    /// The connection failed before the answer.
    #[error("redis connection failed")]
    Command(#[source] RedisError),
    /// No answer in time. The commands may have taken effect, or may yet.
    #[error("redis did not answer within {waited_ms} ms")]
    Timeout {
        /// How long was waited.
        waited_ms: u128,
    },
}

impl LinkError {
    /// What it means to a breaker.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::ConnectTimeout { .. } | Self::Timeout { .. } => Failure::TimedOut,
            Self::Url(_) | Self::Connect(_) | Self::Command(_) => Failure::Refused,
        }
    }

    /// Whether commands may have reached the server.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Command(_) | Self::Timeout { .. } => true,
            Self::Url(_) | Self::Connect(_) | Self::ConnectTimeout { .. } => false,
        }
    }
}

#[derive(Default)]
struct Slot {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that a late failure of an old one does not drop a new one.
    generation: u64,
}

/// The shared connection.
pub(crate) struct Link {
    client: Client,
    response_timeout: Duration,
    connect_timeout: Duration,
    slot: Mutex<Slot>,
    /// Held while connecting, so that one task at a time does; never while using or dropping.
    connecting: tokio::sync::Mutex<()>,
}

impl Link {
    /// Prepares a connection; none is opened yet.
    pub(crate) fn new(redis: &RedisConfig) -> Result<Self, LinkError> {
        Ok(Self {
            client: Client::open(redis.url.expose()).map_err(LinkError::Url)?,
            response_timeout: Duration::from_millis(redis.response_timeout_ms),
            connect_timeout: Duration::from_millis(redis.connect_timeout_ms),
            slot: Mutex::new(Slot::default()),
            connecting: tokio::sync::Mutex::new(()),
        })
    }

    /// Sends commands in one round trip. The outer error says that there is no answer, the inner
    /// ones are the server's refusals of single commands.
    pub(crate) async fn run(&self, pipeline: &mut Pipeline) -> Result<Vec<RedisResult<Value>>, LinkError> {
        self.run_blocking(pipeline, Duration::ZERO).await
    }

    /// The same for commands that the server answers only after up to `block`. A blocked
    /// connection serves nobody else, so this needs a link of its own.
    pub(crate) async fn run_blocking(
        &self,
        pipeline: &mut Pipeline,
        block: Duration,
    ) -> Result<Vec<RedisResult<Value>>, LinkError> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let (mut connection, generation) = match timeout(self.connect_timeout, self.connection()).await {
            Ok(connected) => connected?,
            Err(_) => return Err(LinkError::ConnectTimeout { waited_ms: self.connect_timeout.as_millis() }),
        };
        let wait = self.response_timeout + block;
        match timeout(wait, pipeline.ignore_errors().query_async(&mut connection)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(error)) => {
                self.discard(generation);
                Err(LinkError::Command(error))
            }
            Err(_) => {
                self.discard(generation);
                Err(LinkError::Timeout { waited_ms: wait.as_millis() })
            }
        }
    }

    /// Asks the server whether it is there.
    pub(crate) async fn ping(&self) -> Result<(), LinkError> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("PING");
        let answers = self.run(&mut pipeline).await?;
        match answers.into_iter().next() {
            Some(Err(error)) => Err(LinkError::Command(error)),
            _ => Ok(()),
        }
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), LinkError> {
        if let Some(open) = self.open() {
            return Ok(open);
        }
        let _turn = self.connecting.lock().await;
        if let Some(open) = self.open() {
            return Ok(open);
        }
        // Both limits are kept here, over the handshake too; the library's own would come on top.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await.map_err(LinkError::Connect)?;
        let mut slot = self.slot();
        slot.generation = slot.generation.wrapping_add(1);
        slot.connection = Some(connection.clone());
        Ok((connection, slot.generation))
    }

    fn open(&self) -> Option<(MultiplexedConnection, u64)> {
        let slot = self.slot();
        slot.connection.clone().map(|connection| (connection, slot.generation))
    }

    fn discard(&self, generation: u64) {
        let mut slot = self.slot();
        if slot.generation == generation {
            slot.connection = None;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("response_timeout", &self.response_timeout).finish_non_exhaustive()
    }
}
