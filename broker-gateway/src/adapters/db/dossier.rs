//! Reads whole stories.

use super::store::PgStore;
use crate::application::dossier::{
    Approval, AttemptStory, CancelStory, Dossier, DossierStore, EvidenceStory, LogStory, LookupStory, RequestStory,
    TransitionStory, Unsettled,
};
use crate::application::ports::StoreError;
use contracts::{BrokerKey, EventId, OrderId, Partition};
use serde_json::value::RawValue;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Most rows of one kind in a story.
const ROWS_MAX: i64 = 500;

async fn request(conn: &mut PgConnection, id: Uuid) -> Result<Option<RequestStory>, sqlx::Error> {
    let row = sqlx::query!(
        "select order_id, account_id, partition, broker, symbol, side, order_type, time_in_force, quantity, limit_price,
             accepted_at, received_at, state, state_since, cause, due_at, valid_until, broker_order_id, broker_status,
             contradiction, cancel_requested, cancel_answered
         from requests where order_id = $1",
        id
    )
    .fetch_optional(conn)
    .await?;
    Ok(row.map(|row| RequestStory {
        order_id: row.order_id,
        account_id: row.account_id,
        broker: row.broker,
        broker_key: Partition::new(row.partition)
            .map(|partition| BrokerKey::new(partition, OrderId::new(row.order_id)).to_string())
            .unwrap_or_default(),
        symbol: row.symbol,
        side: row.side,
        order_type: row.order_type,
        time_in_force: row.time_in_force,
        quantity: row.quantity.normalize(),
        limit_price: row.limit_price.map(|price| price.normalize()),
        accepted_at: row.accepted_at,
        received_at: row.received_at,
        state: row.state,
        state_since: row.state_since,
        cause: row.cause,
        due_at: row.due_at,
        valid_until: row.valid_until,
        broker_order_id: row.broker_order_id,
        broker_status: row.broker_status,
        contradiction: row.contradiction,
        cancel_requested: row.cancel_requested,
        cancel_answered: row.cancel_answered,
    }))
}

async fn attempts(conn: &mut PgConnection, id: Uuid) -> Result<Vec<AttemptStory>, sqlx::Error> {
    sqlx::query_as!(
        AttemptStory,
        r#"select n, encode(bytes_hash, 'hex') as "bytes_sha256!", claimed_at, give_up_at, outcome, ended_at, http_status,
             broker_code, detail, duration_us
         from attempts where order_id = $1 order by n limit $2"#,
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

async fn lookups(conn: &mut PgConnection, id: Uuid) -> Result<Vec<LookupStory>, sqlx::Error> {
    sqlx::query_as!(
        LookupStory,
        "select n, by, began_at, ended_at, outcome, http_status, broker_order_id, broker_status, detail
         from lookups where order_id = $1 order by n desc limit $2",
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

async fn cancels(conn: &mut PgConnection, id: Uuid) -> Result<Vec<CancelStory>, sqlx::Error> {
    sqlx::query_as!(
        CancelStory,
        "select n, request, claimed_at, outcome, ended_at, http_status, broker_code, detail
         from cancel_attempts where order_id = $1 order by n limit $2",
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

async fn evidence(conn: &mut PgConnection, id: Uuid) -> Result<Vec<EvidenceStory>, sqlx::Error> {
    sqlx::query_as!(
        EvidenceStory,
        "select event_id, broker, broker_order_id, event, order_status, at, effect
         from evidence where order_id = $1 order by recorded_at, event_id limit $2",
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

async fn transitions(conn: &mut PgConnection, id: Uuid) -> Result<Vec<TransitionStory>, sqlx::Error> {
    sqlx::query_as!(
        TransitionStory,
        r#"select from_state as "from", to_state as "to", cause, at
         from transitions where order_id = $1 order by version limit $2"#,
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

async fn approvals(conn: &mut PgConnection, id: Uuid) -> Result<Vec<Approval>, sqlx::Error> {
    sqlx::query_as!(
        Approval,
        "select person, evidence_digest, broker_order_id, approved_at
         from settlement_approvals where order_id = $1 order by approved_at limit $2",
        id,
        ROWS_MAX
    )
    .fetch_all(conn)
    .await
}

/// Reads a story inside a transaction.
pub(super) async fn read(conn: &mut PgConnection, id: Uuid) -> Result<Option<Dossier>, sqlx::Error> {
    let Some(request) = request(&mut *conn, id).await? else { return Ok(None) };
    let mut dossier = Dossier {
        evidence_digest: String::new(),
        truncated: false,
        request,
        attempts: attempts(&mut *conn, id).await?,
        lookups: lookups(&mut *conn, id).await?,
        cancels: cancels(&mut *conn, id).await?,
        evidence: evidence(&mut *conn, id).await?,
        transitions: transitions(&mut *conn, id).await?,
        approvals: approvals(&mut *conn, id).await?,
    };
    let rows = [
        dossier.attempts.len(),
        dossier.lookups.len(),
        dossier.cancels.len(),
        dossier.evidence.len(),
        dossier.transitions.len(),
        dossier.approvals.len(),
    ];
    dossier.truncated = rows.into_iter().any(|len| i64::try_from(len).is_ok_and(|len| len >= ROWS_MAX));
    Ok(Some(dossier.sealed()))
}

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::failed("reading a story", source)
}

impl DossierStore for PgStore {
    async fn dossier(&self, order_id: OrderId) -> Result<Option<Dossier>, StoreError> {
        let mut conn = self.pool().acquire().await.map_err(failed)?;
        read(&mut conn, order_id.as_uuid()).await.map_err(failed)
    }

    async fn order_of_event(&self, event_id: EventId) -> Result<Option<OrderId>, StoreError> {
        let order = sqlx::query_scalar!("select order_id from event_log where event_id = $1", event_id.as_uuid())
            .fetch_optional(self.pool())
            .await
            .map_err(failed)?;
        Ok(order.flatten().map(OrderId::new))
    }

    async fn log(&self, order_id: OrderId) -> Result<Vec<LogStory>, StoreError> {
        let rows = sqlx::query!(
            "select partition, seq, event_id, type as kind, at, payload
             from event_log where order_id = $1 order by partition, seq limit $2",
            order_id.as_uuid(),
            ROWS_MAX,
        )
        .fetch_all(self.pool())
        .await
        .map_err(failed)?;
        rows.into_iter()
            .map(|row| {
                let payload = RawValue::from_string(row.payload)
                    .map_err(|error| StoreError::failed("reading an event's payload", error))?;
                let (partition, seq, event_id) = (row.partition, row.seq, row.event_id);
                Ok(LogStory { partition, seq, event_id, kind: row.kind, at: row.at, payload })
            })
            .collect()
    }

    async fn unsettled(&self, limit: u32) -> Result<Vec<Unsettled>, StoreError> {
        let mut conn = self.pool().acquire().await.map_err(failed)?;
        let rows = sqlx::query!(
            r#"select order_id, statement_timestamp() as "now!" from requests
             where unsettled_since is not null order by unsettled_since limit $1"#,
            i64::from(limit)
        )
        .fetch_all(&mut *conn)
        .await
        .map_err(failed)?;
        let mut unsettled = Vec::with_capacity(rows.len());
        for row in rows {
            let now: OffsetDateTime = row.now;
            if let Some(dossier) = read(&mut conn, row.order_id).await.map_err(failed)? {
                let age_s = (now - dossier.request.state_since).whole_seconds().max(0);
                unsettled.push(Unsettled { age_s, dossier });
            }
        }
        Ok(unsettled)
    }
}
