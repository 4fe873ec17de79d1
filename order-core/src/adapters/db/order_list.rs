//! Lists of orders. One statement for each scope and direction, with plain order by id: a statement
//! that can do everything makes the planner sort a large account's whole history.

use super::PgStore;
use super::rows::{OrderRow, select_orders};
use crate::application::query::{OrderFilter, OrderScope};
use contracts::{AccountId, OrderId, Side, Symbol};

macro_rules! list {
    ($store:expr, $account:expr, $filter:expr, $symbols:expr, $sql:literal) => {
        select_orders!(
            "where ($2::timestamptz is null or accepted_at > $2)
               and ($3::timestamptz is null or accepted_at < $3)
               and ($4::uuid is null or id < $4)
               and ($5::uuid is null or id > $5)
               and ($6::text[] is null or symbol = any($6))
               and ($7::text is null or side = $7) "
                + $sql,
            $account.as_uuid(),
            $filter.after,
            $filter.until,
            $filter.before_order_id.map(OrderId::as_uuid),
            $filter.after_order_id.map(OrderId::as_uuid),
            $symbols,
            $filter.side.map(Side::as_str),
            $filter.limit,
        )
        .fetch_all(&$store.pool)
        .await
    };
}

pub(super) async fn read(
    store: &PgStore,
    account: AccountId,
    filter: &OrderFilter,
) -> Result<Vec<OrderRow>, sqlx::Error> {
    let symbols: Vec<String> = filter.symbols.iter().map(Symbol::to_string).collect();
    let symbols = (!symbols.is_empty()).then_some(symbols);
    let symbols = symbols.as_deref();
    match (filter.scope, filter.ascending) {
        (OrderScope::Open, true) => {
            list!(store, account, filter, symbols, "and account_id = $1 and not closed order by id limit $8")
        }
        (OrderScope::Open, false) => {
            list!(store, account, filter, symbols, "and account_id = $1 and not closed order by id desc limit $8")
        }
        (OrderScope::Closed, true) => {
            list!(store, account, filter, symbols, "and account_id = $1 and closed order by id limit $8")
        }
        (OrderScope::Closed, false) => {
            list!(store, account, filter, symbols, "and account_id = $1 and closed order by id desc limit $8")
        }
        (OrderScope::All, true) => {
            list!(store, account, filter, symbols, "and account_id = $1 order by id limit $8")
        }
        (OrderScope::All, false) => {
            list!(store, account, filter, symbols, "and account_id = $1 order by id desc limit $8")
        }
    }
}
