//! Short drills about one account: many spenders of one balance, one order posted many times, clients that hang up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::exercise::Exercise;
use super::load::Posted;
use super::outcome::Outcome;
use super::trader::{Order, Placed, Trader};
use crate::stack::{ProcessName, StackError};

/// Concurrent spenders of one balance.
const SPENDERS: usize = 20;
/// Concurrent posts of one order.
const POSTS: usize = 100;
/// How long the outcome of an order may stay unknown.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// An order of an account that somebody hung up on must not wait for a lock's expiry.
const LOCK_FREE_LIMIT: Duration = Duration::from_secs(5);

/// A limit order far below the market: it holds its cash and is not filled.
fn patient(id: String, qty: u64, limit_price: Decimal) -> Order {
    Order {
        client_order_id: id,
        symbol: "AAPL".to_owned(),
        qty: Decimal::from(qty),
        side: "buy",
        order_type: "limit",
        time_in_force: "gtc",
        limit_price: Some(limit_price.normalize()),
    }
}

/// Twenty spenders post orders that together cost twice the balance of the first customer, with Redis down: as many are
/// accepted as the balance pays, and one more for each that the broker ended meanwhile, whose cash was free again. That
/// no order took cash before it was free is in the journal, which the audit at the end reads line by line.
///
/// # Errors
/// When Redis cannot be stopped or started.
pub async fn overspend(exercise: &Exercise, orders: usize, settle_limit: Duration) -> Result<Outcome, StackError> {
    let Some(trader) = exercise.traders.first() else { return Ok(Outcome::default()) };
    exercise.stack.stop(ProcessName::Redis).await?;
    exercise.say("Redis is down");
    let orders_each = orders.div_ceil(SPENDERS);
    let orders = SPENDERS * orders_each;
    // All orders together cost twice the balance.
    let affordable = orders / 2;
    let price = trader.deposit / Decimal::from(affordable) / Decimal::TEN;
    let mut spenders = JoinSet::new();
    for spender in 0..SPENDERS {
        let trader = trader.clone();
        spenders.spawn(async move {
            let mut posted = Posted::new();
            for number in 0..orders_each {
                let order = patient(format!("spender{spender}-{number}"), 10, price);
                let (placed, _) = trader.post_until_known(&order, ANSWER_LIMIT).await;
                posted.push((trader.index, order, placed));
            }
            posted
        });
    }
    let posted: Posted = spenders.join_all().await.into_iter().flatten().collect();
    let accepted = posted.iter().filter(|(_, _, placed)| matches!(placed, Placed::Accepted(_))).count();
    let held = trader.account().await;
    let ended = match trader.orders().await {
        Ok(orders) => orders.iter().filter(|order| order.status.is_terminal()).count(),
        Err(error) => return Err(StackError::Operator { call: "GET /v2/orders".to_owned(), why: error }),
    };
    exercise.say(&format!(
        "{accepted} of {orders} orders were accepted, {affordable} can be paid at once, {ended} ended meanwhile"
    ));
    exercise.stack.restart(ProcessName::Redis).await?;
    exercise.stack.wait_ready(ProcessName::Redis).await?;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.note("accepted", accepted);
    outcome.note("ended_meanwhile", ended);
    outcome.require(
        accepted <= affordable + ended,
        &format!("{accepted} orders were accepted, {affordable} can be paid and {ended} freed their cash"),
    );
    outcome
        .require(accepted >= affordable, &format!("only {accepted} of {affordable} affordable orders were accepted"));
    match held {
        Ok(account) => outcome.require(
            account.buying_power >= Decimal::ZERO,
            &format!("the buying power was {} while the orders were open", account.buying_power),
        ),
        Err(error) => outcome.require(false, &format!("the account could not be read without Redis: {error}")),
    }
    Ok(outcome)
}

