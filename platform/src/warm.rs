//! Connections to the database that are used again while they are warm.
//!
//! A server process keeps the plans of its statements, and all that they refer to, in memory of its own: a megabyte
//! and more. An ordinary pool hands out the connection that has been idle for longest, so that work that needs two at a
//! time goes round all ten, and finds the processor's caches cold every time: a fifth and more of the server's time
//! (measured with the statements of this project). This one always hands out the first that is free.

use sqlx::pool::MaybePoolConnection;
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
    /// Those that nobody uses, the ones that did not come last.
    free: Mutex<BTreeSet<(Trouble, usize)>>,
    permits: Arc<Semaphore>,
    acquire_timeout: Duration,
}

/// A connection that was given back is there a moment later. One whose server process stands still, or whose network is
/// cut, is not, and must not be waited for by everybody.
const GIVEN_BACK_MAX: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    None,
    DidNotCome,
}

impl Shared {
    fn free(&self) -> MutexGuard<'_, BTreeSet<(Trouble, usize)>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pop_free(&self, tried: &BTreeSet<usize>) -> Option<(Trouble, usize)> {
        let mut free = self.free();
        let next = free.iter().find(|(_, index)| !tried.contains(index)).copied();
        next.filter(|next| free.remove(next))
    }
}

/// The right to use one of the connections.
#[derive(Debug)]
struct Slot {
    shared: Arc<Shared>,
    index: usize,
    trouble: Trouble,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Before the permit, so that whoever gets that finds a free one.
        self.shared.free().insert((self.trouble, self.index));
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
        let free = Mutex::new((0..pools.len()).map(|index| (Trouble::None, index)).collect());
        let permits = Arc::new(Semaphore::new(pools.len()));
        Self { shared: Arc::new(Shared { pools, free, permits, acquire_timeout }) }
    }

    /// Some pool of its connections, for what looks at one of them.
    #[must_use]
    pub fn first(&self) -> Option<&PgPool> {
        self.shared.pools.first()
    }

    /// A connection, with the right to use it.
    async fn take(&self) -> Result<(PoolConnection<Postgres>, Slot), sqlx::Error> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned();
        let permit = tokio::time::timeout(self.shared.acquire_timeout, permit);
        let permit =
            Arc::new(permit.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?);
        let slot =
            |trouble, index| Slot { shared: Arc::clone(&self.shared), index, trouble, _permit: Arc::clone(&permit) };
        let mut tried = BTreeSet::new();
        loop {
            let (trouble, index) = match self.shared.pop_free(&tried) {
                Some(free) => free,
                None if self.shared.pools.len() == 1 && tried.is_empty() => (Trouble::None, 0),
                None => return Err(sqlx::Error::PoolTimedOut),
            };
            let mut slot = slot(trouble, index);
            let pool = self.shared.pools.get(index).ok_or(sqlx::Error::PoolClosed)?;
            // One that is not open yet takes as long as it takes.
            let is_given_back = self.shared.pools.len() > 1 && pool.size() > 0;
            let wait_max = if is_given_back { GIVEN_BACK_MAX } else { self.shared.acquire_timeout };
            match tokio::time::timeout(wait_max, pool.acquire()).await {
                Ok(connection) => {
                    slot.trouble = Trouble::None;
                    return Ok((connection?, slot));
                }
                Err(_) => slot.trouble = Trouble::DidNotCome,
            }
            tried.insert(index);
        }
    }

    /// A connection.
    ///
    /// # Errors
    /// When none can be had in time.
    pub async fn acquire(&self) -> Result<WarmConnection, sqlx::Error> {
        let (connection, slot) = self.take().await?;
        Ok(WarmConnection { connection, _slot: slot })
    }

    /// A transaction. Dropping it rolls back.
    ///
    /// # Errors
    /// When no connection can be had in time, or the server does not answer.
    pub async fn begin(&self) -> Result<WarmTransaction, sqlx::Error> {
        let (connection, slot) = self.take().await?;
        let transaction = Transaction::begin(MaybePoolConnection::PoolConnection(connection), None).await?;
        Ok(WarmTransaction { transaction, _slot: slot })
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
