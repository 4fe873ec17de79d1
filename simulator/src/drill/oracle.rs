//! What really happened at the simulated broker.

use std::time::Duration;

use contracts::broker_key::BrokerKey;
use rust_decimal::Decimal;
use serde::Deserialize;
use uuid::Uuid;

use crate::stack::describe_error;

const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Most pages that are read.
const PAGES_MAX: usize = 10_000;

/// One order as the broker has it.
#[derive(Clone, Debug, Deserialize)]
pub struct BrokerOrder {
    /// The broker's id.
    pub id: Uuid,
    /// The key under which we sent it.
    pub client_order_id: String,
    /// What is traded.
    pub symbol: String,
    /// `buy` or `sell`.
    pub side: String,
    /// How many shares.
    pub qty: Decimal,
    /// The worst price of a limit order.
    pub limit_price: Option<Decimal>,
    /// The broker's status word.
    pub status: String,
    /// Shares filled.
    pub filled_qty: Decimal,
    /// Placed by somebody else than us.
    pub foreign: bool,
    /// Its executions.
    pub executions: Vec<BrokerExecution>,
}

/// One execution as the broker has it.
#[derive(Clone, Debug, Deserialize)]
pub struct BrokerExecution {
    /// Its id.
    pub execution_id: Uuid,
    /// How many shares.
    pub qty: Decimal,
    /// At which price.
    pub price: Decimal,
}

impl BrokerOrder {
    /// The id of our order that it was made for.
    #[must_use]
    pub fn our_id(&self) -> Option<Uuid> {
        BrokerKey::parse(&self.client_order_id).ok().map(|key| key.order_id().as_uuid())
    }
}

#[derive(Deserialize)]
struct Page {
    orders: Vec<BrokerOrder>,
    next_after: Option<u64>,
}

/// Reads every order of the broker at `sim_url`.
///
/// # Errors
/// The answer or the connection's error, for people.
pub async fn broker_orders(http: &reqwest::Client, sim_url: &str) -> Result<Vec<BrokerOrder>, String> {
    let mut all = Vec::new();
    let mut query = String::new();
    for _ in 0..PAGES_MAX {
        let request = http.get(format!("{sim_url}/sim/v1/oracle/orders{query}")).timeout(CALL_LIMIT);
        let answer = request.send().await.map_err(|error| describe_error(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| describe_error(&error))?;
        if !status.is_success() {
            return Err(format!("the oracle: {status}: {text}"));
        }
        let page: Page = serde_json::from_str(&text).map_err(|error| format!("the oracle: {error}"))?;
        all.extend(page.orders);
        match page.next_after {
            Some(after) => query = format!("?after={after}"),
            None => return Ok(all),
        }
    }
    Err("the oracle's list does not end".to_owned())
}
