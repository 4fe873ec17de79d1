//! A customer of the order API, as a client library would behave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contracts::alpaca::{AccountEntity, ApiError, OrderEntity, PositionEntity};
use reqwest::{Method, RequestBuilder, StatusCode};
use rust_decimal::Decimal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::availability::Availability;
use crate::stack::{ApiKey, describe_error};

/// How long one call may take.
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// The pause between two tries of the same order.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Rows of one page of orders, the most that the API gives.
const PAGE_ROWS: usize = 500;
/// Most pages that are read of one account's orders.
const PAGES_MAX: usize = 1_000;

/// An order as a customer words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Order {
    /// The customer's own id of it.
    pub client_order_id: String,
    /// What is traded.
    pub symbol: String,
    /// How many shares.
    pub qty: Decimal,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// `market` or `limit`.
    #[serde(rename = "type")]
    pub order_type: &'static str,
    /// `day` or `gtc`.
    pub time_in_force: &'static str,
    /// The worst price of a limit order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_price: Option<Decimal>,
}

/// What a customer knows after one or more tries of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It was taken, as the order with this id.
    Accepted(Uuid),
    /// It was refused for good.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The dialect's code.
        code: u32,
        /// For people.
        message: String,
    },
    /// It may or may not have been taken.
    Unknown(String),
}

/// An account with its key.
#[derive(Clone, Debug)]
pub struct Trader {
    /// Its place among the traders.
    pub index: usize,
    /// What was deposited.
    pub deposit: Decimal,
    key: ApiKey,
    /// Order servers, each as good as the other.
    base_urls: Vec<String>,
    /// Which of them is asked; another one after a failure.
    turn: Arc<AtomicUsize>,
    http: reqwest::Client,
    availability: Arc<Availability>,
}

impl Trader {
    /// The customer that holds `key`.
    #[must_use]
    pub fn new(index: usize, deposit: Decimal, key: ApiKey, base_url: String, http: reqwest::Client) -> Self {
        let base_urls = vec![base_url];
        let (turn, availability) = (Arc::new(AtomicUsize::new(index)), Arc::default());
        Self { index, deposit, key, base_urls, turn, http, availability }
    }

    /// The same customer at several order servers, each as good as the other; customers spread over them.
    #[must_use]
    pub fn at(self, base_urls: Vec<String>) -> Self {
        Self { base_urls, ..self }
    }

    /// The same customer, whose answers are counted there.
    #[must_use]
    pub fn counted_by(self, availability: Arc<Availability>) -> Self {
        Self { availability, ..self }
    }

    /// The secret of the customer's key, to look for where it must not be.
    pub(super) fn secret(&self) -> &str {
        &self.key.secret_key
    }

    fn base_url(&self) -> &str {
        let turn = self.turn.load(Ordering::Relaxed);
        self.base_urls.get(turn.checked_rem(self.base_urls.len()).unwrap_or_default()).map_or("", String::as_str)
    }

