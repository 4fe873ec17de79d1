//! The account lock, as the workers see it.

use crate::application::store::{LockAnswer, Locks};
use contracts::AccountId;
use platform::lock::{AccountLocks, HeldLock, LockAnswer as PlatformAnswer};

/// Account locks in Redis.
#[derive(Clone)]
pub struct RedisLocks(pub AccountLocks);

impl Locks for RedisLocks {
    type Held = HeldLock;

    async fn acquire(&self, accounts: &[AccountId]) -> Vec<LockAnswer<HeldLock>> {
        let answers = self.0.acquire_many(accounts).await;
        answers
            .into_iter()
            .map(|answer| match answer {
                PlatformAnswer::Acquired(held) => LockAnswer::Acquired(held),
                PlatformAnswer::Busy => LockAnswer::Busy,
                PlatformAnswer::Unavailable => LockAnswer::Unavailable,
            })
            .collect()
    }

    async fn release(&self, held: Vec<HeldLock>) {
        if !held.is_empty() {
            // What could not be released expires; counted by the lock itself.
            let _report = self.0.release_many(held).await;
        }
    }
}
