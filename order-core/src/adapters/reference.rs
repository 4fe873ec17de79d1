//! Polls the gateway for what may be traded and at about what price.

use crate::application::query::{Admin, Queries, QueryError};
use crate::application::reference::ReferenceData;
use crate::domain::asset::{Asset, ReferencePrice};
use contracts::{Price, Symbol};
use platform::address::shown_url;
use platform::clock::Clock;
use platform::config::Secret;
use reqwest::{Client, Response, StatusCode, Url};
use rust_decimal::RoundingStrategy;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Most bytes of one answer: room for the whole US list.
const ANSWER_LEN_MAX: usize = 16 * 1024 * 1024;

/// Longest wait for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Decimals of a price.
const PRICE_SCALE: u32 = 4;

/// Longest name of an asset that is kept.
const NAME_LEN_MAX: usize = 256;

/// Why a poll brought nothing.
#[derive(Debug, Error)]
pub enum ReferenceError {
    /// The gateway's address is not a URL.
    #[error("gateway address {0} is not valid")]
    Address(String),
    /// The HTTP client could not be built.
    #[error("http client could not be built")]
    Client(#[source] reqwest::Error),
    /// No answer, or not in time.
    #[error("gateway could not be reached")]
    Unreachable(#[source] reqwest::Error),
    /// Another status than success.
    #[error("gateway answered status {0}")]
    Status(StatusCode),
    /// More bytes than any list has.
    #[error("gateway's list is larger than {ANSWER_LEN_MAX} bytes")]
    TooLarge,
    /// Not a list.
    #[error("gateway's list could not be read")]
    Malformed(#[source] serde_json::Error),
    /// The list could not be stored.
    #[error(transparent)]
    Store(#[from] QueryError),
}

/// One row of the gateway's list.
#[derive(Debug, Deserialize)]
struct Instrument {
    id: Uuid,
    symbol: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    exchange: Option<String>,
    tradable: bool,
    fractionable: bool,
    #[serde(default)]
    last_price: Option<Box<RawValue>>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    price_at: Option<OffsetDateTime>,
}

impl Instrument {
    /// None for a symbol that we could not store or trade.
    fn asset(&self) -> Option<Asset> {
        let name = self.name.as_deref().unwrap_or(&self.symbol);
        let clean = |text: &str| text.chars().filter(|c| !c.is_control()).take(NAME_LEN_MAX).collect();
        Some(Asset {
            id: self.id,
            symbol: Symbol::new(self.symbol.as_str()).ok()?,
            name: clean(name),
            exchange: clean(self.exchange.as_deref().unwrap_or_default()),
            tradable: self.tradable,
            fractionable: self.fractionable,
        })
    }

    fn price(&self) -> Option<(Symbol, ReferencePrice)> {
        let symbol = Symbol::new(self.symbol.as_str()).ok()?;
        let text = super::http::fields::number_text(self.last_price.as_deref()?)?;
        // A print between ticks is rounded up: holds are taken by this price, so never too low.
        let exact = contracts::alpaca::number::parse(&text).ok()?;
        let price = exact.round_dp_with_strategy(PRICE_SCALE, RoundingStrategy::AwayFromZero);
        Some((symbol, ReferencePrice { price: Price::new(price).ok()?, at: self.price_at? }))
    }
}

/// Keeps the copy in memory current.
pub struct ReferencePoller {
    url: Url,
    token: Secret,
    http: Client,
    data: Arc<ReferenceData>,
    admin: Arc<dyn Admin>,
    clock: Arc<dyn Clock>,
    /// The list in memory is not the stored one yet.
    unsaved: bool,
}

impl ReferencePoller {
    /// A poller of the gateway whose operator port is at `gateway_url`.
    ///
    /// # Errors
    /// [`ReferenceError::Address`] or [`ReferenceError::Client`].
    pub fn new(
        gateway_url: &str,
        token: Secret,
        data: Arc<ReferenceData>,
        admin: Arc<dyn Admin>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ReferenceError> {
        let address = || ReferenceError::Address(shown_url(gateway_url));
        let base = Url::parse(gateway_url).map_err(|_| address())?;
        let url = base.join("/reference/v1/instruments").map_err(|_| address())?;
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().timeout(TIMEOUT).build();
        let http = http.map_err(ReferenceError::Client)?;
        Ok(Self { url, token, http, data, admin, clock, unsaved: false })
    }

    /// Takes over the list that was stored last, so that a start does not need the gateway.
    ///
    /// # Errors
    /// [`ReferenceError::Store`].
    pub async fn load_stored(&self, queries: &dyn Queries) -> Result<(), ReferenceError> {
        self.data.replace_assets(queries.assets().await?);
        Ok(())
    }

    /// Polls until `shutdown`.
    pub async fn run(mut self, interval: Duration, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let polled = tokio::select! {
                () = shutdown.cancelled() => return,
                polled = self.poll() => polled,
            };
            let outcome = if polled.is_ok() { "ok" } else { "failed" };
            metrics::counter!("reference_polls_total", "outcome" => outcome).increment(1);
            match polled {
                Ok(()) if failing => tracing::info!("reference data is back"),
                // Once per outage: the metric counts the rest.
                Err(error) if !failing => {
                    tracing::warn!(error = %platform::telemetry::Chain(&error), "reference data is not refreshed");
                    failing = true;
                    continue;
                }
                Ok(()) | Err(_) => {}
            }
            failing = outcome == "failed";
        }
    }

    /// Polls once.
    ///
    /// # Errors
    /// [`ReferenceError`]; what was known stays.
    pub async fn poll(&mut self) -> Result<(), ReferenceError> {
        let response = self.http.get(self.url.clone()).bearer_auth(self.token.expose()).send().await;
        let response = response.map_err(ReferenceError::Unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(ReferenceError::Status(response.status()));
        }
        let body = read_bounded(response).await?;
        let rows: Vec<&RawValue> = serde_json::from_slice(&body).map_err(ReferenceError::Malformed)?;
        self.take(&rows).await
    }

    /// A row that cannot be read is left out and counted: it must not stop the others.
    async fn take(&mut self, rows: &[&RawValue]) -> Result<(), ReferenceError> {
        let now = self.clock.now();
        let instruments: Vec<Instrument> = rows.iter().filter_map(|row| serde_json::from_str(row.get()).ok()).collect();
        let assets: Vec<_> = instruments.iter().filter_map(Instrument::asset).collect();
        let skipped = rows.len() - assets.len();
        metrics::gauge!("reference_skipped").set(u32::try_from(skipped).unwrap_or(u32::MAX));
        metrics::gauge!("reference_assets").set(u32::try_from(assets.len()).unwrap_or(u32::MAX));
        self.data.update_prices(instruments.iter().filter_map(Instrument::price), now);
        self.unsaved |= self.data.replace_assets(assets);
        if self.unsaved {
            let list: Vec<_> = self.data.assets().iter().cloned().collect();
            self.admin.store_assets(&list, now).await?;
            self.unsaved = false;
        }
        Ok(())
    }
}

async fn read_bounded(mut response: Response) -> Result<Vec<u8>, ReferenceError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(ReferenceError::Unreachable)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_LEN_MAX {
            return Err(ReferenceError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruments(text: &str) -> Vec<Instrument> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn prices_are_read_exactly_from_text_and_from_literals() {
        let list = instruments(
            r#"[{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","symbol":"AAPL","name":"Apple","exchange":"NASDAQ",
                 "tradable":true,"fractionable":true,"last_price":187.1200,"price_at":"2026-07-01T14:00:00Z"},
                {"id":"61e69015-8549-4bfd-b9c3-01e75843f47e","symbol":"F","tradable":true,"fractionable":false,
                 "last_price":"12.50001","price_at":"2026-07-01T14:00:00Z"},
                {"id":"61e69015-8549-4bfd-b9c3-01e75843f47f","symbol":"NEW","tradable":false,"fractionable":false}]"#,
        );
        let prices: Vec<_> = list.iter().filter_map(Instrument::price).map(|(_, p)| p.price.to_string()).collect();
        assert_eq!(prices, ["187.12", "12.5001"]);
        assert_eq!(list.iter().filter_map(Instrument::asset).count(), 3);
    }

    #[test]
    fn a_row_that_could_not_be_stored_is_left_out_and_a_bad_price_only_the_price() {
        let list = instruments(
            r#"[{"id":"61e69015-8549-4bfd-b9c3-01e75843f47d","symbol":"bad symbol","tradable":true,"fractionable":true},
                {"id":"61e69015-8549-4bfd-b9c3-01e75843f47e","symbol":"F","name":"a\u0000b","tradable":true,
                 "fractionable":false,"last_price":-1,"price_at":"2026-07-01T14:00:00Z"}]"#,
        );
        assert!(list[0].asset().is_none());
        assert_eq!(list[1].asset().unwrap().name, "ab");
        assert!(list[1].price().is_none());
    }
}
