//! A start that finds its database away.

use platform::config::{DatabaseConfig, Secret};
use platform::db::{self, DbError};
use platform::testing::{TestDatabase, eventually};
use sqlx::postgres::PgConnectOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, database};

/// The length and the code of a request for TLS, which a server that is starting up still answers.
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const LONG_MS: u64 = 600_000;

/// A server in front of a real one that is starting up for so many connections, and then lets them through.
struct Recovering {
    port: u16,
    refused: Arc<AtomicU32>,
}

impl Recovering {
    async fn before(server: &PgConnectOptions, refusals: u32) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = Arc::new(AtomicU32::new(0));
        let (counter, target) = (Arc::clone(&refused), (server.get_host().to_owned(), server.get_port()));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if counter.load(Ordering::Relaxed) >= refusals {
                    let mut server = TcpStream::connect(target.clone()).await.unwrap();
                    tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
                } else if refuse(&mut client).await.is_ok() {
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { port, refused }
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Says what PostgreSQL says while it recovers.
async fn refuse(client: &mut TcpStream) -> std::io::Result<()> {
    let mut head = [0; 8];
    client.read_exact(&mut head).await?;
    if head == TLS_REQUEST {
        client.write_all(b"N").await?;
        client.read_exact(&mut head).await?;
    }
    let length = u32::from_be_bytes(head[..4].try_into().unwrap());
    let mut rest = vec![0; length as usize - head.len()];
    client.read_exact(&mut rest).await?;
    let fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap();
    client.write_all(&[&b"E"[..], &length.to_be_bytes(), fields].concat()).await
}

fn config(url: &str, start_wait_ms: u64) -> DatabaseConfig {
    DatabaseConfig {
        url: Secret::new(url),
        connections_max: 1,
        start_wait_ms,
        acquire_timeout_ms: 30_000,
        statement_timeout_ms: 30_000,
        lock_timeout_ms: 30_000,
        idle_in_transaction_timeout_ms: 30_000,
    }
}

/// A database, its server's address, and its URL at another port.
async fn at_port(database: &TestDatabase, port: u16) -> String {
    let options: PgConnectOptions = database.url.parse().unwrap();
    use sqlx::ConnectOptions;
    options.host("127.0.0.1").port(port).to_url_lossy().to_string()
}

#[tokio::test]
async fn a_start_waits_for_a_server_that_is_still_recovering() {
    let database = database().await;
    let server = Recovering::before(&database.url.parse().unwrap(), 4).await;
    let config = config(&at_port(&database, server.port).await, LONG_MS);
    db::wait_until_there(&config, &CancellationToken::new()).await.unwrap();
    assert_eq!(server.refused(), 4);
    db::connect(&DatabaseConfig { idle_in_transaction_timeout_ms: 1_500, ..config }).await.unwrap();
}

#[tokio::test]
async fn a_start_gives_up_when_its_time_is_over_and_says_what_the_server_said() {
    let database = database().await;
    let server = Recovering::before(&database.url.parse().unwrap(), u32::MAX).await;
    let url = at_port(&database, server.port).await;
    let error = db::wait_until_there(&config(&url, 300), &CancellationToken::new()).await.unwrap_err();
    let DbError::Connect(cause) = &error else { panic!("{error}") };
    assert!(cause.to_string().contains("starting up"), "{cause}");
    assert!(server.refused() > 1);
    let before = server.refused();
    db::wait_until_there(&config(&url, 0), &CancellationToken::new()).await.unwrap_err();
    assert_eq!(server.refused(), before + 1);
}

#[tokio::test]
async fn a_start_that_waits_ends_when_it_is_asked_to() {
    let database = database().await;
    let server = Recovering::before(&database.url.parse().unwrap(), u32::MAX).await;
    let config = config(&at_port(&database, server.port).await, LONG_MS);
    let end = CancellationToken::new();
    let asked = end.clone();
    let waiting = tokio::spawn(async move { db::wait_until_there(&config, &asked).await });
    assert!(eventually(PATIENCE, || async { server.refused() > 0 }).await);
    end.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap().unwrap();
    assert!(matches!(ended, Err(DbError::AskedToEnd(_))), "{ended:?}");
}

#[tokio::test]
async fn a_start_waits_for_no_database_that_does_not_exist() {
    let database = database().await;
    let missing = format!("{}_gone", database.url.split('?').next().unwrap());
    let error = db::wait_until_there(&config(&missing, LONG_MS), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, DbError::Connect(sqlx::Error::Database(_))), "{error}");
}
