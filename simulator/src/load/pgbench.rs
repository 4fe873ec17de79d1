//! The yardstick: pgbench with one transaction an order, on the same PostgreSQL server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};
use tokio::process::Command;
use tokio::time::timeout;

use super::LoadError;
use crate::stack::find_server;

/// The database of the yardstick.
const DATABASE: &str = "pgbench";
/// Clients and threads of pgbench.
const CLIENTS: &str = "32";
const THREADS: &str = "2";
/// How much longer than its time pgbench may take.
const GRACE: Duration = Duration::from_secs(60);
const TABLES: &str = include_str!("pgbench/tables.sql");
const ONE_ORDER: &str = include_str!("pgbench/one_order.sql");
const REST: &str = "truncate purchase, outgoing; vacuum account; checkpoint";

/// pgbench with its database.
#[derive(Debug)]
pub(super) struct Pgbench {
    program: PathBuf,
    script: PathBuf,
    options: PgConnectOptions,
    password: String,
    accounts: usize,
}

impl Pgbench {
    /// Makes the database with `accounts` accounts on the server of `admin_url`. The script is put into `folder`.
    ///
    /// # Errors
    /// When pgbench is not installed, or the server refuses.
    pub(super) async fn prepare(admin_url: &str, folder: &Path, accounts: usize) -> Result<Self, LoadError> {
        let program = find_server()?.join("pgbench");
        if !program.exists() {
            return Err(LoadError::Pgbench(format!("{} is not there", program.display())));
        }
        let script = folder.join("one_order.sql");
        std::fs::write(&script, ONE_ORDER)
            .map_err(|error| LoadError::Pgbench(format!("{}: {error}", script.display())))?;
        let admin: PgConnectOptions = admin_url.parse().map_err(failed("reading the server's address"))?;
        statements(&admin, &[format!("create database {DATABASE}")]).await?;
        let options = admin.database(DATABASE);
        let fill = format!(
            "insert into account (id, available) select i, 1000000000000 from generate_series(1, {accounts}) i"
        );
        let tables = TABLES.split(';').map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        statements(&options, &tables.chain([fill, "vacuum analyze account".to_owned()]).collect::<Vec<_>>()).await?;
        let password = admin_url.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
        let password = password.and_then(|(user, _)| user.split_once(':')).map_or("", |(_, password)| password);
        Ok(Self { program, script, options, password: password.to_owned(), accounts })
    }

    /// Transactions a second, in thousandths.
    ///
    /// # Errors
    /// When pgbench fails.
    pub(super) async fn run(&self, duration: Duration) -> Result<u64, LoadError> {
        let rest: Vec<String> = REST.split("; ").map(str::to_owned).collect();
        statements(&self.options, &rest).await?;
        let mut command = Command::new(&self.program);
        command
            .args(["-n", "-M", "prepared", "-c", CLIENTS, "-j", THREADS, "-T", &duration.as_secs().max(1).to_string()])
            .args(["-h", self.options.get_host(), "-p", &self.options.get_port().to_string()])
            .args(["-U", self.options.get_username(), "-D", &format!("accounts={}", self.accounts), "-f"])
            .arg(&self.script)
            .arg(DATABASE)
            // In the environment, because a password on the command line shows in the process list.
            .env("PGPASSWORD", &self.password)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = timeout(duration + GRACE, command.output()).await;
        let output = output.map_err(|_| LoadError::Pgbench("it did not end in time".to_owned()))?;
        let output = output.map_err(|error| LoadError::Pgbench(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let rate = thousandths(&said).filter(|_| output.status.success());
        rate.ok_or_else(|| LoadError::Pgbench(format!("{said}{}", String::from_utf8_lossy(&output.stderr))))
    }
}

/// Writes everything to disk that waits for it, so that no phase pays for the one before.
///
/// # Errors
/// When the server refuses.
pub(super) async fn checkpoint(admin_url: &str) -> Result<(), LoadError> {
    let options = admin_url.parse().map_err(failed("reading the server's address"))?;
    statements(&options, &["checkpoint".to_owned()]).await
}

async fn statements(options: &PgConnectOptions, texts: &[String]) -> Result<(), LoadError> {
    let mut connection: PgConnection = options.connect().await.map_err(failed("connecting to the database"))?;
    for text in texts {
        // Constants of this module and numbers; vacuum and checkpoint stand alone, outside of a transaction.
        let text = AssertSqlSafe(text.clone());
        sqlx::raw_sql(text).execute(&mut connection).await.map_err(failed("preparing pgbench"))?;
    }
    connection.close().await.map_err(failed("preparing pgbench"))
}

fn failed(what: &'static str) -> impl Fn(sqlx::Error) -> LoadError {
    move |source| LoadError::Database { what, source }
}

/// The rate in pgbench's report.
fn thousandths(report: &str) -> Option<u64> {
    let (_, rest) = report.split_once("tps = ")?;
    let (whole, fraction) = rest.split_whitespace().next()?.split_once('.')?;
    let fraction: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(whole.parse::<u64>().ok()? * 1_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_the_report() {
        let report = "latency average = 6.5 ms\ntps = 4875.123456 (without initial connection time)\n";
        assert_eq!(thousandths(report), Some(4_875_123));
        assert_eq!(thousandths("tps = 12.5 ()"), Some(12_500));
        assert_eq!(thousandths("no rate"), None);
    }
}
