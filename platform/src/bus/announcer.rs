//! Announces how far the log goes, and trims the streams.

use super::publisher::BusState;
use crate::eventlog::{self, Position};
use crate::keys;
use crate::link::LinkError;
use contracts::Partition;
use redis::{FromRedisValue, RedisResult, Value};
use sqlx::PgPool;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Deletes a stream as long as nothing has been added to it since it was looked at.
const REMOVE_UNCHANGED: &str = "
local top = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
if top[1] and top[1][1] == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0";

/// The periodic half of the bus.
pub(super) struct Announcer {
    state: Arc<BusState>,
    pool: PgPool,
}

impl Announcer {
    pub(super) const fn new(state: Arc<BusState>, pool: PgPool) -> Self {
        Self { state, pool }
    }
}

/// Runs until `shutdown`.
pub(super) async fn run(announcer: Announcer, shutdown: &CancellationToken) {
    let config = &announcer.state.config;
    let mut ticks = tokio::time::interval(Duration::from_millis(config.heads_interval_ms));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let trim_interval = Duration::from_millis(config.trim_interval_ms);
    let mut trimmed_at: Option<Instant> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let Some(heads) = announcer.read_heads().await else { continue };
        if !announcer.announce(&heads).await {
            continue;
        }
        if trimmed_at.is_none_or(|at| at.elapsed() >= trim_interval) {
            trimmed_at = Some(Instant::now());
            if let Err(error) = announcer.tidy().await {
                announcer.state.failed(&error);
            }
        }
    }
}

impl Announcer {
    async fn read_heads(&self) -> Option<BTreeMap<Partition, Position>> {
        match eventlog::heads(&self.pool).await {
            Ok(heads) => Some(heads),
            Err(error) => {
                // Announcing old heads would say that all is well.
                tracing::warn!(error = %crate::telemetry::Chain(&error), "heads could not be read");
                None
            }
        }
    }

    /// Also the probe that finds out when a dead bus is back.
    async fn announce(&self, heads: &BTreeMap<Partition, Position>) -> bool {
        let key = keys::heads(self.state.producer);
        let mut pipeline = redis::pipe();
        let set = pipeline.cmd("HSET").arg(&key);
        for (partition, head) in heads {
            set.arg(partition.number()).arg(head.seq);
        }
        pipeline.cmd("PEXPIRE").arg(&key).arg(self.state.config.heads_ttl_ms);
        match refused(self.state.link.run(&mut pipeline).await) {
            Ok(_) => {
                self.state.succeeded();
                true
            }
            Err(error) => {
                self.state.failed(&error);
                false
            }
        }
    }

    /// Trims every stream below what all registered consumers have applied, and removes streams
    /// that are ahead of the log: they carry a history that the database no longer has.
    async fn tidy(&self) -> Result<(), LinkError> {
        let producer = self.state.producer;
        let mut pipeline = redis::pipe();
        pipeline.cmd("HGETALL").arg(keys::applied(producer));
        for partition in Partition::all() {
            pipeline.cmd("XREVRANGE").arg(keys::log(producer, partition)).arg("+").arg("-").arg("COUNT").arg(1);
        }
        let mut answers = refused(self.state.link.run(&mut pipeline).await)?.into_iter();
        let applied = answers.next().map(smallest_applied).unwrap_or_default();
        let tops: Vec<Option<i64>> = answers.map(|answer| top_seq(&answer)).collect();
        // Read after the streams: whatever stands on them was committed before.
        let Some(heads) = self.read_heads().await else { return Ok(()) };
        let mut pipeline = redis::pipe();
        for (partition, top) in Partition::all().zip(tops) {
            let head = heads.get(&partition).map_or(0, |head| head.seq);
            let ahead = top.filter(|top| *top > head);
            if let Some(top) = ahead {
                if !self.is_foreign(partition, top, head).await {
                    continue;
                }
                metrics::counter!("bus_stream_removed_total").increment(1);
                pipeline
                    .cmd("EVAL")
                    .arg(REMOVE_UNCHANGED)
                    .arg(1)
                    .arg(keys::log(producer, partition))
                    .arg(format!("{top}-0"));
            } else if let Some(seq) = applied.get(&partition) {
                let first_kept = seq.saturating_add(1);
                pipeline
                    .cmd("XTRIM")
                    .arg(keys::log(producer, partition))
                    .arg("MINID")
                    .arg("~")
                    .arg(format!("{first_kept}-0"));
            }
        }
        refused(self.state.link.run(&mut pipeline).await).map(|_| ())
    }
}

impl Announcer {
    /// Whether a stream that looks ahead of the log carries what the log does not have. The log itself
    /// is asked, after the look at the stream and after the heads: a head alone is not enough to throw
    /// away what consumers are about to read.
    async fn is_foreign(&self, partition: Partition, top: i64, head: i64) -> bool {
        let producer = self.state.producer.as_str();
        match eventlog::contains(&self.pool, partition, top).await {
            Ok(false) => {
                tracing::error!(
                    producer,
                    partition = partition.number(),
                    head,
                    top,
                    "bus carried events that the log does not have; removed. Do two systems share this Redis?"
                );
                true
            }
            Ok(true) => {
                metrics::counter!("bus_stream_suspected_total").increment(1);
                tracing::warn!(producer, partition = partition.number(), head, top, "head of the log was read late");
                false
            }
            Err(error) => {
                tracing::warn!(error = %crate::telemetry::Chain(&error), "log could not be asked about its bus");
                false
            }
        }
    }
}

fn refused(answers: Result<Vec<RedisResult<Value>>, LinkError>) -> Result<Vec<Value>, LinkError> {
    answers?.into_iter().collect::<RedisResult<Vec<Value>>>().map_err(LinkError::Command)
}

/// The smallest applied position of each partition, from fields named `{consumer}:{partition}`.
fn smallest_applied(answer: Value) -> BTreeMap<Partition, i64> {
    let fields = HashMap::<String, i64>::from_redis_value(answer).unwrap_or_default();
    let mut smallest = BTreeMap::new();
    for (field, seq) in fields {
        let partition = field.rsplit_once(':').and_then(|(_, number)| number.parse::<i16>().ok());
        let Some(Ok(partition)) = partition.map(Partition::new) else { continue };
        smallest.entry(partition).and_modify(|known: &mut i64| *known = seq.min(*known)).or_insert(seq);
    }
    smallest
}

fn top_seq(answer: &Value) -> Option<i64> {
    let entries = answer.as_sequence()?;
    let id = entries.first()?.as_sequence()?.first()?;
    let id = String::from_redis_value_ref(id).ok()?;
    id.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_consumer_decides_what_is_trimmed() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let answer = Value::Array(
            ["gateway:3", "12", "copy:reader:3", "7", "gateway:4", "5", "gateway:99", "1", "odd", "2"]
                .into_iter()
                .map(bulk)
                .collect(),
        );
        let smallest = smallest_applied(answer);
        assert_eq!(smallest.get(&Partition::new(3).unwrap()), Some(&7));
        assert_eq!(smallest.get(&Partition::new(4).unwrap()), Some(&5));
        assert_eq!(smallest.len(), 2);
    }
}
