//! The network between the engine and the broker, in the drill's hands: cut, one way only, or silent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError, Variables};

/// Connections at one time; more are refused.
const CONNECTIONS_MAX: usize = 512;
const CHUNK_BYTES: usize = 16 * 1_024;
/// Longer than the time limit of a call, 3 s in this drill.
const BROKEN_FOR: Duration = Duration::from_secs(6);
const BETWEEN: Duration = Duration::from_secs(2);

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// They pass.
    Whole,
    /// Connections end at once, new ones too.
    Cut,
    /// They wait on the way, and arrive when the network is back, whether anybody still waits or not.
    Silent,
    /// Requests pass, replies are gone.
    OneWay,
}

/// A proxy whose other side is named later, since it has to be there before the stack is.
#[derive(Debug)]
pub struct Network {
    url: String,
    upstream: Arc<OnceLock<String>>,
    mode: watch::Sender<Mode>,
    hits: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Network {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (upstream, hits): (Arc<OnceLock<String>>, Arc<AtomicU64>) = Default::default();
        let (mode, seen) = watch::channel(Mode::Whole);
        let task = tokio::spawn(listen(listener, upstream.clone(), seen, hits.clone()));
        Ok(Self { url, upstream, mode, hits, task })
    }

    /// The address to be called instead of the other side's.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Lets the engine reach the broker through here alone.
    pub fn stand_between(&self, variables: &mut Variables) {
        let engine = [(ProcessName::BrokerGateway, "BROKER_GATEWAY"), (ProcessName::FillReceiver, "FILL_RECEIVER")];
        for (process, prefix) in engine {
            let variable = (format!("{prefix}__BROKER__BASE_URL"), self.url.clone());
            variables.entry(process).or_default().push(variable);
        }
    }

    /// Where the other side's base URL is to be written; until then connections are refused.
    #[must_use]
    pub fn leads_to(&self) -> Arc<OnceLock<String>> {
        self.upstream.clone()
    }

    fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

async fn listen(
    listener: TcpListener,
    upstream: Arc<OnceLock<String>>,
    mode: watch::Receiver<Mode>,
    hits: Arc<AtomicU64>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (Some(address), Ok(permit)) = (upstream.get().cloned(), permits.clone().try_acquire_owned()) else {
            continue;
        };
        if *mode.borrow() == Mode::Cut {
            let _before = hits.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (mode, hits) = (mode.clone(), hits.clone());
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(address.trim_start_matches("http://")).await {
                join(client, server, mode, hits).await;
            }
            drop(permit);
        });
    }
}

/// Carries both directions until either ends.
async fn join(client: TcpStream, server: TcpStream, mode: watch::Receiver<Mode>, hits: Arc<AtomicU64>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        () = carry(from_client, to_server, mode.clone(), Mode::Whole, &hits) => {}
        () = carry(from_server, to_client, mode, Mode::OneWay, &hits) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {
            let _before = hits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Carries bytes one way; in `lossy` mode they are gone.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    lossy: Mode,
    hits: &AtomicU64,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(len) = from.read(&mut chunk).await {
        let Some(bytes) = chunk.get(..len).filter(|bytes| !bytes.is_empty()) else { return };
        let now = *mode.borrow();
        if now == Mode::Silent {
            let _before = hits.fetch_add(1, Ordering::Relaxed);
            if mode.wait_for(|mode| *mode != Mode::Silent).await.is_err() {
                return;
            }
        }
        if now == Mode::OneWay && lossy == Mode::OneWay {
            let _before = hits.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Breaks the network in each way under load, and heals it each time.
///
/// # Errors
/// None at present; the type is that of the other drills.
pub async fn run(
    exercise: &Exercise,
    network: &Network,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, load);
    let mut each = Vec::new();
    for (mode, word) in [(Mode::Cut, "cut"), (Mode::Silent, "silent"), (Mode::OneWay, "one_way")] {
        sleep(BETWEEN).await;
        let (before, accepted) = (network.hits(), load.progress().accepted());
        network.mode.send_replace(mode);
        sleep(BROKEN_FOR).await;
        network.mode.send_replace(Mode::Whole);
        let accepted = load.progress().accepted() - accepted;
        exercise.say(&format!("the network to the broker was {word}; {accepted} orders were accepted meanwhile"));
        each.push((word, network.hits() - before, accepted));
    }
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    for (word, hits, accepted) in each {
        outcome.strike(hits);
        outcome.note(&format!("{word}_hits"), hits);
        outcome.note(&format!("{word}_accepted"), accepted);
        outcome.require(hits > 0, &format!("nothing met the network while it was {word}"));
        outcome.require(accepted > 0, &format!("no order was accepted while the network was {word}"));
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    let _ended = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (address, task)
    }

    #[tokio::test]
    async fn bytes_pass_wait_or_end_as_the_network_is() {
        let (address, task) = echo().await;
        let network = Network::start().await.unwrap();
        network.leads_to().set(format!("http://{address}")).unwrap();
        let mut stream = TcpStream::connect(network.url().trim_start_matches("http://")).await.unwrap();
        let mut byte = [0; 1];
        stream.write_all(b"a").await.unwrap();
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!((&byte, network.hits()), (b"a", 0));

        network.mode.send_replace(Mode::Silent);
        stream.write_all(b"b").await.unwrap();
        assert!(platform::testing::eventually(Duration::from_secs(10), || async { network.hits() > 0 }).await);
        network.mode.send_replace(Mode::Whole);
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"b");

        network.mode.send_replace(Mode::Cut);
        assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0);
        task.abort();
    }
}
