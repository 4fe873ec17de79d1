//! The broker's assets and last prices.

use super::Alpaca;
use crate::application::reference::{Asset, LastPrice, MarketDialect};
use crate::application::wire::{Verb, WireRequest, WireResult};
use contracts::alpaca::{AssetEntity, AssetStatus, LatestTrades};

impl MarketDialect for Alpaca {
    fn assets(&self) -> WireRequest {
        WireRequest { verb: Verb::Get, target: "/v1/assets?status=active".to_owned(), body: None, traceparent: None }
    }

    fn prices(&self, symbols: &[String]) -> WireRequest {
        let list: Vec<String> = symbols.iter().map(|symbol| super::segment(symbol)).collect();
        let target = format!("/v2/stocks/trades/latest?symbols={}", list.join("%2C"));
        WireRequest { verb: Verb::Get, target, body: None, traceparent: None }
    }

    fn read_assets(&self, result: &WireResult) -> Option<Vec<Asset>> {
        let reply = result.as_ref().ok().filter(|reply| reply.status == 200)?;
        let assets: Vec<AssetEntity> = serde_json::from_slice(&reply.body).ok()?;
        let listed = assets.into_iter().filter(|asset| asset.status == AssetStatus::Active);
        Some(
            listed
                .map(|asset| Asset {
                    id: asset.id,
                    name: asset.name.unwrap_or_else(|| asset.symbol.clone()),
                    symbol: asset.symbol,
                    exchange: asset.exchange.as_str().to_owned(),
                    tradable: asset.tradable,
                    fractionable: asset.fractionable,
                })
                .collect(),
        )
    }

    fn read_prices(&self, result: &WireResult) -> Option<Vec<LastPrice>> {
        let reply = result.as_ref().ok().filter(|reply| reply.status == 200)?;
        let latest: LatestTrades = serde_json::from_slice(&reply.body).ok()?;
        let prices = latest.trades.into_iter();
        Some(prices.map(|(symbol, trade)| LastPrice { symbol, price: trade.price, at: trade.at }).collect())
    }
}
