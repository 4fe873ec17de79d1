//! What is traded at this broker.

use contracts::alpaca::{AssetClass, AssetEntity, AssetStatus, Exchange};
use rust_decimal::Decimal;
use uuid::Uuid;

/// One instrument. Prices are in whole cents.
#[derive(Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its symbol.
    pub symbol: &'static str,
    /// Its name, for people.
    pub name: &'static str,
    /// Whether it is listed at NASDAQ; at NYSE otherwise.
    pub nasdaq: bool,
    /// Where its price path starts, in cents.
    pub start_cents: i64,
    /// Its asset id, the same in every run.
    pub asset_id: Uuid,
}

const fn instrument(
    number: u128,
    symbol: &'static str,
    name: &'static str,
    nasdaq: bool,
    start_cents: i64,
) -> Instrument {
    let asset_id = Uuid::from_u128(0x0a55_e700_0000_4000_8000_0000_0000_0000 + number);
    Instrument { symbol, name, nasdaq, start_cents, asset_id }
}

/// All instruments; their place in this list is their index.
pub static INSTRUMENTS: [Instrument; 12] = [
    instrument(1, "AAPL", "Apple Inc. Common Stock", true, 18_712),
    instrument(2, "MSFT", "Microsoft Corporation Common Stock", true, 42_150),
    instrument(3, "NVDA", "NVIDIA Corporation Common Stock", true, 13_120),
    instrument(4, "AMZN", "Amazon.com Inc. Common Stock", true, 18_375),
    instrument(5, "GOOGL", "Alphabet Inc. Class A Common Stock", true, 17_130),
    instrument(6, "META", "Meta Platforms Inc. Class A Common Stock", true, 51_240),
    instrument(7, "TSLA", "Tesla Inc. Common Stock", true, 24_890),
    instrument(8, "NFLX", "Netflix Inc. Common Stock", true, 68_910),
    instrument(9, "AMD", "Advanced Micro Devices Inc. Common Stock", true, 15_680),
    instrument(10, "INTC", "Intel Corporation Common Stock", true, 3_125),
    instrument(11, "KO", "Coca-Cola Company Common Stock", false, 6_840),
    instrument(12, "F", "Ford Motor Company Common Stock", false, 1_215),
];

/// An instrument by its symbol, with its index.
#[must_use]
pub fn find(symbol: &str) -> Option<(usize, &'static Instrument)> {
    INSTRUMENTS.iter().enumerate().find(|(_, instrument)| instrument.symbol == symbol)
}

impl Instrument {
    /// As the dialect shows it.
    #[must_use]
    pub fn entity(&self) -> AssetEntity {
        AssetEntity {
            id: self.asset_id,
            asset_class: AssetClass::UsEquity,
            exchange: if self.nasdaq { Exchange::Nasdaq } else { Exchange::Nyse },
            symbol: self.symbol.to_owned(),
            name: Some(self.name.to_owned()),
            status: AssetStatus::Active,
            tradable: true,
            marginable: true,
            shortable: true,
            easy_to_borrow: true,
            fractionable: true,
            min_order_size: None,
            min_trade_increment: Some(Decimal::new(1, 9)),
            price_increment: Some(Decimal::new(1, 2)),
            attributes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn symbols_and_ids_are_unique() {
        let symbols: HashSet<_> = INSTRUMENTS.iter().map(|instrument| instrument.symbol).collect();
        let ids: HashSet<_> = INSTRUMENTS.iter().map(|instrument| instrument.asset_id).collect();
        assert_eq!((symbols.len(), ids.len()), (12, 12));
        assert!(find("AAPL").is_some());
        assert!(find("aapl").is_none());
    }
}
