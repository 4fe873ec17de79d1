//! The key under which we send an order to a broker, the same on every attempt.

use crate::ids::OrderId;
use crate::partition::Partition;
use serde::{Deserialize, Serialize};
use std::fmt;
use uuid::Uuid;

/// Our order id and its partition in one text of 38 characters, e.g. `r07-0192f0c1a2b37c…`.
///
/// Derived from the order alone, so every attempt carries the same key; it holds the partition,
/// so that whoever reads the broker's events can put them beside the order without asking anyone.
/// Short enough for brokers that take 48 characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrokerKey {
    partition: Partition,
    order_id: OrderId,
}

/// The text is not one of our keys: the order was placed by somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a key of ours")]
pub struct NotOurKey;

impl BrokerKey {
    /// The key of an order.
    #[must_use]
    pub const fn new(partition: Partition, order_id: OrderId) -> Self {
        Self { partition, order_id }
    }

    /// The partition of the order's account.
    #[must_use]
    pub const fn partition(self) -> Partition {
        self.partition
    }

    /// The order.
    #[must_use]
    pub const fn order_id(self) -> OrderId {
        self.order_id
    }

    /// Reads a key back from a broker's text.
    ///
    /// # Errors
    /// [`NotOurKey`] when the text is anything that [`fmt::Display`] would not write.
    pub fn parse(text: &str) -> Result<Self, NotOurKey> {
        let rest = text.strip_prefix('r').ok_or(NotOurKey)?;
        let (partition, order) = rest.split_once('-').ok_or(NotOurKey)?;
        let number: i16 = partition.parse().map_err(|_| NotOurKey)?;
        let key = Self {
            partition: Partition::new(number).map_err(|_| NotOurKey)?,
            order_id: OrderId::new(Uuid::try_parse(order).map_err(|_| NotOurKey)?),
        };
        if key.to_string() == text { Ok(key) } else { Err(NotOurKey) }
    }
}

impl fmt::Display for BrokerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:02}-{}", self.partition.number(), self.order_id.as_uuid().simple())
    }
}

impl TryFrom<String> for BrokerKey {
    type Error = NotOurKey;
    fn try_from(text: String) -> Result<Self, NotOurKey> {
        Self::parse(&text)
    }
}

impl From<BrokerKey> for String {
    fn from(key: BrokerKey) -> String {
        key.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_fits_48_characters() {
        let order = OrderId::new(Uuid::from_u128(0x0192_f0c1_a2b3_7c4d_8e5f_0123_4567_89ab));
        let key = BrokerKey::new(Partition::new(7).unwrap(), order);
        let text = key.to_string();
        assert!(text.len() <= 48, "{text}");
        assert_eq!(BrokerKey::parse(&text), Ok(key));
    }

    #[test]
    fn foreign_texts_are_not_ours() {
        for text in [
            "",
            "r",
            "r7-x",
            "r99-00000000000000000000000000000000",
            "my-order-1",
            "r7-00000000000000000000000000000000",
            "r07-00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(BrokerKey::parse(text), Err(NotOurKey), "{text}");
        }
    }
}
