//! What really happened at the simulated broker.

use std::collections::{BTreeMap, BTreeSet};
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
#[serde(from = "Listed")]
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
    /// Its executions that stand: what a bust or a correction took back is gone.
    pub executions: Vec<BrokerExecution>,
    /// Everything that it told of executions.
    pub reports: Vec<Report>,
}

/// An order as the oracle lists it.
#[derive(Deserialize)]
struct Listed {
    id: Uuid,
    client_order_id: String,
    symbol: String,
    side: String,
    qty: Decimal,
    limit_price: Option<Decimal>,
    status: String,
    filled_qty: Decimal,
    foreign: bool,
    executions: Vec<Report>,
}

impl From<Listed> for BrokerOrder {
    fn from(listed: Listed) -> Self {
        Self {
            id: listed.id,
            client_order_id: listed.client_order_id,
            symbol: listed.symbol,
            side: listed.side,
            qty: listed.qty,
            limit_price: listed.limit_price,
            status: listed.status,
            filled_qty: listed.filled_qty,
            foreign: listed.foreign,
            executions: standing(&listed.executions),
            reports: listed.executions,
        }
    }
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

/// What an execution report of the broker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// Shares were traded.
    Trade,
    /// Another execution is void.
    Bust,
    /// Another execution is replaced.
    Correct,
}

/// An execution report, with what it takes back.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// What it is about.
    pub kind: ReportKind,
    /// The execution that it takes back.
    pub previous: Option<Uuid>,
    /// The figures; the quantity of a bust is negative.
    #[serde(flatten)]
    pub execution: BrokerExecution,
}

/// Of all reports of an order, the executions that nothing took back. A bust of a corrected execution voids all of it.
fn standing(reports: &[Report]) -> Vec<BrokerExecution> {
    let taken_back: BTreeSet<Uuid> = reports.iter().filter_map(|report| report.previous).collect();
    let stands =
        |report: &&Report| report.kind != ReportKind::Bust && !taken_back.contains(&report.execution.execution_id);
    reports.iter().filter(stands).map(|report| report.execution.clone()).collect()
}

impl BrokerOrder {
    /// The id of our order that it was made for.
    #[must_use]
    pub fn our_id(&self) -> Option<Uuid> {
        BrokerKey::parse(&self.client_order_id).ok().map(|key| key.order_id().as_uuid())
    }
}

/// How often each kind of fault was to strike, and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct FaultTally {
    /// How often it was to strike.
    pub armed: u64,
    /// How often it did.
    pub hits: u64,
}

/// Reads how often each kind of fault struck at the broker at `sim_url`.
///
/// # Errors
/// The answer or the connection's error, for people.
pub async fn faults(http: &reqwest::Client, sim_url: &str) -> Result<BTreeMap<String, FaultTally>, String> {
    #[derive(Deserialize)]
    struct Faults {
        kinds: BTreeMap<String, FaultTally>,
    }
    let request = http.get(format!("{sim_url}/sim/v1/oracle/faults")).timeout(CALL_LIMIT);
    let answer = request.send().await.map_err(|error| describe_error(&error))?;
    let text = answer.text().await.map_err(|error| describe_error(&error))?;
    let faults: Faults = serde_json::from_str(&text).map_err(|error| format!("the oracle: {error}: {text}"))?;
    Ok(faults.kinds)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_nothing_took_back_counts() {
        let report = |n: u128, kind: &str, previous: Option<u128>, qty: &str| {
            json!({"execution_id": Uuid::from_u128(n), "kind": kind, "previous": previous.map(Uuid::from_u128),
                   "qty": qty, "price": "10"})
        };
        let order = json!({
            "id": Uuid::nil(), "client_order_id": "k", "symbol": "F", "side": "buy", "qty": "9", "limit_price": null,
            "status": "filled", "filled_qty": "5", "foreign": false,
            "executions": [report(1, "trade", None, "4"), report(2, "trade", None, "3"), report(3, "trade", None, "2"),
                           report(4, "bust", Some(1), "-4"), report(5, "correct", Some(2), "3"),
                           report(6, "correct", Some(5), "3")],
        });
        let order: BrokerOrder = serde_json::from_value(order).unwrap();
        let ids: Vec<u128> = order.executions.iter().map(|execution| execution.execution_id.as_u128()).collect();
        assert_eq!(ids, [3, 6]);
    }
}
