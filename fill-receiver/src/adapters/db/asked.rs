//! Orders that the broker is asked for one by one, and what less is filled of them than is known.
//!
//! An event that shows less may be late. What the broker shows when it is asked is not: what was known before it was
//! asked, it had told before. So a fall is compared with the quantity that was read before the question, and only where
//! that is the quantity still.

use super::cumulative::suspect;
use super::error::sorted;
use super::facts;
use crate::application::ports::StoreError;
use crate::domain::cumulative::{Cumulative, KnownOrder};
use crate::domain::reading::{BrokerProfile, RawFrame};
use contracts::ids::BrokerOrderId;
use rust_decimal::Decimal;
use sqlx::{Acquire, PgConnection};
use time::OffsetDateTime;

/// Orders of which more may be filled, or less was shown, after an id.
pub(super) async fn open(
    conn: &mut PgConnection,
    broker: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<KnownOrder>, StoreError> {
    sqlx::query_as!(
        KnownOrder,
        "select broker_order_id as id, quantity, fallen_to, doubts from cumulative_fills
         where broker = $1 and (open or doubts > 0) and broker_order_id > $2
         order by broker_order_id
         limit $3",
        broker,
        after,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)
}

/// Orders of which less is shown than is known, and than a person was told.
pub(super) async fn less(
    conn: &mut PgConnection,
    broker: &str,
    shown: &[(String, Decimal)],
    limit: i64,
) -> Result<Vec<KnownOrder>, StoreError> {
    let ids: Vec<String> = shown.iter().map(|(id, _)| id.clone()).collect();
    let quantities: Vec<Decimal> = shown.iter().map(|(_, quantity)| *quantity).collect();
    sqlx::query_as!(
        KnownOrder,
        "select k.id, k.quantity, k.fallen_to, k.doubts
         from unnest($2::text[], $3::numeric[]) as u (id, shown)
         cross join lateral (
             select f.broker_order_id as id, f.quantity, f.fallen_to, f.doubts
             from cumulative_fills f where f.broker = $1 and f.broker_order_id = u.id
             offset 0
         ) k
         where u.shown < coalesce(k.fallen_to, k.quantity)
         order by k.id
         limit $4",
        broker,
        &ids,
        &quantities,
        limit,
    )
    .fetch_all(conn)
    .await
    .map_err(sorted)
}

/// Compares under the lock of the order's row; answers whether a new fall was recorded.
pub(super) async fn compare(
    conn: &mut PgConnection,
    profile: &BrokerProfile,
    known: &KnownOrder,
    shown: Cumulative,
    raw: &RawFrame,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    let mut tx = conn.begin().await.map_err(sorted)?;
    let row = sqlx::query!(
        "select quantity, amount, fallen_to, doubts from cumulative_fills
         where broker = $1 and broker_order_id = $2 for no key update",
        profile.broker.as_str(),
        known.id,
    )
    .fetch_optional(&mut *tx)
    .await
    .map_err(sorted)?;
    // What rose after the question may be more than the answer shows.
    let Some(row) = row.filter(|row| row.quantity == known.quantity) else { return Ok(false) };
    let stored = KnownOrder { fallen_to: row.fallen_to, doubts: row.doubts, ..known.clone() };
    let falls = stored.falls_to(shown.quantity);
    // Doubts of events that came after the question stay.
    let doubts = if row.doubts == known.doubts { 0 } else { row.doubts };
    if !falls && doubts == row.doubts {
        return Ok(false);
    }
    sqlx::query!(
        "update cumulative_fills set fallen_to = $3, doubts = $4 where broker = $1 and broker_order_id = $2",
        profile.broker.as_str(),
        known.id,
        if falls { Some(shown.quantity) } else { row.fallen_to },
        doubts,
    )
    .execute(&mut *tx)
    .await
    .map_err(sorted)?;
    if falls {
        let order = BrokerOrderId::new(known.id.clone()).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let figures = (Cumulative { quantity: row.quantity, amount: row.amount }, shown);
        let suspect = suspect(profile, &order, "filled_less", figures, raw)
            .map_err(|poison| StoreError::Corrupt(poison.detail))?;
        facts::insert_suspects(&mut tx, profile, &[suspect], now).await?;
    }
    tx.commit().await.map_err(sorted)?;
    Ok(falls)
}
