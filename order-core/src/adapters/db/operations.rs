//! Operators' work that moves no balance. Each step and its record are one transaction.

use super::PgStore;
use super::errors::{corrupt, failed};
use super::rows::account_status;
use crate::application::operator::{
    AccountMade, AccountRequest, Action, ActionFilter, ActionRecord, HaltOutcome, HaltRecord, KeyRecord, KeyRotation,
    Operations,
};
use crate::application::query::{AccountView, ApiKey, QueryError};
use crate::domain::account::Balance;
use async_trait::async_trait;
use contracts::{AccountId, Currency, Partition, Symbol};
use sqlx::PgConnection;
use time::OffsetDateTime;

/// Most symbols that are halted at once: every batch of orders looks at the list.
const HALTS_MAX: i64 = 1_000;

async fn record(conn: &mut PgConnection, action: &Action, now: OffsetDateTime) -> Result<(), QueryError> {
    super::actions::append(conn, &[action], now).await.map_err(failed("record an action"))
}

async fn insert_key(conn: &mut PgConnection, key: &ApiKey, now: OffsetDateTime) -> Result<(), QueryError> {
    sqlx::query!(
        "insert into api_keys (key_id, account_id, secret_sha256, created_at) values ($1, $2, $3, $4)",
        key.key_id,
        key.account_id.as_uuid(),
        key.secret_sha256.as_slice(),
        now,
    )
    .execute(conn)
    .await
    .map_err(failed("store an api key"))?;
    Ok(())
}

fn made_action(account: &AccountRequest, number: &str) -> Action {
    Action {
        actor: account.actor.clone(),
        kind: "account.made",
        account_id: Some(account.id),
        subject: number.to_owned(),
        reason: None,
        terms: account.currency.to_string(),
    }
}

