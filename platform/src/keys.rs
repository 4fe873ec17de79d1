//! Every Redis key, in one place: who writes it, who reads it, when it goes.
//!
//! Nothing here is the only copy of anything. Losing all of it costs time, never an event.

use contracts::event::Producer;
use contracts::{AccountId, Partition};

/// In front of every key. The version changes when the meaning of a key does, so that an old and a
/// new process never misread each other.
pub const PREFIX: &str = "oor:v1:";

/// The field of a stream entry that holds the envelope's JSON.
pub const ENTRY_FIELD: &str = "e";

/// The stream of one partition of a producer's log.
///
/// Entry id `{seq}-0`, one field [`ENTRY_FIELD`]. Written by the producer's publisher, read by
/// consumers from their applied position, trimmed by the publisher.
#[must_use]
pub fn log(producer: Producer, partition: Partition) -> String {
    format!("{PREFIX}log:{producer}:{partition}")
}

/// Hash of partition number to the newest sequence number of a producer's log.
///
/// Written every second by each copy of the producer, read by consumers. It expires a few
/// announcements after the last one: a missing key says that the bus is not fed.
#[must_use]
pub fn heads(producer: Producer) -> String {
    format!("{PREFIX}heads:{producer}")
}

/// Hash of `{consumer}:{partition}` to the sequence number that the consumer applied.
///
/// Written by consumers, read by the producer's publisher, which trims below the smallest.
/// Never expires: a consumer that is down must keep its claim on what it has not read.
#[must_use]
pub fn applied(producer: Producer) -> String {
    format!("{PREFIX}applied:{producer}")
}

/// The field of one consumer in [`applied`].
#[must_use]
pub fn applied_field(consumer: &str, partition: Partition) -> String {
    format!("{consumer}:{partition}")
}

/// The lock of an account: a random token with a lease.
///
/// Written and deleted by the copy of the order server that holds it; expires with its lease.
#[must_use]
pub fn account_lock(account: AccountId) -> String {
    format!("{PREFIX}lock:account:{account}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn no_two_kinds_of_key_meet() {
        let producer = Producer::OrderCore;
        let partition = Partition::new(3).unwrap();
        let keys = [
            log(producer, partition),
            heads(producer),
            applied(producer),
            account_lock(AccountId::new(Uuid::nil())),
            log(Producer::BrokerGateway, partition),
            log(producer, Partition::new(4).unwrap()),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(key.starts_with(PREFIX));
            assert!(!keys.iter().skip(n + 1).any(|other| other == key));
        }
    }
}
