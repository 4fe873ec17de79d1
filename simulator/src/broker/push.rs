//! Pushes: the broker sends its events to an address by itself, signed, until they are acknowledged.
//!
//! The event log is the queue: pushes go out in its order, a bounded number at a time, and one that is
//! not acknowledged is sent again under its nonce, for ever, with growing pauses. A broker that starts
//! again pushes the last events once more, under new nonces: it does not know which were acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use hmac::{Hmac, Mac};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use sha2::Sha256;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::fact::StoredEvent;
use super::fault::{FaultKind, FaultSpec};
use super::shared::{Shared, Stopped};

/// Most pushes on their way.
const IN_FLIGHT_MAX: usize = 8;
/// Most events of one push.
const EVENTS_MAX: usize = 20;
/// Events that are pushed again after a restart.
const REPEATED_MAX: u64 = 1_000;
/// Longest wait for an acknowledgement.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// First pause before a push is sent again; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Where events are pushed to, and how they are signed.
#[derive(Clone, Default, Args)]
pub struct PushSettings {
    /// Address that signed events are posted to; nowhere when empty.
    #[arg(id = "push_url", long = "push-url", env = "BROKER_SIM__PUSH_URL", default_value = "")]
    pub url: String,
    /// Name of the key that signs them.
    #[arg(id = "push_key_id", long = "push-key-id", env = "BROKER_SIM__PUSH_KEY_ID", default_value = "")]
    pub key_id: String,
    /// The key's secret.
    #[arg(
        id = "push_secret",
        long = "push-secret",
        env = "BROKER_SIM__PUSH_SECRET",
        default_value = "",
        hide_env_values = true
    )]
    pub secret: String,
}

impl std::fmt::Debug for PushSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PushSettings").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What became of pushes so far.
#[derive(Debug, Default, Serialize)]
pub(super) struct PushTally {
    /// Events that were acknowledged.
    pub(super) events: AtomicU64,
    /// Pushes that were acknowledged.
    pub(super) acknowledged: AtomicU64,
    /// Of the acknowledgements, those of something that had been stored before.
    pub(super) repeated: AtomicU64,
    /// Attempts without an acknowledgement.
    pub(super) failed: AtomicU64,
    /// Wrongly signed pushes that were refused.
    pub(super) forged_refused: AtomicU64,
    /// Wrongly signed pushes that were taken: must stay zero.
    pub(super) forged_taken: AtomicU64,
    /// Events that were gone from the log before they were pushed.
    pub(super) missed: AtomicU64,
    /// Events that are waiting or on their way.
    pub(super) waiting: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Counts one push for the tally and the metric.
fn ended(result: &'static str, counter: &AtomicU64) {
    add(counter, 1);
    metrics::counter!("sim_push_attempts_total", "result" => result).increment(1);
}

/// Pushes until the broker stops. Nothing where no address is set.
pub(super) async fn run(shared: Arc<Shared>, settings: PushSettings) {
    if settings.url.is_empty() {
        return;
    }
    platform::tls::install_crypto_provider();
    let client = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(ANSWER_LIMIT);
    let client = match client.build() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "no pushes: the client cannot be built");
            return;
        }
    };
    let sender = Arc::new(Sender { shared, client, settings });
    let tasks = TaskTracker::new();
    let stop = sender.shared.stop.clone();
    tokio::select! {
        () = stop.cancelled() => {}
        stopped = Arc::clone(&sender).feed(&tasks) => {
            let _the_state_file_failed: Result<(), Stopped> = stopped;
        }
    }
    tasks.close();
    tasks.wait().await;
}

struct Sender {
    shared: Arc<Shared>,
    client: Client,
    settings: PushSettings,
}

/// What is sent, under one nonce however often.
struct Push {
    nonce: String,
    body: Vec<u8>,
    events: u64,
}