#[async_trait]
impl Operations for PgStore {
    async fn make_account(&self, account: &AccountRequest, now: OffsetDateTime) -> Result<AccountMade, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("make an account"))?;
        let made = sqlx::query_scalar!(
            "insert into accounts (id, partition, number, currency, created_at)
             values ($1, $2, 'A' || nextval('account_numbers'), $3, $4)
             on conflict (id) do nothing
             returning number",
            account.id.as_uuid(),
            Partition::of_account(account.id).number(),
            account.currency.to_string(),
            now,
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("make an account"))?;
        if let Some(number) = made {
            record(&mut tx, &made_action(account, &number), now).await?;
            tx.commit().await.map_err(failed("make an account"))?;
            return Ok(AccountMade::New(number));
        }
        let known = sqlx::query!("select number, currency from accounts where id = $1", account.id.as_uuid())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed("read an account"))?;
        let currency = Currency::new(&known.currency).map_err(|e| corrupt("account", e))?;
        Ok(if currency == account.currency {
            AccountMade::Known(known.number)
        } else {
            AccountMade::OtherCurrency(currency)
        })
    }

    async fn accounts(&self, after: Option<AccountId>, limit: i64) -> Result<Vec<AccountView>, QueryError> {
        let rows = sqlx::query!(
            "select id, number, status, halt_reason, currency, cash_available, cash_held, cash_shortfall, created_at
             from accounts where id > $1 order by id limit $2",
            after.map_or(uuid::Uuid::nil(), AccountId::as_uuid),
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read accounts"))?;
        rows.into_iter()
            .map(|row| {
                Ok(AccountView {
                    id: AccountId::new(row.id),
                    number: row.number,
                    status: account_status(&row.status).map_err(|e| corrupt("account", e))?,
                    halt_reason: row.halt_reason,
                    currency: Currency::new(&row.currency).map_err(|e| corrupt("account", e))?,
                    cash: Balance { available: row.cash_available, held: row.cash_held, shortfall: row.cash_shortfall },
                    created_at: row.created_at,
                })
            })
            .collect()
    }

    async fn issue_key(&self, key: &ApiKey, action: &Action, now: OffsetDateTime) -> Result<(), QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("store an api key"))?;
        insert_key(&mut tx, key, now).await?;
        record(&mut tx, action, now).await?;
        tx.commit().await.map_err(failed("store an api key"))
    }

    async fn keys(&self, account: AccountId, after: Option<&str>, limit: i64) -> Result<Vec<KeyRecord>, QueryError> {
        sqlx::query_as!(
            KeyRecord,
            "select key_id, created_at, expires_at, revoked_at
             from api_keys where account_id = $1 and key_id > $2 order by key_id limit $3",
            account.as_uuid(),
            after.unwrap_or_default(),
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read api keys"))
    }

    async fn rotate_key(
        &self,
        rotation: &KeyRotation,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<Option<OffsetDateTime>, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("rotate an api key"))?;
        // An end that is set already may come earlier, never later.
        let ends_at = sqlx::query_scalar!(
            r#"update api_keys set
                 expires_at = least(expires_at, clock_timestamp() + $3::bigint * interval '1 second'),
                 revoked_at = case when $3 <= 0 then clock_timestamp() end
             where key_id = $1 and account_id = $2 and revoked_at is null
               and (expires_at is null or expires_at > clock_timestamp())
             returning expires_at as "expires_at!""#,
            rotation.old,
            rotation.new.account_id.as_uuid(),
            rotation.overlap.whole_seconds(),
        )
        .fetch_optional(&mut *tx)
        .await
        .map_err(failed("rotate an api key"))?;
        let Some(ends_at) = ends_at else { return Ok(None) };
        insert_key(&mut tx, &rotation.new, now).await?;
        record(&mut tx, action, now).await?;
        tx.commit().await.map_err(failed("rotate an api key"))?;
        Ok(Some(ends_at))
    }

    async fn revoke_key(
        &self,
        account: AccountId,
        key_id: &str,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<bool, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("revoke an api key"))?;
        let revoked = sqlx::query!(
            "update api_keys set revoked_at = $3 where key_id = $1 and account_id = $2 and revoked_at is null",
            key_id,
            account.as_uuid(),
            now,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed("revoke an api key"))?;
        if revoked.rows_affected() == 1 {
            record(&mut tx, action, now).await?;
            tx.commit().await.map_err(failed("revoke an api key"))?;
            return Ok(true);
        }
        sqlx::query_scalar!(
            r#"select exists (select 1 from api_keys where key_id = $1 and account_id = $2) as "known!""#,
            key_id,
            account.as_uuid(),
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed("read an api key"))
    }

    async fn halt(
        &self,
        symbol: Option<&Symbol>,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<HaltOutcome, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("halt"))?;
        let done = sqlx::query!(
            "insert into halts (symbol, reason, operator, at)
             select $1, $2, $3, $4 where (select count(*) from halts) < $5
             on conflict (symbol) do nothing",
            symbol.map_or("", Symbol::as_str),
            action.reason.as_deref().unwrap_or_default(),
            action.actor.name,
            now,
            HALTS_MAX,
        )
        .execute(&mut *tx)
        .await
        .map_err(failed("halt"))?;
        if done.rows_affected() == 1 {
            record(&mut tx, action, now).await?;
            tx.commit().await.map_err(failed("halt"))?;
            return Ok(HaltOutcome::Done);
        }
        let known = sqlx::query_scalar!(
            r#"select exists (select 1 from halts where symbol = $1) as "known!""#,
            symbol.map_or("", Symbol::as_str)
        )
        .fetch_one(&mut *tx)
        .await
        .map_err(failed("read halts"))?;
        Ok(if known { HaltOutcome::Already } else { HaltOutcome::TooMany })
    }

    async fn lift(
        &self,
        symbol: Option<&Symbol>,
        action: &Action,
        now: OffsetDateTime,
    ) -> Result<HaltOutcome, QueryError> {
        let mut tx = self.pool.begin().await.map_err(failed("lift a halt"))?;
        let done = sqlx::query!("delete from halts where symbol = $1", symbol.map_or("", Symbol::as_str))
            .execute(&mut *tx)
            .await
            .map_err(failed("lift a halt"))?;
        if done.rows_affected() == 0 {
            return Ok(HaltOutcome::Already);
        }
        record(&mut tx, action, now).await?;
        tx.commit().await.map_err(failed("lift a halt"))?;
        Ok(HaltOutcome::Done)
    }

    async fn halts(&self) -> Result<Vec<HaltRecord>, QueryError> {
        let rows =
            sqlx::query!("select symbol, reason, operator, at from halts order by symbol limit $1", HALTS_MAX + 1)
                .fetch_all(&self.pool)
                .await
                .map_err(failed("read halts"))?;
        rows.into_iter()
            .map(|row| {
                let symbol = (!row.symbol.is_empty()).then(|| Symbol::new(row.symbol)).transpose();
                let symbol = symbol.map_err(|e| corrupt("halt", e))?;
                Ok(HaltRecord { symbol, reason: row.reason, operator: row.operator, at: row.at })
            })
            .collect()
    }

    async fn actions(&self, filter: ActionFilter) -> Result<Vec<ActionRecord>, QueryError> {
        super::actions::list(&self.pool, filter).await.map_err(failed("read actions"))
    }
}
