//! Where PostgreSQL spends its time, by its own account of statements.

use sqlx::{Connection, PgConnection};

use super::LoadError;

/// Statements that are told of each load.
const TOLD_MAX: i64 = 45;

/// What the server must be started with.
pub(super) fn settings() -> Vec<(String, String)> {
    let settings = [
        ("shared_preload_libraries", "pg_stat_statements"),
        ("pg_stat_statements.track_planning", "on"),
        ("pg_stat_statements.track", "all"),
    ];
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// The server's account of statements.
#[derive(Debug)]
pub(super) struct Statements(PgConnection);

fn failed(source: sqlx::Error) -> LoadError {
    LoadError::Database { what: "reading the statements' times", source }
}

impl Statements {
    /// Connects.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn open(admin_url: &str) -> Result<Self, LoadError> {
        let mut connection = PgConnection::connect(admin_url).await.map_err(failed)?;
        sqlx::query("create extension if not exists pg_stat_statements")
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        Ok(Self(connection))
    }

    /// Begins anew.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn forget(&mut self) -> Result<(), LoadError> {
        sqlx::query("select pg_stat_statements_reset()").execute(&mut self.0).await.map(drop).map_err(failed)
    }

    /// The costliest statements since then, each with its share and its calls an order.
    ///
    /// # Errors
    /// When the server refuses.
    pub(super) async fn lines(&mut self, orders: usize) -> Result<Vec<String>, LoadError> {
        let orders = i64::try_from(orders.max(1)).unwrap_or(i64::MAX);
        sqlx::query_scalar(
            "select format('    %s us an order; %s calls an order of %s us, %s rows, plan %s us, wal %s B/order; %s: %s',
                 round((1000 * (s.total_exec_time + s.total_plan_time) / $1)::numeric, 1),
                 round(s.calls::numeric / $1, 3), round((1000 * s.mean_exec_time)::numeric),
                 round(s.rows::numeric / greatest(s.calls, 1), 1), round((1000 * s.mean_plan_time)::numeric),
                 round(s.wal_bytes / $1), d.datname,
                 left(regexp_replace(s.query, '\\s+', ' ', 'g'), 110))
             from pg_stat_statements s join pg_database d on d.oid = s.dbid
             where d.datname not in ('postgres', 'pgbench')
             order by s.total_exec_time + s.total_plan_time desc limit $2",
        )
        .bind(orders)
        .bind(TOLD_MAX)
        .fetch_all(&mut self.0)
        .await
        .map_err(failed)
    }
}
