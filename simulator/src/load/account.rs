//! Accounts with cash and keys, many at once.

use futures_util::{StreamExt, TryStreamExt, stream};
use rust_decimal::Decimal;

use crate::drill::trader::Trader;
use crate::stack::{Operator, StackError};

/// Accounts that are opened at the same time.
const OPENED_AT_ONCE: usize = 64;

/// Opens `count` accounts with `deposit` US dollars each; their owners call the order API at `api_url`.
///
/// # Errors
/// When the order server refuses or cannot be reached.
pub async fn open_accounts(
    operator: &Operator,
    http: &reqwest::Client,
    api_url: &str,
    count: usize,
    deposit: Decimal,
) -> Result<Vec<Trader>, StackError> {
    let opened = stream::iter(0..count).map(|index| async move {
        let (_, key) = operator.open_account(&deposit.to_string(), "load").await?;
        Ok::<_, StackError>(Trader::new(index, deposit, key, api_url.to_owned(), http.clone()))
    });
    opened.buffered(OPENED_AT_ONCE).try_collect().await
}
