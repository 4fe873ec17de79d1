//! Publishes committed events.

use super::announcer::{self, Announcer};
use super::config::BusConfig;
use crate::breaker::{Breaker, BreakerConfig};
use crate::config::RedisConfig;
use crate::keys;
use crate::link::{Link, LinkError};
use contracts::event::{Envelope, Producer};
use redis::streams::StreamRangeReply;
use redis::{FromRedisValue, RedisError, RedisResult, Value};
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the publishing and the announcing half share.
pub(super) struct BusState {
    pub(super) link: Link,
    pub(super) producer: Producer,
    pub(super) config: BusConfig,
    breaker: Mutex<Breaker>,
}

impl BusState {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer of the server.
    pub(super) fn succeeded(&self) {
        let mut breaker = self.breaker();
        if !breaker.allows() {
            tracing::info!(producer = self.producer.as_str(), "bus is back");
        }
        breaker.succeeded();
        metrics::gauge!("bus_up").set(1.0);
    }

    /// Notes that the server gave none.
    pub(super) fn failed(&self, error: &LinkError) {
        if self.breaker().failed(error.failure(), Instant::now()) {
            tracing::warn!(
                error = %crate::telemetry::Chain(error),
                producer = self.producer.as_str(),
                "bus is down: consumers read the feed"
            );
        }
        metrics::gauge!("bus_up").set(0.0);
    }
}

/// Hands committed events to the bus. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    queue: mpsc::Sender<Vec<Envelope>>,
}

impl Publisher {
    /// Starts publishing until `shutdown`; the task then drains what is queued, for a bounded
    /// time. Redis need not be there. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`LinkError::Url`] when the Redis URL cannot be read.
    pub fn start(
        redis: RedisConfig,
        producer: Producer,
        pool: PgPool,
        config: BusConfig,
        shutdown: CancellationToken,
    ) -> Result<(Self, JoinHandle<()>), LinkError> {
        let (queue, receiver) = mpsc::channel(config.queue_len_max.max(1));
        let breaker = BreakerConfig { open_ms: config.heads_interval_ms, ..BreakerConfig::default() };
        let state = Arc::new(BusState {
            link: Link::new(&redis)?,
            producer,
            config,
            breaker: Mutex::new(Breaker::new(breaker)),
        });
        let announcer = Announcer::new(Arc::clone(&state), pool);
        let task = tokio::spawn(async move {
            tokio::join!(publish_all(&state, receiver, &shutdown), announcer::run(announcer, &shutdown));
        });
        Ok((Self { queue }, task))
    }

    /// Takes the events of a committed transaction, oldest first. Never blocks and never fails:
    /// what does not fit is dropped, and consumers find it in the feed.
    pub fn committed(&self, envelopes: Vec<Envelope>) {
        let len = envelopes.len() as u64;
        if len > 0 && self.queue.try_send(envelopes).is_err() {
            dropped("queue", len);
        }
    }
}

fn dropped(reason: &'static str, len: u64) {
    metrics::counter!("bus_dropped_total", "reason" => reason).increment(len);
}

async fn publish_all(state: &BusState, mut receiver: mpsc::Receiver<Vec<Envelope>>, shutdown: &CancellationToken) {
    let mut batches = Vec::new();
    loop {
        tokio::select! {
            received = receiver.recv_many(&mut batches, state.config.batch_len_max) => {
                if received == 0 {
                    return;
                }
                publish(state, batches.drain(..).flatten().collect()).await;
            }
            () = shutdown.cancelled() => break,
        }
    }
    receiver.close();
    let drain = async {
        while receiver.recv_many(&mut batches, state.config.batch_len_max).await > 0 {
            publish(state, batches.drain(..).flatten().collect()).await;
        }
    };
    if tokio::time::timeout(Duration::from_millis(state.config.drain_ms), drain).await.is_err() {
        tracing::info!("bus was still behind at the end of the drain time");
    }
}

async fn publish(state: &BusState, envelopes: Vec<Envelope>) {
    for chunk in envelopes.chunks(state.config.batch_len_max.max(1)) {
        if !state.breaker().allows() {
            dropped("down", chunk.len() as u64);
            continue;
        }
        let mut pipeline = redis::pipe();
        let mut written = Vec::with_capacity(chunk.len());
        for envelope in chunk {
            let Ok(json) = serde_json::to_vec(envelope) else {
                dropped("encode", 1);
                continue;
            };
            written.push(envelope);
            pipeline
                .cmd("XADD")
                .arg(keys::log(envelope.producer, envelope.partition))
                .arg("MAXLEN")
                .arg("~")
                .arg(state.config.stream_len_max)
                .arg(format!("{}-0", envelope.seq))
                .arg(keys::ENTRY_FIELD)
                .arg(json);
        }
        match state.link.run(&mut pipeline).await {
            Ok(answers) => settle(state, &written, &answers).await,
            Err(error) => {
                dropped("down", written.len() as u64);
                state.failed(&error);
            }
        }
    }
}

async fn settle(state: &BusState, written: &[&Envelope], answers: &[RedisResult<Value>]) {
    let mut published = 0;
    let mut late = Vec::new();
    let mut refusal = None;
    for (envelope, answer) in written.iter().zip(answers) {
        match answer {
            Ok(_) => published += 1,
            Err(error) if is_there_already(error) => late.push(*envelope),
            Err(error) => {
                dropped("refused", 1);
                refusal = Some(error);
            }
        }
    }
    metrics::counter!("bus_published_total").increment(published);
    metrics::counter!("bus_late_total").increment(late.len() as u64);
    let checked = remove_foreign(state, &late).await;
    match refusal.cloned().map(LinkError::Command).or(checked.err()) {
        Some(error) => state.failed(&error),
        None => state.succeeded(),
    }
}

/// Looks at what stands in the place of late events. Another event there is of a history that the
/// database has lost, and whose numbers are used again: its stream must go.
async fn remove_foreign(state: &BusState, late: &[&Envelope]) -> Result<(), LinkError> {
    let mut look = redis::pipe();
    for envelope in late {
        let id = format!("{}-0", envelope.seq);
        look.cmd("XRANGE").arg(keys::log(envelope.producer, envelope.partition)).arg(&id).arg(&id);
    }
    let answers = state.link.run(&mut look).await?;
    let foreign: BTreeSet<String> = late
        .iter()
        .zip(answers)
        .filter(|(envelope, answer)| answer.as_ref().is_ok_and(|entries| holds_another(entries, envelope)))
        .map(|(envelope, _)| keys::log(envelope.producer, envelope.partition))
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    tracing::error!(streams = ?foreign, "bus carried events that the log does not have; removed");
    metrics::counter!("bus_stream_removed_total").increment(foreign.len() as u64);
    let mut remove = redis::pipe();
    foreign.iter().for_each(|key| {
        remove.cmd("DEL").arg(key);
    });
    state.link.run(&mut remove).await.map(|_| ())
}

fn holds_another(entries: &Value, envelope: &Envelope) -> bool {
    let Ok(entries) = StreamRangeReply::from_redis_value_ref(entries) else { return false };
    entries.ids.first().is_some_and(|entry| {
        let json: Option<String> = entry.get(keys::ENTRY_FIELD);
        let event = json.and_then(|json| serde_json::from_str::<Envelope>(&json).ok());
        event.is_none_or(|event| event.id != envelope.id)
    })
}

/// Another copy published this event, or a later one, before: nothing to do. (After a later one
/// the stream has a hole, which consumers fill from the feed.)
fn is_there_already(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("equal or smaller"))
}
