//! Whether what was measured is right: every order's answer against the books and the broker's truth.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use super::OrderBook;
use crate::drill::check::{AccountView, Invariant, Kind, Verdict, compare};
use crate::drill::oracle::broker_orders;
use crate::drill::trader::{Order, Placed, Trader};
use crate::stack::{Stack, describe_error};

/// Accounts that are read at the same time.
const READ_AT_ONCE: usize = 32;
/// What comes twice may come late.
const LATE: Duration = Duration::from_secs(3);

/// Compares all that was posted, once everything is at rest.
///
/// # Errors
/// When the order API or the oracle cannot be read.
pub(super) async fn prove(stack: &Stack, book: &OrderBook, posted: &[(u64, Placed)]) -> Result<Verdict, String> {
    sleep(LATE).await;
    let broker = broker_orders(stack.http(), &stack.addresses().sim).await?;
    let mut by_account: BTreeMap<usize, Vec<(Order, Placed)>> = BTreeMap::new();
    for (number, placed) in posted {
        let (trader, order) = book.order(*number).ok_or("an order without an account")?;
        by_account.entry(trader.index).or_default().push((order, placed.clone()));
    }
    let views = book.traders().iter().map(|trader| view(trader, by_account.remove(&trader.index).unwrap_or_default()));
    let views: Vec<AccountView> = stream::iter(views).buffered(READ_AT_ONCE).try_collect().await?;
    let mut verdict = compare(&views, &broker);
    for violation in stack.operator().audit().await.map_err(|error| describe_error(&error))? {
        verdict.breach(Invariant::I4, Kind::Wrong, None, format!("the order server's audit: {violation}"));
    }
    Ok(verdict)
}

async fn view(trader: &Trader, posted: Vec<(Order, Placed)>) -> Result<AccountView, String> {
    Ok(AccountView {
        deposit: trader.deposit,
        posted,
        orders: trader.orders().await?,
        account: trader.account().await?,
        positions: trader.positions().await?,
    })
}
