//! One trace an order over all processes, lines of the log that name it, no secret in any, and metrics that explain
//! themselves: everything that an operator looks at, looked at.

pub mod collector;
pub mod lines;
pub mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use rust_decimal::Decimal;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use self::collector::{Collector, Step};
use super::exercise::Exercise;
use super::outcome::Outcome;
use super::trader::{Order, Placed};
use crate::stack::{ProcessName, StackError, describe_error};

/// What the processes show the collector; a secret like any other.
pub const AUTHORIZATION: &str = "Bearer planted-for-the-collector";
/// The orders, each with what it does at the broker.
const ORDERS: [(&str, &str, Option<&str>); 3] =
    [("trace-0", "AAPL", None), ("trace-1", "MSFT", None), ("trace-2", "TSLA", Some("drop_reply"))];
/// How long the outcome of an order may stay unknown.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// How long the last step of an order may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Variables that make every process of the engine send its steps, and write everything it can into its log.
#[must_use]
pub fn variables(collector: &Collector) -> BTreeMap<ProcessName, Vec<(String, String)>> {
    let of = |prefix: &str| {
        let own = [("OTLP_ENDPOINT", collector.url()), ("OTLP_AUTHORIZATION", AUTHORIZATION), ("INTERVAL_MS", "100")];
        let own = own.map(|(name, value)| (format!("{prefix}__TELEMETRY__{name}"), value.to_owned()));
        own.into_iter().chain([("RUST_LOG".to_owned(), "trace".to_owned())]).collect::<Vec<_>>()
    };
    let log = vec![("RUST_LOG".to_owned(), "trace".to_owned())];
    let engine = ProcessName::ENGINE.into_iter().zip(["ORDER_SERVER", "BROKER_GATEWAY", "FILL_RECEIVER"]);
    engine.map(|(name, prefix)| (name, of(prefix))).chain([(ProcessName::BrokerSim, log)]).collect()
}

/// Places a few orders, one of them through a doubt, and looks at what there is to see. Answers with the trees.
///
/// # Errors
/// When the broker cannot be told, or a log not be read.
pub async fn run(
    exercise: &Exercise,
    collector: &Collector,
    settle_limit: Duration,
) -> Result<(Outcome, String), StackError> {
    let Some(trader) = exercise.traders.first() else { return Ok((Outcome::default(), String::new())) };
    let mut posted = Vec::new();
    for (name, symbol, fault) in ORDERS {
        if let Some(fault) = fault {
            exercise.add_fault(&json!({"match": {"symbol": symbol}, "fault": fault})).await?;
        }
        let order = Order {
            client_order_id: name.to_owned(),
            symbol: symbol.to_owned(),
            qty: Decimal::ONE,
            side: "buy",
            order_type: "market",
            time_in_force: "day",
            limit_price: None,
        };
        let (placed, _) = trader.post_until_known(&order, ANSWER_LIMIT).await;
        posted.push((trader.index, order, placed));
    }
    wait_until_filled(exercise, settle_limit).await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    let ids: Vec<Uuid> = posted
        .iter()
        .filter_map(|(_, _, placed)| match placed {
            Placed::Accepted(id) => Some(*id),
            Placed::Refused { .. } | Placed::Unknown(_) => None,
        })
        .collect();
    outcome.require(ids.len() == ORDERS.len(), "not every order was accepted");
    outcome.require(outcome.tally().filled == ORDERS.len(), "not every order was filled");
    let mut text = String::new();
    for id in &ids {
        let (steps, faults) = arrived(collector, *id).await;
        faults.iter().for_each(|fault| outcome.require(false, fault));
        text.push_str(&tree::text(*id, &steps));
    }
    for fault in look_at_logs(exercise, &ids)?.into_iter().chain(look_at_pages(exercise).await) {
        outcome.require(false, &fault);
    }
    outcome.note("traces", ids.len());
    Ok((outcome, text))
}

/// Before the comparison, which cancels what is open.
async fn wait_until_filled(exercise: &Exercise, limit: Duration) {
    let until = Instant::now() + limit;
    let Some(trader) = exercise.traders.first() else { return };
    while Instant::now() < until {
        if trader.open_orders().await.is_ok_and(|open| open.is_empty()) {
            return;
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// The steps of an order once nothing is wrong with them, or when the patience is over.
async fn arrived(collector: &Collector, order: Uuid) -> (Vec<Step>, Vec<String>) {
    let until = Instant::now() + ARRIVAL_LIMIT;
    loop {
        let steps = collector.trace(order.as_bytes());
        let faults = tree::faults(order, &steps);
        if faults.is_empty() || Instant::now() >= until {
            return (steps, faults);
        }
        sleep(LOOK_PAUSE).await;
    }
}

fn look_at_logs(exercise: &Exercise, orders: &[Uuid]) -> Result<Vec<String>, StackError> {
    let mut secrets = exercise.stack.secrets();
    secrets
        .extend(exercise.traders.iter().map(|trader| ("a customer's secret".to_owned(), trader.secret().to_owned())));
    secrets.push(("the collector's token".to_owned(), AUTHORIZATION.to_owned()));
    let mut faults = Vec::new();
    for name in ProcessName::ENGINE.into_iter().chain([ProcessName::BrokerSim]) {
        let process = name.as_str();
        let path = exercise.stack.layout().log(process);
        let log = std::fs::read_to_string(&path)
            .map_err(|source| StackError::Io { what: format!("reading {}", path.display()), source })?;
        if !log.contains("\"level\":\"TRACE\"") {
            faults.push(format!("{process} did not write all that it can: the search for secrets proves nothing"));
        }
        faults.extend(lines::leaks(process, &log, &secrets));
        faults.extend(orders.iter().flat_map(|order| lines::faults(process, &log, &order.to_string())));
    }
    Ok(faults)
}

async fn look_at_pages(exercise: &Exercise) -> Vec<String> {
    let addresses = exercise.stack.addresses();
    let mut faults = Vec::new();
    for (process, base) in [
        ("order-server", &addresses.ops),
        ("broker-gateway", &addresses.gateway_ops),
        ("fill-receiver", &addresses.receiver_ops),
        ("broker-sim", &addresses.sim),
    ] {
        let asked = async { exercise.stack.http().get(format!("{base}/metrics")).send().await?.text().await };
        match asked.await {
            Ok(page) => faults.extend(lines::unexplained(process, &page)),
            Err(error) => faults.push(format!("the metrics of {process}: {}", describe_error(&error))),
        }
    }
    faults
}
