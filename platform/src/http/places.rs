//! How many connections each address may have.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that name a network: one customer commonly has all the rest.
const NETWORK_V6: u128 = u128::MAX << 64;

/// Who is on the other side of a connection: the address of the socket, never what a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// What limits count as one: an IPv4 address, or an IPv6 network of 64 bits.
    #[must_use]
    pub fn network(self) -> IpAddr {
        match self.0.ip().to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK_V6)),
        }
    }
}

/// Open connections by address. Holds only addresses that have some.
#[derive(Debug, Clone)]
pub(super) struct Places {
    per_address_max: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    pub(super) fn new(per_address_max: usize) -> Self {
        Self { per_address_max, taken: Arc::default() }
    }

    /// A place, unless the address has as many as it may.
    pub(super) fn take(&self, peer: Peer) -> Option<Place> {
        let address = peer.network();
        let mut all = self.taken();
        let taken = all.entry(address).or_default();
        if *taken >= self.per_address_max {
            return None;
        }
        *taken += 1;
        Some(Place { places: self.clone(), address })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.taken();
        if let Some(taken) = all.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                all.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_at_most_its_places_and_others_keep_theirs() {
        let places = Places::new(2);
        let first = places.take(peer("192.0.2.1:1")).unwrap();
        let _second = places.take(peer("192.0.2.1:2")).unwrap();
        assert!(places.take(peer("192.0.2.1:3")).is_none());
        assert!(places.take(peer("[::ffff:192.0.2.1]:3")).is_none());
        assert!(places.take(peer("192.0.2.2:1")).is_some());
        drop(first);
        assert!(places.take(peer("192.0.2.1:3")).is_some());
    }

    #[test]
    fn addresses_without_connections_take_no_memory() {
        let places = Places::new(1);
        drop(places.take(peer("192.0.2.1:1")));
        assert!(places.taken().is_empty());
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        assert_eq!(peer("[2001:db8::1]:1").network(), peer("[2001:db8::ffff:1]:1").network());
        assert_ne!(peer("[2001:db8::1]:1").network(), peer("[2001:db8:0:1::1]:1").network());
    }
}
