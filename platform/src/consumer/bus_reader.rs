//! The consumer's reads on the bus, over a connection of its own (a blocked one serves nobody else).

use super::tracker::BusEntry;
use crate::config::RedisConfig;
use crate::eventlog::Position;
use crate::keys;
use crate::link::{Link, LinkError};
use contracts::Partition;
use contracts::event::{Envelope, Producer};
use redis::streams::{StreamId, StreamReadReply};
use redis::{FromRedisValue, RedisResult, Value};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// What is asked of the bus at once.
#[derive(Debug, Default)]
pub(super) struct BusQuestion {
    /// The partitions to read, and from where.
    pub(super) after: BTreeMap<Partition, Position>,
    /// How long to wait for something new.
    pub(super) block: Option<Duration>,
    /// Applied positions to report, which also asks for the announced heads.
    pub(super) report: Option<BTreeMap<Partition, i64>>,
}

/// What the bus answered.
#[derive(Debug, Default)]
pub(super) struct BusAnswer {
    /// Where each partition was read from.
    pub(super) asked: BTreeMap<Partition, Position>,
    /// What stands after that; a partition without anything is not in it.
    pub(super) entries: BTreeMap<Partition, Vec<BusEntry>>,
    /// The announced heads, if asked for; empty when nobody announces.
    pub(super) heads: Option<BTreeMap<Partition, i64>>,
}

/// Reads one producer's streams.
#[derive(Debug)]
pub(super) struct BusReader {
    link: Link,
    consumer: &'static str,
    producer: Producer,
    batch_len_max: usize,
    streams: HashMap<String, Partition>,
}

impl BusReader {
    pub(super) fn new(
        redis: &RedisConfig,
        consumer: &'static str,
        producer: Producer,
        batch_len_max: usize,
    ) -> Result<Self, LinkError> {
        let streams = Partition::all().map(|partition| (keys::log(producer, partition), partition)).collect();
        Ok(Self { link: Link::new(redis)?, consumer, producer, batch_len_max, streams })
    }

    /// Asks in one round trip.
    pub(super) async fn ask(&self, question: BusQuestion) -> Result<BusAnswer, LinkError> {
        let BusQuestion { after, block, report } = question;
        let mut pipeline = redis::pipe();
        if let Some(report) = &report {
            if !report.is_empty() {
                let set = pipeline.cmd("HSET").arg(keys::applied(self.producer));
                for (partition, seq) in report {
                    set.arg(keys::applied_field(self.consumer, *partition)).arg(*seq);
                }
                set.ignore();
            }
            pipeline.cmd("HGETALL").arg(keys::heads(self.producer));
        }
        // BLOCK 0 would mean for ever.
        let block = block.filter(|block| block.as_millis() > 0);
        if !after.is_empty() {
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(self.batch_len_max);
            if let Some(block) = block {
                read.arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(1));
            }
            read.arg("STREAMS");
            after.keys().for_each(|partition| {
                read.arg(keys::log(self.producer, *partition));
            });
            after.values().for_each(|position| {
                read.arg(format!("{}-0", position.seq));
            });
        }
        let answers = self.link.run_blocking(&mut pipeline, block.unwrap_or_default()).await?;
        let answers: Vec<Value> = answers.into_iter().collect::<RedisResult<_>>().map_err(LinkError::Command)?;
        let mut answers = answers.into_iter();
        let heads = match &report {
            Some(_) => Some(read_heads(answers.next().unwrap_or_default())?),
            None => None,
        };
        let entries = match answers.next() {
            Some(value) => self.read_entries(value)?,
            None => BTreeMap::new(),
        };
        Ok(BusAnswer { asked: after, entries, heads })
    }

    fn read_entries(&self, value: Value) -> Result<BTreeMap<Partition, Vec<BusEntry>>, LinkError> {
        let reply = Option::<StreamReadReply>::from_redis_value(value)
            .map_err(|error| LinkError::Command(error.into()))?
            .unwrap_or_default();
        Ok(reply
            .keys
            .into_iter()
            .filter_map(|stream| {
                let partition = self.streams.get(&stream.key)?;
                Some((*partition, stream.ids.iter().map(read_entry).collect()))
            })
            .collect())
    }
}

fn read_heads(value: Value) -> Result<BTreeMap<Partition, i64>, LinkError> {
    let heads = HashMap::<i16, i64>::from_redis_value(value).map_err(|error| LinkError::Command(error.into()))?;
    Ok(heads.into_iter().filter_map(|(number, seq)| Some((Partition::new(number).ok()?, seq))).collect())
}

fn read_entry(entry: &StreamId) -> BusEntry {
    let event: Option<Envelope> = match entry.map.get(keys::ENTRY_FIELD) {
        Some(Value::BulkString(json)) => serde_json::from_slice(json).ok(),
        _ => None,
    };
    match event {
        Some(event) if entry.id == format!("{}-0", event.seq) => BusEntry::Event(event),
        _ => BusEntry::Unreadable,
    }
}