/// One order posted a hundred times at once is one order, and another body under its id is refused; with each of some
/// orders, one after the other.
///
/// # Errors
/// None at present; the type is that of the other drills.
pub async fn duplicate(exercise: &Exercise, orders: usize, settle_limit: Duration) -> Result<Outcome, StackError> {
    let (mut posted, mut wrongs) = (Posted::new(), Vec::new());
    for (number, trader) in exercise.traders.iter().cycle().take(orders).enumerate() {
        let order = patient(format!("same-{number}"), 1, Decimal::TEN);
        wrongs.extend(post_at_once(trader, &order).await);
        let (placed, _) = trader.post_until_known(&order, ANSWER_LIMIT).await;
        posted.push((trader.index, order, placed));
    }
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.strike(orders.saturating_mul(POSTS - 1) as u64);
    outcome.note("posts", orders * POSTS);
    outcome.require(wrongs.is_empty(), &format!("{} wrong answers, first: {:?}", wrongs.len(), wrongs.first()));
    Ok(outcome)
}

/// Posts an order many times at once, and then another body under its id. Answers what was wrong.
async fn post_at_once(trader: &Trader, order: &Order) -> Vec<String> {
    let mut posts = JoinSet::new();
    for _ in 0..POSTS {
        let (trader, order) = (trader.clone(), order.clone());
        posts.spawn(async move { trader.post(&order).await });
    }
    let answers = posts.join_all().await;
    let mut ids = BTreeSet::new();
    let mut other = Vec::new();
    for answer in answers {
        match answer {
            Placed::Accepted(id) => {
                ids.insert(id);
            }
            Placed::Refused { .. } | Placed::Unknown(_) => other.push(format!("{answer:?}")),
        }
    }
    if ids.len() != 1 {
        other.push(format!("{} different orders were answered", ids.len()));
    }
    let changed = trader.post(&Order { qty: Decimal::TWO, ..order.clone() }).await;
    if !matches!(changed, Placed::Refused { status: 422, code: 40_010_001, .. }) {
        other.push(format!("another body under the same id was answered with {changed:?}"));
    }
    other
}

/// Clients hang up after more and more of their request: nothing stays locked, and each order is there whole or not at
/// all.
///
/// # Errors
/// When a raw request cannot be made.
pub async fn hang_up(exercise: &Exercise, orders: usize, settle_limit: Duration) -> Result<Outcome, StackError> {
    let Some(trader) = exercise.traders.first() else { return Ok(Outcome::default()) };
    // Two clients that hang up make three orders: the one that broke off may come to nothing.
    let hang_ups = orders.saturating_mul(2).div_ceil(3);
    let mut posted = Posted::new();
    let mut whole = 0;
    let mut slowest = Duration::ZERO;
    for number in 0..hang_ups {
        let order = patient(format!("hangup-{number}"), 1, Decimal::TEN);
        // Every second client has said all that it had to say; the others break off earlier and earlier.
        let complete = number % 2 == 0;
        whole += usize::from(complete);
        hang_up_once(trader, &order, complete, number).await?;
        let started = Instant::now();
        let next = patient(format!("after-{number}"), 1, Decimal::TEN);
        let (placed, _) = trader.post_until_known(&next, ANSWER_LIMIT).await;
        slowest = slowest.max(started.elapsed());
        posted.push((trader.index, next, placed));
        if complete {
            // The customer asks again, as one whose connection broke does.
            let (placed, _) = trader.post_until_known(&order, ANSWER_LIMIT).await;
            posted.push((trader.index, order, placed));
        }
    }
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.strike(hang_ups as u64);
    outcome.note("hang_ups", hang_ups);
    outcome.note("complete_requests", whole);
    outcome.note("slowest_order_after_ms", u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX));
    outcome.require(slowest < LOCK_FREE_LIMIT, &format!("an order after a hang-up took {} ms", slowest.as_millis()));
    Ok(outcome)
}

async fn hang_up_once(trader: &Trader, order: &Order, complete: bool, number: usize) -> Result<(), StackError> {
    let failed = |why: String| StackError::Operator { call: "POST /v2/orders, raw".to_owned(), why };
    let (address, bytes) = trader.raw_post(order).ok_or_else(|| failed("no request could be made".to_owned()))?;
    let said = if complete { bytes.len() } else { bytes.len().saturating_sub(1 + (number % 100) * 3) };
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(bytes.get(..said).unwrap_or(&bytes)).await?;
        stream.flush().await
        // Dropped here: the connection closes with the answer unread.
    };
    talk.await.map_err(|error: std::io::Error| failed(error.to_string()))
}
