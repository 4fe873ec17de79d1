//! Connections to the database that are used again while they are warm.
//!
//! A server process keeps the plans of its statements, and all that they refer to, in memory of its own: a megabyte
//! and more. An ordinary pool hands out the connection that has been idle for longest, so that work that needs two at a
//! time goes round all ten, and finds the processor's caches cold every time: a fifth and more of the server's time
//! (measured with the statements of this project). This one always hands out the first that is free.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{PgConnection, Postgres, Transaction};
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A pool that prefers the connection that was used last.
#[derive(Clone, Debug)]
pub struct WarmPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Each of one connection, which is opened when it is needed for the first time; or one pool of many.
    pools: Vec<PgPool>,
    free: Mutex<BTreeSet<usize>>,
    permits: Arc<Semaphore>,
    acquire_timeout: Duration,
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one of the connections.
#[derive(Debug)]
struct Slot {
    shared: Arc<Shared>,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the permit, so that whoever gets that finds a free one.
        self.shared.free().insert(self.index);
    }
}

impl WarmPool {
    /// At most `connections_max` connections; who waits for one longer than `acquire_timeout` is told so.
    #[must_use]
    pub fn new(options: &PgConnectOptions, connections_max: u32, acquire_timeout: Duration) -> Self {
        let one = || {
            PgPoolOptions::new()
                .max_connections(1)
                .acquire_timeout(acquire_timeout)
                .test_before_acquire(false)
                .connect_lazy_with(options.clone())
        };
        Self::of((0..connections_max.max(1)).map(|_| one()).collect(), acquire_timeout)
    }

    /// The connections of an ordinary pool, in its own order.
    #[must_use]
    pub fn over(pool: PgPool) -> Self {
        let acquire_timeout = pool.options().get_acquire_timeout();
        let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let shared = Shared { pools: vec![pool], free: Mutex::default(), permits, acquire_timeout };
        Self { shared: Arc::new(shared) }
    }

    fn of(pools: Vec<PgPool>, acquire_timeout: Duration) -> Self {
        let free = Mutex::new((0..pools.len()).collect());
        let permits = Arc::new(Semaphore::new(pools.len()));
        Self { shared: Arc::new(Shared { pools, free, permits, acquire_timeout }) }
    }

    /// Some pool of its connections, for what looks at one of them.
    #[must_use]
    pub fn first(&self) -> Option<&PgPool> {
        self.shared.pools.first()
    }

    async fn slot(&self) -> Result<(Slot, &PgPool), sqlx::Error> {
        let permit =
            tokio::time::timeout(self.shared.acquire_timeout, Arc::clone(&self.shared.permits).acquire_owned());
        let permit = permit.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let index = self.shared.free().pop_first().unwrap_or_default();
        let slot = Slot { shared: Arc::clone(&self.shared), index, _permit: permit };
        let pool = self.shared.pools.get(index).ok_or(sqlx::Error::PoolClosed)?;
        Ok((slot, pool))
    }

    /// A connection.
    ///
    /// # Errors
    /// When none can be had in time.
    pub async fn acquire(&self) -> Result<WarmConnection, sqlx::Error> {
        let (slot, pool) = self.slot().await?;
        Ok(WarmConnection { connection: pool.acquire().await?, _slot: slot })
    }

    /// A transaction. Dropping it rolls back.
    ///
    /// # Errors
    /// When no connection can be had in time, or the server does not answer.
    pub async fn begin(&self) -> Result<WarmTransaction, sqlx::Error> {
        let (slot, pool) = self.slot().await?;
        Ok(WarmTransaction { transaction: pool.begin().await?, _slot: slot })
    }
}

/// A connection of a [`WarmPool`]. It goes back before the right to use it does.
#[derive(Debug)]
pub struct WarmConnection {
    connection: PoolConnection<Postgres>,
    _slot: Slot,
}

impl WarmConnection {
    /// Throws it away instead of giving it back; the next one is opened anew.
    pub fn discard(self) {
        drop(self.connection.detach());
    }
}

impl Deref for WarmConnection {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for WarmConnection {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

/// A transaction on a connection of a [`WarmPool`].
#[derive(Debug)]
pub struct WarmTransaction {
    transaction: Transaction<'static, Postgres>,
    _slot: Slot,
}

impl WarmTransaction {
    /// Commits.
    ///
    /// # Errors
    /// When the server does not confirm it.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let Self { transaction, _slot } = self;
        transaction.commit().await
    }

    /// Ends it without effect.
    ///
    /// # Errors
    /// When the server does not confirm it.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        let Self { transaction, _slot } = self;
        transaction.rollback().await
    }
}

impl Deref for WarmTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.transaction
    }
}

impl DerefMut for WarmTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }
}
