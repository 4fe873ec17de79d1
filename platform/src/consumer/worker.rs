//! The loop of one consumer: looks at the bus and the feed, starts work for partitions, takes in
//! how it went. Decisions are the trackers' and the mode switch's; this moves the bytes.

use super::bus_reader::{BusAnswer, BusQuestion, BusReader};
use super::config::ConsumerConfig;
use super::job::{Job, JobContext, JobEnd};
use super::mode::{BusLook, Mode, ModeSwitch};
use super::partitions::{Lane, Partitions};
use super::sink::Sink;
use super::status::ConsumerStatus;
use super::tracker::{Step, history_fault};
use crate::eventlog::Position;
use crate::feed::FeedError;
use crate::lease::Leases;
use crate::link::LinkError;
use crate::reconnect::ReconnectDelay;
use contracts::Partition;
use contracts::event::Producer;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pause before the bus is looked at again while work is under way, so that a partition that just
/// finished is read on soon.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

type Look = Result<BusAnswer, LinkError>;
/// Where we stood when the feed's heads were asked for, and what it said.
type FeedHeads = (BTreeMap<Partition, Position>, Result<BTreeMap<Partition, Position>, FeedError>);

pub(super) struct Worker<S> {
    consumer: &'static str,
    producer: Producer,
    config: ConsumerConfig,
    context: JobContext<S>,
    bus: Arc<BusReader>,
    status: ConsumerStatus,
    leases: Leases,
    partitions: Partitions,
    mode: ModeSwitch,
    /// The heads that were last announced on the bus; none before the first look.
    announced: Option<BTreeMap<Partition, i64>>,
    jobs: JoinSet<(Partition, JobEnd)>,
    feed_heads: JoinSet<FeedHeads>,
    looks: JoinSet<Look>,
    positions_wanted: bool,
    report_due: Instant,
    feed_due: Instant,
    /// Since when the feed does not tell its heads.
    feed_fails_since: Option<Instant>,
    feed_delay: ReconnectDelay,
    bus_due: Instant,
    bus_delay: ReconnectDelay,
}

impl<S: Sink> Worker<S> {
    pub(super) fn new(
        consumer: &'static str,
        config: ConsumerConfig,
        context: JobContext<S>,
        bus: BusReader,
        status: ConsumerStatus,
        leases: Leases,
    ) -> Self {
        let now = Instant::now();
        let delay = |min_ms, max_ms| ReconnectDelay::new(Duration::from_millis(min_ms), Duration::from_millis(max_ms));
        Self {
            consumer,
            producer: context.producer,
            partitions: Partitions::new(consumer, context.producer, &config, status.clone()),
            mode: ModeSwitch::new(config.silence()),
            announced: None,
            jobs: JoinSet::new(),
            feed_heads: JoinSet::new(),
            looks: JoinSet::new(),
            positions_wanted: false,
            report_due: now,
            feed_due: now,
            feed_fails_since: None,
            feed_delay: delay(config.poll_interval_ms, config.retry_ms_max.max(config.poll_interval_ms)),
            bus_due: now,
            bus_delay: delay(config.bus_retry_ms_min, config.bus_retry_ms_max),
            config,
            context,
            bus: Arc::new(bus),
            status,
            leases,
        }
    }

    pub(super) async fn run(mut self) {
        let shutdown = self.context.shutdown.clone();
        self.show_mode();
        if self.read_first_positions(&shutdown).await {
            while !shutdown.is_cancelled() {
                self.turn(&shutdown).await;
            }
        }
        // What is under way is in a transaction; it ends within the database's time limits.
        while self.jobs.join_next().await.is_some() {}
    }

