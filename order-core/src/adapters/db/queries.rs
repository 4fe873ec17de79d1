//! What the API reads.

use super::errors::{corrupt, failed};
use super::rows::{OrderRow, PositionRow, account_status, select_orders};
use super::{PgStore, order_list};
use crate::application::query::{AccountView, ApiKey, OrderFilter, PositionView, Queries, QueryError, StatusCounts};
use crate::domain::account::Balance;
use crate::domain::asset::Asset;
use crate::domain::order::Order;
use async_trait::async_trait;
use contracts::{AccountId, ClientOrderId, Currency, OrderId, Symbol};
use uuid::Uuid;

fn into_order(row: OrderRow) -> Result<Order, QueryError> {
    row.into_order().map_err(|e| corrupt("order", e))
}

#[async_trait]
impl Queries for PgStore {
    async fn order(&self, account: AccountId, order: OrderId) -> Result<Option<Order>, QueryError> {
        let row = select_orders!("where id = $1 and account_id = $2", order.as_uuid(), account.as_uuid())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read an order"))?;
        row.map(into_order).transpose()
    }

    async fn any_order(&self, order: OrderId) -> Result<Option<Order>, QueryError> {
        let account = sqlx::query_scalar!("select account_id from orders where id = $1", order.as_uuid())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read an order"))?;
        match account {
            Some(account) => self.order(AccountId::new(account), order).await,
            None => Ok(None),
        }
    }

    async fn order_by_client_id(&self, account: AccountId, id: &ClientOrderId) -> Result<Option<Order>, QueryError> {
        let row = select_orders!("where account_id = $1 and client_order_id = $2", account.as_uuid(), id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read an order"))?;
        row.map(into_order).transpose()
    }

    async fn orders(&self, account: AccountId, filter: &OrderFilter) -> Result<Vec<Order>, QueryError> {
        let rows = order_list::read(self, account, filter).await.map_err(failed("read orders"))?;
        rows.into_iter().map(into_order).collect()
    }

    async fn account(&self, account: AccountId) -> Result<Option<AccountView>, QueryError> {
        let row = sqlx::query!(
            "select number, status, halt_reason, currency, cash_available, cash_held, cash_shortfall, created_at
             from accounts where id = $1",
            account.as_uuid(),
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("read an account"))?;
        row.map(|row| {
            Ok(AccountView {
                id: account,
                number: row.number,
                status: account_status(&row.status).map_err(|e| corrupt("account", e))?,
                halt_reason: row.halt_reason,
                currency: Currency::new(&row.currency).map_err(|e| corrupt("account", e))?,
                cash: Balance { available: row.cash_available, held: row.cash_held, shortfall: row.cash_shortfall },
                created_at: row.created_at,
            })
        })
        .transpose()
    }

    async fn positions(&self, account: AccountId) -> Result<Vec<PositionView>, QueryError> {
        let rows = sqlx::query_as!(
            PositionRow,
            "select account_id, symbol, shares_available, shares_held, shares_shortfall, cost_basis
             from positions
             where account_id = $1 and (shares_available > 0 or shares_held > 0 or shares_shortfall > 0)
             order by symbol",
            account.as_uuid(),
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read positions"))?;
        let assets = self.assets().await?;
        rows.into_iter()
            .map(|row| {
                let (_, symbol, position) = row.into_position().map_err(|e| corrupt("position", e))?;
                // A share that was taken off the list is still owned.
                let asset = assets.iter().find(|asset| asset.symbol == symbol).cloned().unwrap_or_else(|| Asset {
                    id: Uuid::nil(),
                    name: symbol.to_string(),
                    symbol,
                    exchange: String::new(),
                    tradable: false,
                    fractionable: false,
                });
                Ok(PositionView { asset, position })
            })
            .collect()
    }

    async fn api_key(&self, key_id: &str) -> Result<Option<ApiKey>, QueryError> {
        let row = sqlx::query!(
            r#"select key_id, account_id, secret_sha256, expires_at is not null as "ends!" from api_keys
             where key_id = $1 and revoked_at is null and (expires_at is null or expires_at > clock_timestamp())"#,
            key_id
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(failed("read an api key"))?;
        row.map(|row| {
            Ok(ApiKey {
                key_id: row.key_id,
                account_id: AccountId::new(row.account_id),
                secret_sha256: row.secret_sha256.try_into().map_err(|_| corrupt("api key", "hash length"))?,
                ends: row.ends,
            })
        })
        .transpose()
    }

    async fn last_key_change(&self) -> Result<Uuid, QueryError> {
        sqlx::query_scalar!(r#"select last_key_change() as "last!""#)
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read the last change of api keys"))
    }

    async fn assets(&self) -> Result<Vec<Asset>, QueryError> {
        let rows =
            sqlx::query!("select id, symbol, name, exchange, tradable, fractionable from assets order by symbol")
                .fetch_all(&self.pool)
                .await
                .map_err(failed("read assets"))?;
        rows.into_iter()
            .map(|row| {
                Ok(Asset {
                    id: row.id,
                    symbol: Symbol::new(row.symbol).map_err(|e| corrupt("asset", e))?,
                    name: row.name,
                    exchange: row.exchange,
                    tradable: row.tradable,
                    fractionable: row.fractionable,
                })
            })
            .collect()
    }

    async fn status_counts(&self) -> Result<StatusCounts, QueryError> {
        let rows = sqlx::query!(
            r#"select status, count(*) as "count!" from orders where not closed group by status order by status"#
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("count orders"))?;
        Ok(rows.into_iter().map(|row| (row.status, row.count)).collect())
    }
}
