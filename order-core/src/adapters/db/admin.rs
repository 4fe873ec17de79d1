//! What is kept of the broker's list of assets.

use super::PgStore;
use super::errors::failed;
use crate::application::query::{Admin, QueryError};
use crate::domain::asset::Asset;
use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

#[async_trait]
impl Admin for PgStore {
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