    /// Answers whether they could be read before the shutdown.
    async fn read_first_positions(&mut self, shutdown: &CancellationToken) -> bool {
        let mut delay = ReconnectDelay::new(
            Duration::from_millis(self.config.retry_ms_min),
            Duration::from_millis(self.config.retry_ms_max),
        );
        loop {
            tokio::select! {
                read = self.context.sink.positions(self.producer) => match read {
                    Ok(positions) => {
                        self.partitions.start(&positions);
                        return true;
                    }
                    Err(error) => self.note("applied positions could not be read", &error),
                },
                () = shutdown.cancelled() => return false,
            }
            tokio::select! {
                () = tokio::time::sleep(delay.next_delay()) => {}
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// One turn: take in what has ended, start what is due, wait for the next thing.
    async fn turn(&mut self, shutdown: &CancellationToken) {
        self.reap();
        let leases = &self.leases;
        self.positions_wanted |= self.partitions.prefer(|partition| leases.prefers(partition), Instant::now());
        if self.positions_wanted {
            self.reread_positions().await;
        }
        self.ask_feed_heads();
        self.leases.report_trouble(self.producer.as_str(), self.trouble_since());
        let now = Instant::now();
        match self.mode.mode() {
            Mode::Bus => {
                let looked = self.look_and_wait(shutdown, now).await;
                let started = self.start_jobs(looked);
                // Without work under way the look itself did the waiting, if it could.
                if !started && (!self.jobs.is_empty() || self.partitions.none_readable(Instant::now())) {
                    self.wait(shutdown).await;
                }
            }
            Mode::Polling => {
                if now >= self.bus_due && self.looks.is_empty() {
                    self.spawn_probe(now);
                }
                self.start_jobs(None);
                self.wait(shutdown).await;
            }
        }
    }

    /// Since when this copy cannot do its part. While the bus brings everything, and something is to be
    /// brought, a feed that is away is none.
    fn trouble_since(&self) -> Option<Instant> {
        let needs_feed = self.mode.mode() == Mode::Polling || !self.partitions.has_any();
        let feed = self.feed_fails_since.filter(|_| needs_feed);
        self.partitions.trouble_since().into_iter().chain(feed).min()
    }

    /// Waits for the next thing that can happen by itself.
    async fn wait(&mut self, shutdown: &CancellationToken) {
        let now = Instant::now();
        let in_bus_mode = self.mode.mode() == Mode::Bus;
        let mut wake_at = now + self.config.bus_block();
        if in_bus_mode && !self.jobs.is_empty() {
            wake_at = wake_at.min(now + BUSY_PAUSE);
        }
        if !in_bus_mode && self.looks.is_empty() {
            wake_at = wake_at.min(self.bus_due);
        }
        if self.feed_heads.is_empty() {
            wake_at = wake_at.min(self.feed_due);
        }
        wake_at = self.partitions.next_retry(now).map_or(wake_at, |at| wake_at.min(at));
        tokio::select! {
            Some(ended) = self.jobs.join_next() => self.on_job_end(ended),
            Some(heads) = self.feed_heads.join_next() => self.on_feed_heads(heads),
            Some(look) = self.looks.join_next() => self.on_probe(look),
            () = self.leases.changed() => {}
            () = tokio::time::sleep_until(wake_at.into()) => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn reap(&mut self) {
        while let Some(ended) = self.jobs.try_join_next() {
            self.on_job_end(ended);
        }
        while let Some(heads) = self.feed_heads.try_join_next() {
            self.on_feed_heads(heads);
        }
        while let Some(look) = self.looks.try_join_next() {
            self.on_probe(look);
        }
    }

    // ---- the bus

    async fn look_and_wait(&mut self, shutdown: &CancellationToken, now: Instant) -> Option<BusAnswer> {
        let after = self.partitions.readable(now);
        let may_block = self.jobs.is_empty() && !self.partitions.any_due_for_feed(now);
        let mut block = self.config.bus_block();
        if let Some(at) = self.partitions.next_retry(now) {
            block = block.min(at.saturating_duration_since(now));
        }
        let report = (now >= self.report_due).then(|| self.partitions.applied());
        if report.is_some() {
            self.report_due = now + self.config.heads_interval();
        }
        let question = BusQuestion { after, block: may_block.then_some(block), report };
        let look = tokio::select! {
            look = self.bus.ask(question) => look,
            () = shutdown.cancelled() => return None,
        };
        self.take_look(look)
    }

    /// Looks at the bus without waiting on it, while the feed is polled.
    fn spawn_probe(&mut self, now: Instant) {
        self.bus_due = now + self.bus_delay.next_delay();
        let question =
            BusQuestion { after: self.partitions.live(), block: None, report: Some(self.partitions.applied()) };
        let bus = Arc::clone(&self.bus);
        self.looks.spawn(async move { bus.ask(question).await });
    }

    fn on_probe(&mut self, look: Result<Look, tokio::task::JoinError>) {
        let Ok(look) = look else { return };
        let answer = self.take_look(look);
        self.start_jobs(answer);
    }

    /// Lets the mode switch see what the bus answered.
    fn take_look(&mut self, look: Look) -> Option<BusAnswer> {
        let now = Instant::now();
        let (seen, answer) = match look {
            Ok(mut answer) => {
                if let Some(heads) = answer.heads.take() {
                    self.partitions.saw_heads(&heads, now);
                    self.announced = Some(heads);
                }
                (self.judge(&answer), Some(answer))
            }
            Err(error) => {
                // Said once a change of mode; the probes that follow fail for the same reason.
                if self.mode.mode() == Mode::Bus {
                    self.note("bus could not be read", &error);
                }
                (BusLook::Dead, None)
            }
        };
        if let Some(mode) = self.mode.saw(seen, now) {
            tracing::warn!(
                consumer = self.consumer,
                producer = self.producer.as_str(),
                mode = ?mode,
                "consumer changed where it reads"
            );
            self.show_mode();
            self.feed_due = now;
            if mode == Mode::Bus {
                self.bus_delay.reset();
            } else {
                self.bus_due = now + self.bus_delay.next_delay();
            }
        }
        answer
    }

    fn judge(&self, answer: &BusAnswer) -> BusLook {
        match &self.announced {
            None => BusLook::Incomplete,
            Some(heads) if heads.is_empty() => BusLook::Unfed,
            Some(heads) if self.partitions.bus_is_whole(answer, heads) => BusLook::Whole,
            Some(_) => BusLook::Incomplete,
        }
    }

    fn show_mode(&self) {
        let mode = self.mode.mode();
        self.status.update(|status| status.mode = mode);
        let polling = if mode == Mode::Polling { 1.0 } else { 0.0 };
        metrics::gauge!("consumer_mode", "consumer" => self.consumer, "producer" => self.producer.as_str())
            .set(polling);
    }

    // ---- the feed's heads

    fn ask_feed_heads(&mut self) {
        if !self.feed_heads.is_empty() || Instant::now() < self.feed_due {
            return;
        }
        let asked = self.partitions.live();
        let (feed, producer) = (self.context.feed.clone(), self.producer);
        self.feed_heads.spawn(async move { (asked, feed.heads(producer).await) });
    }

    fn on_feed_heads(&mut self, ended: Result<FeedHeads, tokio::task::JoinError>) {
        let now = Instant::now();
        let Ok((asked, heads)) = ended else { return };
        match heads {
            Ok(heads) => {
                self.feed_delay.reset();
                self.feed_fails_since = None;
                self.status.update(|status| status.feed_reachable = true);
                for (partition, applied) in asked {
                    let head = heads.get(&partition).copied().unwrap_or_default();
                    match history_fault(applied, head) {
                        Some(fault) => self.partitions.stop(partition, fault, now),
                        None => self.partitions.saw_head(partition, head.seq, now),
                    }
                }
                self.feed_due = now
                    + match self.mode.mode() {
                        Mode::Bus => self.config.history_check_interval(),
                        Mode::Polling => self.config.poll_interval(),
                    };
            }
            Err(error) => {
                self.feed_failed(&error);
                self.feed_fails_since.get_or_insert(now);
                self.feed_due = now + self.feed_delay.next_delay();
            }
        }
    }

    fn feed_failed(&self, error: &(dyn Error + 'static)) {
        metrics::counter!(
            "consumer_feed_errors_total", "consumer" => self.consumer, "producer" => self.producer.as_str()
        )
        .increment(1);
        self.status.update(|status| status.feed_reachable = false);
        self.note("feed could not be read", error);
    }

    // ---- work for partitions

    /// Starts what the bus brought, or what must come from the feed. Answers whether anything was.
    fn start_jobs(&mut self, answer: Option<BusAnswer>) -> bool {
        let now = Instant::now();
        let mut answer = answer.unwrap_or_default();
        let mut started = false;
        let polling = self.mode.mode() == Mode::Polling;
        let silence = self.config.silence();
        for (partition, lane) in self.partitions.idle(now) {
            let step = bus_step(lane, partition, &mut answer, now, silence);
            let step = if polling && !matches!(step, Step::Apply(_)) { lane.tracker.poll() } else { step };
            let job = match step {
                Step::Rest => continue,
                Step::Apply(slice) => Job::Apply(slice),
                Step::Feed(reason) => Job::Feed { after: lane.tracker.applied(), reason },
            };
            lane.busy = true;
            started = true;
            let work = AssertUnwindSafe(self.context.clone().run(partition, job)).catch_unwind();
            self.jobs.spawn(async move { (partition, work.await.unwrap_or(JobEnd::Panicked)) });
        }
        started
    }

    fn on_job_end(&mut self, ended: Result<(Partition, JobEnd), tokio::task::JoinError>) {
        let now = Instant::now();
        let (partition, end) = match ended {
            Ok(ended) => ended,
            // Only the end of the runtime takes a task away; panics are caught inside.
            Err(_) => return,
        };
        let (consumer, producer) = (self.consumer, self.producer.as_str());
        match end {
            JobEnd::Applied { to, by_bus, events } => self.partitions.moved_to(partition, to, by_bus, events, now),
            JobEnd::Moved => {
                self.positions_wanted = true;
                metrics::counter!("consumer_moved_total", "consumer" => consumer, "producer" => producer).increment(1);
                self.partitions.retry_later(partition, now);
            }
            JobEnd::FeedEmpty => {
                metrics::counter!("consumer_feed_empty_total", "consumer" => consumer, "producer" => producer)
                    .increment(1);
                self.partitions.nothing_there(partition, now);
            }
            JobEnd::HistoryFault(fault) => self.partitions.stop(partition, fault, now),
            JobEnd::FeedFailed(error) => {
                self.feed_failed(&error);
                self.partitions.failed(partition, now);
            }
            JobEnd::SinkFailed(error) => {
                metrics::counter!("consumer_sink_errors_total", "consumer" => consumer, "producer" => producer)
                    .increment(1);
                self.note("events could not be applied", &error);
                // The commit may have gone through.
                self.positions_wanted = true;
                self.partitions.failed(partition, now);
            }
            JobEnd::Panicked => {
                metrics::counter!("consumer_panics_total", "consumer" => consumer, "producer" => producer).increment(1);
                tracing::error!(
                    consumer = self.consumer,
                    producer = self.producer.as_str(),
                    partition = partition.number(),
                    "applying events panicked; they are offered again"
                );
                self.positions_wanted = true;
                self.partitions.failed(partition, now);
            }
            JobEnd::Abandoned => self.partitions.retry_later(partition, now),
        }
    }

    async fn reread_positions(&mut self) {
        match self.context.sink.positions(self.producer).await {
            Ok(positions) => {
                self.positions_wanted = false;
                self.partitions.reread(&positions, Instant::now());
            }
            Err(error) => self.note("applied positions could not be read", &error),
        }
    }

    // ---- telling

    fn note(&self, what: &'static str, error: &(dyn Error + 'static)) {
        tracing::warn!(consumer = self.consumer, producer = self.producer.as_str(), error = %crate::telemetry::Chain(error), "{what}");
        let cause = error.source().map(|source| format!(": {source}")).unwrap_or_default();
        let text = format!("{what}: {error}{cause}");
        self.status.update(|status| status.last_error = Some(text));
    }
}

/// What the bus shows for a partition, if it was asked from where the partition stands now.
fn bus_step(lane: &Lane, partition: Partition, answer: &mut BusAnswer, now: Instant, silence: Duration) -> Step {
    let applied = lane.tracker.applied();
    let entries = match answer.asked.get(&partition) {
        Some(asked) if *asked == applied => answer.entries.remove(&partition).unwrap_or_default(),
        _ => Vec::new(),
    };
    lane.tracker.offer_bus(entries, now, silence)
}
