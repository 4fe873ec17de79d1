//! Partitions: every account lives in exactly one, and so do all events about it.

use crate::ids::{AccountId, BrokerId, BrokerOrderId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// How many partitions every event log has. Fixed for the life of a deployment: changing it would
/// move accounts between logs whose sequences consumers have already applied.
pub const PARTITION_COUNT: i16 = 16;

/// The number of one partition, from 0 to [`PARTITION_COUNT`] − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub struct Partition(i16);

/// A partition number outside the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("partition {0} is not between 0 and {max}", max = PARTITION_COUNT - 1)]
pub struct PartitionError(pub i16);

impl Partition {
    /// Checks and wraps a number.
    ///
    /// # Errors
    /// [`PartitionError`] outside the range.
    pub const fn new(number: i16) -> Result<Self, PartitionError> {
        if number >= 0 && number < PARTITION_COUNT { Ok(Self(number)) } else { Err(PartitionError(number)) }
    }

    /// The partition of an account: from the last byte of its id, which is random in v4 and v7.
    #[must_use]
    pub fn of_account(account: AccountId) -> Self {
        let [.., last] = account.as_uuid().into_bytes();
        Self(i16::from(last) % PARTITION_COUNT)
    }

    /// The partition of a broker order that names no order of ours: a hash, so that all events of
    /// the same broker order meet in one place.
    #[must_use]
    pub fn of_broker_order(broker: &BrokerId, order: &BrokerOrderId) -> Self {
        let mut hash = Sha256::new();
        hash.update(broker.as_str().as_bytes());
        hash.update([0]);
        hash.update(order.as_str().as_bytes());
        let [first, ..] = <[u8; 32]>::from(hash.finalize());
        Self(i16::from(first) % PARTITION_COUNT)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> i16 {
        self.0
    }

    /// All partitions, in ascending order (the order in which rows are locked).
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + Clone {
        (0..PARTITION_COUNT).map(Self)
    }
}

impl TryFrom<i16> for Partition {
    type Error = PartitionError;
    fn try_from(number: i16) -> Result<Self, PartitionError> {
        Self::new(number)
    }
}

impl From<Partition> for i16 {
    fn from(partition: Partition) -> i16 {
        partition.0
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn an_account_always_maps_to_the_same_partition_in_range() {
        for n in 0..1000_u128 {
            let account = AccountId::new(Uuid::from_u128(n));
            let partition = Partition::of_account(account);
            assert_eq!(partition, Partition::of_account(account));
            assert!(Partition::new(partition.number()).is_ok());
        }
    }

    #[test]
    fn numbers_outside_the_range_are_refused() {
        assert!(Partition::new(-1).is_err());
        assert!(Partition::new(PARTITION_COUNT).is_err());
        assert_eq!(Partition::all().count(), 16);
    }
}
