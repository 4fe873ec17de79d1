//! The names of pushes.

use super::PgStore;
use super::error::sorted;
use crate::application::ports::{PushStore, Pushed, StoreError};
use crate::application::push::PushName;
use crate::domain::reading::Reading;
use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

impl PushStore for PgStore {
    async fn store_push(
        &self,
        name: &PushName,
        readings: &[Reading],
        now: OffsetDateTime,
    ) -> Result<Pushed, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.push(call.connection()?, name, readings, now)).await
    }

    async fn prune_pushes(&self, before: OffsetDateTime, rows: i64) -> Result<u64, StoreError> {
        let mut call = self.call().await?;
        call.limit().of(self.prune(call.connection()?, before, rows)).await
    }
}

impl PgStore {
    async fn push(
        &self,
        conn: &mut PgConnection,
        name: &PushName,
        readings: &[Reading],
        now: OffsetDateTime,
    ) -> Result<Pushed, StoreError> {
        let mut tx = conn.begin().await.map_err(sorted)?;
        if let Some(earlier) = self.take_name(&mut tx, name, now).await? {
            tx.rollback().await.map_err(sorted)?;
            return Ok(if earlier == name.body_sha256 { Pushed::Repeated } else { Pushed::NonceReused });
        }
        let stored = self.write(&mut tx, readings, None, now).await?;
        platform::kill_point!("fill-receiver.before-push-commit");
        tx.commit().await.map_err(sorted)?;
        platform::kill_point!("fill-receiver.after-push-commit");
        Ok(Pushed::Stored(Box::new(stored)))
    }

    /// Stores the name, or answers the hash of the body that it named before. First in the
    /// transaction: another copy that is storing the same push is waited for before any other lock.
    async fn take_name(
        &self,
        conn: &mut PgConnection,
        name: &PushName,
        now: OffsetDateTime,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let done = sqlx::query!(
            "insert into push_nonces (broker, key_id, nonce, body_sha256, stored_at)
             values ($1, $2, $3, $4, $5) on conflict (broker, key_id, nonce) do nothing",
            self.broker(),
            name.key_id,
            name.nonce,
            name.body_sha256.as_slice(),
            now,
        )
        .execute(&mut *conn)
        .await
        .map_err(sorted)?;
        if done.rows_affected() == 1 {
            return Ok(None);
        }
        let row = sqlx::query!(
            "select body_sha256 from push_nonces where broker = $1 and key_id = $2 and nonce = $3",
            self.broker(),
            name.key_id,
            name.nonce,
        )
        .fetch_optional(conn)
        .await
        .map_err(sorted)?;
        // Pruned between the two statements: the sender's next attempt finds it new.
        let gone = || StoreError::Corrupt("name of a push was pruned while it was used".to_owned());
        row.map(|row| Some(row.body_sha256)).ok_or_else(gone)
    }

    async fn prune(&self, conn: &mut PgConnection, before: OffsetDateTime, rows: i64) -> Result<u64, StoreError> {
        let done = sqlx::query!(
            "delete from push_nonces n
             using (select broker, key_id, nonce from push_nonces
                    where stored_at < $1 order by stored_at limit $2 for update skip locked) old
             where n.broker = old.broker and n.key_id = old.key_id and n.nonce = old.nonce",
            before,
            rows,
        )
        .execute(conn)
        .await
        .map_err(sorted)?;
        Ok(done.rows_affected())
    }
}
