//! The receiver's database.
//!
//! Order of locks within a transaction, the same for every writer, so that none waits in a circle:
//! the push's name, the stream's row (or the parked frame's), broker orders by id (new ones first, then known ones), their figures by id,
//! facts by event id, their repeats by hash, parked and suspect rows, and the heads of the log last.

mod asked;
mod batch;
mod call;
mod cumulative;
mod error;
mod facts;
mod inspect;
mod orders;
mod parked;
mod pushes;
mod receive;
mod records;
mod stream;
mod suspects;
mod unproven;

pub use inspect::CHECKS;

use crate::domain::reading::BrokerProfile;
use platform::warm::WarmPool;
use sqlx::PgPool;
use sqlx::migrate::Migrator;
use std::time::Duration;
use uuid::Uuid;

/// The migrations that this program carries.
pub static MIGRATOR: Migrator = sqlx::migrate!("../migrations/fill-receiver");

/// The store of one stream.
#[derive(Debug, Clone)]
pub struct PgStore {
    pool: PgPool,
    /// For every call.
    warm: WarmPool,
    profile: BrokerProfile,
    stream: String,
    holder: Uuid,
    lease_ms: i64,
    call_limit: Duration,
}

impl PgStore {
    /// A store over a pool. `holder` names this copy of the process in the lease; no call takes longer
    /// than `call_limit`, after it got its connection.
    #[must_use]
    pub fn new(
        pool: PgPool,
        profile: BrokerProfile,
        stream: String,
        holder: Uuid,
        lease_ms: i64,
        call_limit: Duration,
    ) -> Self {
        Self { warm: WarmPool::over(pool.clone()), pool, profile, stream, holder, lease_ms, call_limit }
    }

    /// Lets calls use connections of their own, so that the feed never holds them up.
    #[must_use]
    pub fn working_with(self, warm: WarmPool) -> Self {
        Self { warm, ..self }
    }

    fn broker(&self) -> &str {
        self.profile.broker.as_str()
    }
}
