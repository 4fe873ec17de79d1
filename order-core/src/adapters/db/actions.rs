//! The record of what operators did.

use crate::application::operator::{Action, ActionFilter, ActionRecord};
use contracts::AccountId;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Appends actions in the transaction of what was done.
pub(super) async fn append(
    conn: &mut PgConnection,
    actions: &[&Action],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    if actions.is_empty() {
        return Ok(());
    }
    let col = |f: fn(&Action) -> &str| -> Vec<String> { actions.iter().map(|a| f(a).to_owned()).collect() };
    let accounts: Vec<Option<Uuid>> = actions.iter().map(|a| a.account_id.map(AccountId::as_uuid)).collect();
    let reasons: Vec<Option<String>> = actions.iter().map(|a| a.reason.clone()).collect();
    sqlx::query!(
        "insert into operator_actions (at, operator, credential, action, account_id, subject, reason, terms)
         select $1, w.* from unnest($2::text[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::text[],
             $8::text[]) w",
        now,
        &col(|a| &a.actor.name),
        &col(|a| &a.actor.credential),
        &col(|a| a.kind),
        &accounts as &[Option<Uuid>],
        &col(|a| &a.subject),
        &reasons as &[Option<String>],
        &col(|a| &a.terms),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Newest first.
pub(super) async fn list(pool: &PgPool, filter: ActionFilter) -> Result<Vec<ActionRecord>, sqlx::Error> {
    let before = filter.before.unwrap_or(i64::MAX);
    match filter.account_id {
        Some(account) => {
            sqlx::query_as!(
                ActionRecord,
                "select id, at, operator, credential, action, account_id, subject, reason, terms
                 from operator_actions where account_id = $1 and id < $2 order by id desc limit $3",
                account.as_uuid(),
                before,
                filter.limit,
            )
            .fetch_all(pool)
            .await
        }
        None => {
            sqlx::query_as!(
                ActionRecord,
                "select id, at, operator, credential, action, account_id, subject, reason, terms
                 from operator_actions where id < $1 order by id desc limit $2",
                before,
                filter.limit,
            )
            .fetch_all(pool)
            .await
        }
    }
}
