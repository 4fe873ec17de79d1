//! What can be traded and what it last cost, as the broker shows it: polled, kept in memory, served
//! to the order server.

use super::ports::Caller;
use super::wire::{WireRequest, WireResult};
use contracts::decimal::plain;
use rust_decimal::Decimal;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use time::OffsetDateTime;
use time::serde::rfc3339;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Symbols that are asked for in one call.
const SYMBOLS_PER_CALL_MAX: usize = 200;

/// Most instruments that are kept.
const INSTRUMENTS_MAX: usize = 50_000;

/// An asset as the broker lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// The broker's id.
    pub id: Uuid,
    /// Ticker.
    pub symbol: String,
    /// For people.
    pub name: String,
    /// Where it is listed.
    pub exchange: String,
    /// Whether orders are taken.
    pub tradable: bool,
    /// Whether parts of a share are traded.
    pub fractionable: bool,
}

/// The last price of a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastPrice {
    /// Ticker.
    pub symbol: String,
    /// Price of one share.
    pub price: Decimal,
    /// When it was made.
    pub at: OffsetDateTime,
}

/// One row of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instrument {
    /// The broker's id.
    pub id: Uuid,
    /// Ticker.
    pub symbol: String,
    /// For people.
    pub name: String,
    /// Where it is listed.
    pub exchange: String,
    /// Whether orders are taken.
    pub tradable: bool,
    /// Whether parts of a share are traded.
    pub fractionable: bool,
    /// Last price of one share, a decimal; none where there was no trade yet.
    pub last_price: Option<String>,
    /// When that was, so that a stale price can be told.
    #[serde(with = "rfc3339::option")]
    pub price_at: Option<OffsetDateTime>,
}

/// How a broker is asked for assets and prices. Pure.
pub trait MarketDialect: Send + Sync + 'static {
    /// Writes the question for assets.
    fn assets(&self) -> WireRequest;
    /// Writes the question for the last prices of some symbols.
    fn prices(&self, symbols: &[String]) -> WireRequest;
    /// Reads the assets; none when the reply is not usable.
    fn read_assets(&self, result: &WireResult) -> Option<Vec<Asset>>;
    /// Reads prices; none when the reply is not usable.
    fn read_prices(&self, result: &WireResult) -> Option<Vec<LastPrice>>;
}

/// The instruments that are known now. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Instruments(Arc<RwLock<BTreeMap<String, Instrument>>>);

impl Instruments {
    /// All of them, by symbol.
    #[must_use]
    pub fn all(&self) -> Vec<Instrument> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn symbols(&self) -> Vec<String> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn put_assets(&self, assets: Vec<Asset>) {
        let mut instruments = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        for asset in assets.into_iter().take(INSTRUMENTS_MAX) {
            let old = instruments.remove(&asset.symbol);
            let (last_price, price_at) = old.map_or((None, None), |old| (old.last_price, old.price_at));
            let instrument = Instrument {
                id: asset.id,
                symbol: asset.symbol.clone(),
                name: asset.name,
                exchange: asset.exchange,
                tradable: asset.tradable,
                fractionable: asset.fractionable,
                last_price,
                price_at,
            };
            next.insert(asset.symbol, instrument);
        }
        *instruments = next;
    }

    fn put_prices(&self, prices: Vec<LastPrice>) {
        let mut instruments = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for price in prices {
            if let Some(instrument) = instruments.get_mut(&price.symbol) {
                instrument.last_price = Some(plain(price.price));
                instrument.price_at = Some(price.at);
            }
        }
    }
}

/// How often the broker is asked.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceIntervals {
    /// For assets.
    pub assets: Duration,
    /// For prices.
    pub prices: Duration,
}

/// Keeps the instruments fresh until `shutdown`.
pub async fn run<C: Caller, D: MarketDialect>(
    caller: Arc<C>,
    dialect: Arc<D>,
    instruments: Instruments,
    intervals: ReferenceIntervals,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(intervals.prices);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut assets_due = Instant::now();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if Instant::now() >= assets_due {
            let result = caller.call(dialect.assets()).await;
            match dialect.read_assets(&result) {
                Some(assets) => {
                    instruments.put_assets(assets);
                    assets_due = Instant::now() + intervals.assets;
                }
                None => failed("assets"),
            }
        }
        for symbols in instruments.symbols().chunks(SYMBOLS_PER_CALL_MAX) {
            let result = caller.call(dialect.prices(symbols)).await;
            match dialect.read_prices(&result) {
                Some(prices) => instruments.put_prices(prices),
                None => failed("prices"),
            }
        }
    }
}

fn failed(what: &'static str) {
    metrics::counter!("gateway_reference_failures_total", "what" => what).increment(1);
    tracing::debug!(what, "reference data could not be read");
}
