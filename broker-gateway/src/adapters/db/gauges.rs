//! Figures about all requests, for metrics and health.

use super::store::PgStore;
use crate::application::ports::StoreError;
use serde::Serialize;
use std::time::Duration;

/// How many requests wait, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Gauges {
    /// Requests that are due now.
    pub due: i64,
    /// For how long the oldest of them has been due, in milliseconds.
    pub due_age_ms: i64,
    /// Requests in doubt.
    pub in_doubt: i64,
    /// For how long the oldest of them has been, in seconds.
    pub in_doubt_age_s: i64,
    /// Requests in doubt that no lookup has answered yet: they hold back new orders of their accounts.
    pub unreviewed: i64,
    /// Requests in the hands of persons.
    pub manual: i64,
    /// For how long the oldest of them has been, in seconds.
    pub manual_age_s: i64,
    /// Events in the deferred table.
    pub deferred: i64,
}

impl PgStore {
    /// Counts.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub async fn gauges(&self) -> Result<Gauges, StoreError> {
        sqlx::query_as!(
            Gauges,
            r#"
            select
                due.n as "due!", due.age_ms as "due_age_ms!",
                coalesce(doubt.n, 0) as "in_doubt!", coalesce(doubt.age_s, 0) as "in_doubt_age_s!",
                coalesce(doubt.unreviewed, 0) as "unreviewed!",
                coalesce(manual.n, 0) as "manual!", coalesce(manual.age_s, 0) as "manual_age_s!",
                (select count(*) from deferred) as "deferred!"
            from (
                select count(*) as n,
                    coalesce(extract(epoch from statement_timestamp() - min(due_at)) * 1000, 0)::bigint as age_ms
                from requests where due_at <= statement_timestamp()
            ) due
            cross join (
                select count(*) as n,
                    coalesce(extract(epoch from statement_timestamp() - min(state_since)), 0)::bigint as age_s,
                    count(*) filter (where none_at is null or none_at < state_since) as unreviewed
                from requests where unsettled_since is not null and state = 'doubt'
            ) doubt
            cross join (
                select count(*) as n,
                    coalesce(extract(epoch from statement_timestamp() - min(state_since)), 0)::bigint as age_s
                from requests where unsettled_since is not null and state = 'manual'
            ) manual
            "#
        )
        .fetch_one(self.pool())
        .await
        .map_err(|source| StoreError::failed("counting", source))
    }
}

impl Gauges {
    /// Sets the metrics.
    pub fn publish(self) {
        let number = |value: i64| f64::from(i32::try_from(value).unwrap_or(i32::MAX));
        let due_age = Duration::from_millis(u64::try_from(self.due_age_ms).unwrap_or(0));
        metrics::gauge!("gateway_due_requests").set(number(self.due));
        metrics::gauge!("gateway_due_age_seconds").set(due_age.as_secs_f64());
        metrics::gauge!("gateway_in_doubt_requests").set(number(self.in_doubt));
        metrics::gauge!("gateway_in_doubt_age_seconds").set(number(self.in_doubt_age_s));
        metrics::gauge!("gateway_unreviewed_requests").set(number(self.unreviewed));
        metrics::gauge!("gateway_manual_requests").set(number(self.manual));
        metrics::gauge!("gateway_manual_age_seconds").set(number(self.manual_age_s));
        metrics::gauge!("gateway_deferred_events").set(number(self.deferred));
    }
}