    /// Asks another server from now on, as a client library or a load balancer does.
    fn turn_away(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// The same customer with connections of its own, which begins at another server.
    #[must_use]
    pub fn worker(&self, number: usize) -> Self {
        Self { turn: Arc::new(AtomicUsize::new(self.index + number)), ..self.clone() }
    }

    /// Posts an order once.
    pub async fn post(&self, order: &Order) -> Placed {
        let answer = match self.request(Method::POST, "/v2/orders").json(order).send().await {
            Ok(answer) => answer,
            Err(error) => return Placed::Unknown(describe_error(&error)),
        };
        let status = answer.status();
        let text = match answer.text().await {
            Ok(text) => text,
            Err(error) => return Placed::Unknown(describe_error(&error)),
        };
        if status == StatusCode::OK {
            return match serde_json::from_str::<OrderEntity>(&text) {
                Ok(entity) => Placed::Accepted(entity.id),
                Err(error) => Placed::Unknown(format!("{error} in {text}")),
            };
        }
        match serde_json::from_str::<ApiError>(&text) {
            Ok(error) if is_final(status) => {
                Placed::Refused { status: status.as_u16(), code: error.code, message: error.message }
            }
            _ => Placed::Unknown(format!("{status}: {text}")),
        }
    }

    /// Posts an order, and again with the same id as long as the outcome is unknown, until the limit. Tells also how
    /// many tries that took.
    pub async fn post_until_known(&self, order: &Order, limit: Duration) -> (Placed, u32) {
        let until = Instant::now() + limit;
        let mut tries = 0;
        loop {
            tries += 1;
            let placed = self.post(order).await;
            let known = !matches!(placed, Placed::Unknown(_));
            if known {
                self.availability.answered();
            }
            if known || Instant::now() > until {
                return (placed, tries);
            }
            self.turn_away();
            sleep(RETRY_PAUSE).await;
        }
    }

    /// The order with an id that the server gave.
    ///
    /// # Errors
    /// The answer or the connection's error, for people.
    pub async fn order(&self, id: Uuid) -> Result<OrderEntity, String> {
        self.get(&format!("/v2/orders/{id}"), &[]).await
    }

    /// All orders of the account, oldest first.
    ///
    /// # Errors
    /// The answer or the connection's error, for people.
    pub async fn orders(&self) -> Result<Vec<OrderEntity>, String> {
        let mut all: Vec<OrderEntity> = Vec::new();
        for _ in 0..PAGES_MAX {
            let rows = PAGE_ROWS.to_string();
            let mut query = vec![("status", "all".to_owned()), ("direction", "asc".to_owned()), ("limit", rows)];
            if let Some(last) = all.last() {
                query.push(("after_order_id", last.id.to_string()));
            }
            let page: Vec<OrderEntity> = self.get("/v2/orders", &query).await?;
            let full = page.len() == PAGE_ROWS;
            all.extend(page);
            if !full {
                return Ok(all);
            }
        }
        Err("the list of orders does not end".to_owned())
    }

    /// Up to one page of the orders that are not finished.
    ///
    /// # Errors
    /// The answer or the connection's error, for people.
    pub async fn open_orders(&self) -> Result<Vec<OrderEntity>, String> {
        self.get("/v2/orders", &[("status", "open".to_owned()), ("limit", PAGE_ROWS.to_string())]).await
    }

    /// Asks for the cancel of an order; whether the server took the request.
    pub async fn cancel(&self, id: Uuid) -> bool {
        let answer = self.request(Method::DELETE, &format!("/v2/orders/{id}")).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::NO_CONTENT)
    }

    /// The account.
    ///
    /// # Errors
    /// The answer or the connection's error, for people.
    pub async fn account(&self) -> Result<AccountEntity, String> {
        self.get("/v2/account", &[]).await
    }

    /// The positions.
    ///
    /// # Errors
    /// The answer or the connection's error, for people.
    pub async fn positions(&self) -> Result<Vec<PositionEntity>, String> {
        self.get("/v2/positions", &[]).await
    }

    /// The head of a raw request of this customer, for a client that writes to the socket itself.
    #[must_use]
    pub fn raw_post(&self, order: &Order) -> Option<(String, Vec<u8>)> {
        let address = self.base_url().strip_prefix("http://")?.to_owned();
        let body = serde_json::to_vec(order).ok()?;
        let head = format!(
            "POST /v2/orders HTTP/1.1\r\nHost: {address}\r\nAPCA-API-KEY-ID: {}\r\nAPCA-API-SECRET-KEY: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.key.key_id,
            self.key.secret_key,
            body.len()
        );
        Some((address, [head.into_bytes(), body].concat()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, String> {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.base_url())).map_err(|error| error.to_string())?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.authorised(self.http.get(url));
        let answer = request.send().await.map_err(|error| {
            self.turn_away();
            describe_error(&error)
        })?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| describe_error(&error))?;
        if status != StatusCode::OK {
            return Err(format!("GET {path}: {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("GET {path}: {error} in {text}"))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.authorised(self.http.request(method, format!("{}{path}", self.base_url())))
    }

    fn authorised(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header("APCA-API-KEY-ID", &self.key.key_id)
            .header("APCA-API-SECRET-KEY", &self.key.secret_key)
            .timeout(CALL_LIMIT)
    }
}

/// Whether a status ends the question. After 408, 429 and any 5xx the same order may be posted again.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::TOO_MANY_REQUESTS
}
