//! Which order of ours a broker's order is.
//!
//! The answer is settled once, by the first event that carries a client's key, and never changes:
//! a broker does not rename an order. Until then the broker's order is an orphan, whose events are
//! logged without an order of ours, in a partition by hash. Nothing is ever matched by its terms.

use super::reading::{Poison, PoisonReason};
use contracts::ids::{BrokerId, BrokerOrderId, OrderId};
use contracts::{BrokerKey, Partition};

/// What is stored about a broker's order, or would be after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The client's key as the broker showed it; none while no event has carried one.
    pub client_order_id: Option<String>,
    /// Our order, where the key is one of ours.
    pub order_id: Option<OrderId>,
    /// Where its events go.
    pub partition: Partition,
}

impl Binding {
    /// The binding that one event alone proves.
    #[must_use]
    pub fn of(broker: &BrokerId, order: &BrokerOrderId, client_order_id: Option<&str>) -> Self {
        let key = client_order_id.and_then(|text| BrokerKey::parse(text).ok());
        Self {
            client_order_id: client_order_id.map(str::to_owned),
            order_id: key.map(BrokerKey::order_id),
            partition: key.map_or_else(|| Partition::of_broker_order(broker, order), BrokerKey::partition),
        }
    }

    /// Whether it can never change any more, so that it may be used without a lock.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.client_order_id.is_some()
    }

    /// Takes what another event shows about the same broker order.
    ///
    /// # Errors
    /// [`Poison`] when the event says that it is another order: a person must look.
    pub fn absorb(&mut self, shown: &Self) -> Result<Absorbed, Poison> {
        match (&self.client_order_id, &shown.client_order_id) {
            (_, None) => Ok(Absorbed::Nothing),
            (Some(known), Some(new)) if known == new => Ok(Absorbed::Nothing),
            (Some(known), Some(new)) => Err(Poison::new(
                PoisonReason::IdentityConflict,
                &format!("broker order is known under client order id {known:?}, the event says {new:?}"),
            )),
            (None, Some(_)) => {
                *self = shown.clone();
                Ok(if self.order_id.is_some() { Absorbed::Ours } else { Absorbed::Foreign })
            }
        }
    }
}

/// What an event added to the binding of its broker order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absorbed {
    /// Nothing new.
    Nothing,
    /// It is somebody else's order.
    Foreign,
    /// It is an order of ours: events that were logged without it have to be logged again.
    Ours,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    fn shown(client_order_id: Option<&str>) -> Binding {
        Binding::of(&BrokerId::new("alpaca").unwrap(), &BrokerOrderId::new("b-1").unwrap(), client_order_id)
    }

    fn key(n: u128) -> String {
        BrokerKey::new(Partition::new(3).unwrap(), OrderId::new(Uuid::from_u128(n))).to_string()
    }

    #[test]
    fn an_orphan_goes_by_hash_until_a_key_of_ours_shows_up() {
        let mut binding = shown(None);
        let by_hash = binding.partition;
        assert_eq!(binding.absorb(&shown(None)), Ok(Absorbed::Nothing));
        assert_eq!(binding.absorb(&shown(Some(&key(1)))), Ok(Absorbed::Ours));
        assert_eq!(binding.partition.number(), 3);
        assert_eq!(shown(Some("foreign")).partition, by_hash);
    }

    #[test]
    fn a_settled_binding_refuses_another_name() {
        let mut binding = shown(Some(&key(1)));
        let before = binding.clone();
        assert_eq!(binding.absorb(&shown(Some(&key(2)))).unwrap_err().reason, PoisonReason::IdentityConflict);
        assert_eq!(binding.absorb(&shown(Some("foreign"))).unwrap_err().reason, PoisonReason::IdentityConflict);
        assert_eq!(binding, before);
    }

    proptest! {
        #[test]
        fn the_first_name_wins_in_any_order_with_any_repeats(names in prop::collection::vec(prop::option::of(0u128..3), 1..12)) {
            let mut binding = shown(None);
            let mut ours = 0;
            for name in &names {
                let name = name.map(key);
                if binding.absorb(&shown(name.as_deref())) == Ok(Absorbed::Ours) {
                    ours += 1;
                }
            }
            let first = names.iter().flatten().next().map(|n| key(*n));
            prop_assert_eq!(ours, usize::from(first.is_some()));
            prop_assert_eq!(binding.client_order_id, first);
        }
    }
}
