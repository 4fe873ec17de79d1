//! Administration that moves no money.

use super::PgStore;
use super::errors::failed;
use crate::application::query::{Admin, ApiKey, QueryError};
use crate::domain::asset::Asset;
use async_trait::async_trait;
use contracts::{AccountId, Currency, Partition};
use time::OffsetDateTime;
use uuid::Uuid;

#[async_trait]
impl Admin for PgStore {
    async fn create_account(
        &self,
        account: AccountId,
        currency: Currency,
        now: OffsetDateTime,
    ) -> Result<String, QueryError> {
        sqlx::query!(
            "insert into accounts (id, partition, number, currency, created_at)
             values ($1, $2, 'A' || nextval('account_numbers'), $3, $4)
             on conflict (id) do nothing",
            account.as_uuid(),
            Partition::of_account(account).number(),
            currency.to_string(),
            now,
        )
        .execute(&self.pool)
        .await
        .map_err(failed("create an account"))?;
        sqlx::query_scalar!("select number from accounts where id = $1", account.as_uuid())
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read an account's number"))
    }

    async fn store_key(&self, key: &ApiKey, now: OffsetDateTime) -> Result<(), QueryError> {
        sqlx::query!(
            "insert into api_keys (key_id, account_id, secret_sha256, created_at) values ($1, $2, $3, $4)",
            key.key_id,
            key.account_id.as_uuid(),
            key.secret_sha256.as_slice(),
            now,
        )
        .execute(&self.pool)
        .await
        .map_err(failed("store an api key"))?;
        Ok(())
    }

    async fn store_assets(&self, assets: &[Asset], now: OffsetDateTime) -> Result<(), QueryError> {
        let ids: Vec<Uuid> = assets.iter().map(|asset| asset.id).collect();
        let symbols: Vec<String> = assets.iter().map(|asset| asset.symbol.to_string()).collect();
        let names: Vec<String> = assets.iter().map(|asset| asset.name.clone()).collect();
        let exchanges: Vec<String> = assets.iter().map(|asset| asset.exchange.clone()).collect();
        let tradable: Vec<bool> = assets.iter().map(|asset| asset.tradable).collect();
        let fractionable: Vec<bool> = assets.iter().map(|asset| asset.fractionable).collect();
        let mut tx = self.pool.begin().await.map_err(failed("store assets"))?;
        // What is no longer listed stays known, and is no longer tradable.
        sqlx::query!("update assets set tradable = false where symbol <> all($1) and tradable", &symbols)
            .execute(&mut *tx)
            .await
            .map_err(failed("store assets"))?;
        sqlx::query!(
            "insert into assets (id, symbol, name, exchange, tradable, fractionable, updated_at)
             select w.*, $7 from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::boolean[]) w
             order by 2
             on conflict (symbol) do update set id = excluded.id, name = excluded.name, exchange = excluded.exchange,
                 tradable = excluded.tradable, fractionable = excluded.fractionable, updated_at = excluded.updated_at",
            &ids,
            &symbols,
            &names,
            &exchanges,
            &tradable,
            &fractionable,
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed("store assets"))?;
        tx.commit().await.map_err(failed("store assets"))
    }
}