impl Sender {
    /// Hands out the log in its order.
    async fn feed(self: Arc<Self>, tasks: &TaskTracker) -> Result<(), Stopped> {
        let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
        let mut head = self.shared.follow_head();
        let mut position = self.shared.with(|exchange| exchange.head().saturating_sub(REPEATED_MAX))?;
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
            let _seen = *head.borrow_and_update();
            let (newest, first, events) = self
                .shared
                .with(|exchange| (exchange.head(), exchange.first(), exchange.read_events(position, EVENTS_MAX)))?;
            add(&self.shared.push.missed, first.saturating_sub(position));
            position = position.max(first);
            if events.is_empty() {
                drop(permit);
                if head.changed().await.is_err() {
                    return Ok(());
                }
                continue;
            }
            position += events.len() as u64;
            self.shared.push.waiting.store(newest.saturating_sub(position), Ordering::Relaxed);
            let sender = Arc::clone(&self);
            tasks.spawn(async move {
                let stop = sender.shared.stop.clone();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = sender.deliver(events, permit) => {}
                }
            });
        }
    }

    /// One push, with the faults that its events draw.
    async fn deliver(&self, mut events: Vec<Arc<StoredEvent>>, _permit: OwnedSemaphorePermit) {
        let faults = self.draw(&events);
        let struck = |kind: FaultKind| faults.iter().find(|fault| fault.kind == kind);
        let delay = |fault: &FaultSpec| Duration::from_millis(fault.delay_ms);
        if struck(FaultKind::PushReordered).is_some() {
            events.reverse();
        }
        if let Some(fault) = struck(FaultKind::PushDelayed) {
            tokio::time::sleep(delay(fault)).await;
        }
        let Some(push) = Push::of(&events) else { return };
        if struck(FaultKind::PushForged).is_some() {
            self.forge(&push).await;
        }
        if let Some(fault) = struck(FaultKind::PushLostAck) {
            // Somewhere on the way there, at work, or on the way back.
            let patience = delay(fault).min(PAUSE_FIRST) / 10;
            let _gone = tokio::time::timeout(patience, self.send(&push, &self.settings.secret)).await;
        }
        self.send_until_acknowledged(&push).await;
        if struck(FaultKind::PushDuplicate).is_some() {
            self.send_until_acknowledged(&push).await;
        }
    }

    fn draw(&self, events: &[Arc<StoredEvent>]) -> Vec<FaultSpec> {
        self.shared.with(|exchange| exchange.draw_pushes(events)).unwrap_or_default()
    }

    /// Somebody who does not know the secret.
    async fn forge(&self, push: &Push) {
        match self.send(push, "not the secret of the broker").await {
            Ok((status, _)) if status.is_success() => ended("forged_taken", &self.shared.push.forged_taken),
            Ok((StatusCode::UNAUTHORIZED, _)) => ended("forged_refused", &self.shared.push.forged_refused),
            Ok(_) | Err(_) => ended("failed", &self.shared.push.failed),
        }
    }

    async fn send_until_acknowledged(&self, push: &Push) {
        let mut pause = PAUSE_FIRST;
        loop {
            match self.send(push, &self.settings.secret).await {
                Ok((status, repeated)) if status.is_success() => {
                    ended("acknowledged", &self.shared.push.acknowledged);
                    add(&self.shared.push.events, push.events);
                    add(&self.shared.push.repeated, u64::from(repeated));
                    return;
                }
                Ok((status, _)) => tracing::debug!(%status, "a push was not acknowledged"),
                Err(error) => tracing::debug!(%error, "a push was not answered"),
            }
            ended("failed", &self.shared.push.failed);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Sends once, signed now; answers the status, and whether it was known before.
    async fn send(&self, push: &Push, secret: &str) -> Result<(StatusCode, bool), reqwest::Error> {
        let timestamp = (OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).to_string();
        let signature = sign(secret, &timestamp, &push.nonce, &push.body);
        let request = self
            .client
            .post(&self.settings.url)
            .header("content-type", "application/json")
            .header("x-push-key-id", &self.settings.key_id)
            .header("x-push-timestamp", timestamp)
            .header("x-push-nonce", &push.nonce)
            .header("x-push-signature", signature)
            .body(push.body.clone());
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, answer.text().await?.contains("\"repeated\"")))
    }
}

impl Push {
    fn of(events: &[Arc<StoredEvent>]) -> Option<Self> {
        let entities: Vec<_> = events.iter().map(|event| event.entity()).collect();
        // One event goes bare, as the stream shows it.
        let body = match entities.as_slice() {
            [one] => serde_json::to_vec(one),
            all => serde_json::to_vec(all),
        };
        Some(Self { nonce: Uuid::new_v4().to_string(), body: body.ok()?, events: events.len() as u64 })
    }
}

fn sign(secret: &str, timestamp: &str, nonce: &str, body: &[u8]) -> String {
    // Any length of key is taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("{timestamp}\n{nonce}\n").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
