//! What may be traded and at about what price, as the broker last said. Kept in memory, since every
//! order needs it; the asset list is also stored, so that a start does not depend on the broker.

use crate::domain::asset::{Asset, ReferencePrice};
use contracts::Symbol;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// How far another clock may be ahead of ours.
const CLOCK_SKEW_MAX: Duration = Duration::seconds(5);

/// What deciding an order needs to know of the market. Answers at once, from memory.
pub trait Reference: Send + Sync + 'static {
    /// Whether any list of assets is here. Without one nothing can be said about a symbol.
    fn is_loaded(&self) -> bool;
    /// The listed asset of a symbol.
    fn asset(&self, symbol: &Symbol) -> Option<Asset>;
    /// The last known price of a symbol, of whatever age.
    fn price(&self, symbol: &Symbol) -> Option<ReferencePrice>;
}

/// All listed assets at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AssetList {
    by_symbol: BTreeMap<Symbol, Asset>,
    symbol_of: BTreeMap<Uuid, Symbol>,
}

impl AssetList {
    /// A list; of two assets with one symbol the later one stays.
    #[must_use]
    pub fn new(assets: Vec<Asset>) -> Self {
        let by_symbol: BTreeMap<_, _> = assets.into_iter().map(|asset| (asset.symbol.clone(), asset)).collect();
        let symbol_of = by_symbol.values().map(|asset| (asset.id, asset.symbol.clone())).collect();
        Self { by_symbol, symbol_of }
    }

    /// The asset of a symbol.
    #[must_use]
    pub fn get(&self, symbol: &Symbol) -> Option<&Asset> {
        self.by_symbol.get(symbol)
    }

    /// The asset of an id.
    #[must_use]
    pub fn by_id(&self, id: Uuid) -> Option<&Asset> {
        self.symbol_of.get(&id).and_then(|symbol| self.by_symbol.get(symbol))
    }

    /// All of them, by symbol.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.by_symbol.values()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_symbol.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_symbol.is_empty()
    }
}

/// The shared copy in memory. Readers take a snapshot and never wait for a refresh.
#[derive(Debug, Default)]
pub struct ReferenceData {
    assets: RwLock<Arc<AssetList>>,
    prices: RwLock<Arc<BTreeMap<Symbol, ReferencePrice>>>,
    refreshed_at: RwLock<Option<OffsetDateTime>>,
}

impl ReferenceData {
    /// The listed assets now.
    #[must_use]
    pub fn assets(&self) -> Arc<AssetList> {
        Arc::clone(&self.assets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the list. Answers whether it is another one than before. An empty list is not taken:
    /// it says that nobody has read the broker's list yet, not that nothing is traded.
    pub fn replace_assets(&self, assets: Vec<Asset>) -> bool {
        let list = AssetList::new(assets);
        if list.is_empty() || list == *self.assets() {
            return false;
        }
        *self.assets.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        true
    }

    /// Takes prices over. One that is older than what is known is left out, and so is one from the
    /// future, since it would never count as stale; clocks may differ by a few seconds.
    pub fn update_prices(&self, prices: impl IntoIterator<Item = (Symbol, ReferencePrice)>, now: OffsetDateTime) {
        let mut next = BTreeMap::clone(&self.all_prices());
        for (symbol, price) in prices {
            if price.at > now + CLOCK_SKEW_MAX {
                continue;
            }
            let price = ReferencePrice { at: price.at.min(now), ..price };
            if next.get(&symbol).is_none_or(|old| old.at <= price.at) {
                next.insert(symbol, price);
            }
        }
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        *self.refreshed_at.write().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When prices were last taken over.
    #[must_use]
    pub fn refreshed_at(&self) -> Option<OffsetDateTime> {
        *self.refreshed_at.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_prices(&self) -> Arc<BTreeMap<Symbol, ReferencePrice>> {
        Arc::clone(&self.prices.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reference for ReferenceData {
    fn is_loaded(&self) -> bool {
        !self.assets().is_empty()
    }

    fn asset(&self, symbol: &Symbol) -> Option<Asset> {
        self.assets().get(symbol).cloned()
    }

    fn price(&self, symbol: &Symbol) -> Option<ReferencePrice> {
        self.all_prices().get(symbol).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contracts::Price;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn asset(symbol: &str, n: u128) -> Asset {
        Asset {
            id: Uuid::from_u128(n),
            symbol: Symbol::new(symbol).unwrap(),
            name: symbol.to_owned(),
            exchange: "NASDAQ".to_owned(),
            tradable: true,
            fractionable: true,
        }
    }

    fn price(text: &str, at: OffsetDateTime) -> ReferencePrice {
        ReferencePrice { price: Price::parse(text).unwrap(), at }
    }

    #[test]
    fn an_empty_or_equal_list_replaces_nothing() {
        let data = ReferenceData::default();
        assert!(data.replace_assets(vec![asset("A", 1)]));
        assert!(!data.replace_assets(Vec::new()));
        assert!(!data.replace_assets(vec![asset("A", 1)]));
        assert!(data.assets().by_id(Uuid::from_u128(1)).is_some());
        assert!(data.replace_assets(vec![asset("B", 2)]));
        assert!(data.asset(&Symbol::new("A").unwrap()).is_none());
    }

    #[test]
    fn a_price_never_goes_back_in_time_and_never_comes_from_the_future() {
        let data = ReferenceData::default();
        let a = Symbol::new("A").unwrap();
        data.update_prices([(a.clone(), price("10", NOW))], NOW);
        data.update_prices([(a.clone(), price("9", NOW - Duration::SECOND))], NOW);
        data.update_prices([(a.clone(), price("11", NOW + Duration::MINUTE))], NOW);
        assert_eq!(data.price(&a), Some(price("10", NOW)));
        data.update_prices([(a.clone(), price("12", NOW + Duration::SECOND))], NOW);
        assert_eq!(data.price(&a), Some(price("12", NOW)));
    }
}
