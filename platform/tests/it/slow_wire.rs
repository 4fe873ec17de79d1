//! A wire to Redis on which a lock's SET is overtaken: it arrives only after a later connection has
//! asked for the release and got its answer.

use platform::config::{RedisConfig, Secret};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Listens on a port of its own and passes everything on to `server`, but the first SET is held
/// back until a release (EVALSHA) was answered.
pub(crate) async fn overtaking(server: &RedisConfig) -> RedisConfig {
    let target = server.url.expose().trim_start_matches("redis://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let release_answered = Arc::new(Notify::new());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&target).await.unwrap();
            let (client_read, client_write) = client.into_split();
            let (server_read, server_write) = server.into_split();
            let asked_release = Arc::new(Notify::new());
            tokio::spawn(requests(
                client_read,
                server_write,
                Arc::clone(&release_answered),
                Arc::clone(&asked_release),
            ));
            tokio::spawn(answers(server_read, client_write, asked_release, Arc::clone(&release_answered)));
        }
    });
    RedisConfig { url: Secret::new(url), ..server.clone() }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    release_answered: Arc<Notify>,
    asked_release: Arc<Notify>,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    while let Ok(len @ 1..) = client.read(&mut buffer).await {
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if text.contains("\r\nSET\r\n") {
            release_answered.notified().await;
        } else if text.contains("EVALSHA") {
            asked_release.notify_one();
        }
        if server.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut client: OwnedWriteHalf,
    asked_release: Arc<Notify>,
    release_answered: Arc<Notify>,
) {
    let mut buffer = vec![0_u8; 64 * 1024];
    let mut asked = false;
    while let Ok(len @ 1..) = server.read(&mut buffer).await {
        asked |= futures_util::FutureExt::now_or_never(asked_release.notified()).is_some();
        // ":0": nothing to release yet. An unknown script is answered before that.
        if asked && buffer[..len].starts_with(b":0") {
            release_answered.notify_one();
        }
        // The client may have given up on this connection; what it sent still arrives.
        let _client_may_be_gone = client.write_all(&buffer[..len]).await;
    }
}
