//! The exchange with its clock, its lock and everybody who waits for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::journal::JournalError;
use super::push::PushTally;

/// Most streams at once.
const STREAMS_MAX: usize = 64;
/// Longest sleep of the driver.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The broker is stopping, or may not answer because its state file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the broker has stopped")]
pub(super) struct Stopped;

/// What all tasks of one broker share.
#[derive(Debug)]
pub(super) struct Shared {
    exchange: Mutex<Exchange>,
    failure: Mutex<Option<JournalError>>,
    head: watch::Sender<u64>,
    resets: watch::Sender<u64>,
    wake: Notify,
    /// When the driver is going to wake up, in Unix microseconds.
    planned_us: AtomicI64,
    window: Mutex<Window>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) push: PushTally,
    pub(super) stop: CancellationToken,
    /// `key:secret`.
    pub(super) credentials: String,
}

/// Requests of the minute that is running.
#[derive(Debug)]
struct Window {
    minute: i64,
    count: u32,
}

/// What the rate limit says of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    pub(super) allowed: bool,
    pub(super) limit: u32,
    pub(super) remaining: u32,
    /// Unix seconds.
    pub(super) reset_at: i64,
}

impl Shared {
    pub(super) fn new(exchange: Exchange, credentials: String) -> Self {
        let (head, resets) = (exchange.head(), exchange.resets());
        Self {
            exchange: Mutex::new(exchange),
            failure: Mutex::new(None),
            head: watch::Sender::new(head),
            resets: watch::Sender::new(resets),
            wake: Notify::new(),
            planned_us: AtomicI64::new(i64::MAX),
            window: Mutex::new(Window { minute: 0, count: 0 }),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            push: PushTally::default(),
            stop: CancellationToken::new(),
            credentials,
        }
    }

    /// Does something with the exchange as it is now. The state file is written before this
    /// returns, so the result may be answered.
    ///
    /// # Errors
    /// [`Stopped`] when the state file could not be written; the result must not be told.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Exchange) -> R) -> Result<R, Stopped> {
        if lock(&self.failure).is_some() {
            return Err(Stopped);
        }
        let mut exchange = lock(&self.exchange);
        exchange.advance(OffsetDateTime::now_utc());
        let result = act(&mut exchange);
        if let Err(failure) = exchange.commit() {
            *lock(&self.failure) = Some(failure);
            self.stop.cancel();
            return Err(Stopped);
        }
        let (head, resets, due) = (exchange.head(), exchange.resets(), exchange.next_due());
        drop(exchange);
        metrics::counter!("sim_events_total").absolute(head);
        raise(&self.head, head);
        raise(&self.resets, resets);
        if due.is_some_and(|due| unix_us(due) < self.planned_us.load(Ordering::Acquire)) {
            self.wake.notify_one();
        }
        Ok(result)
    }

    /// Follows the position after the newest event.
    pub(super) fn follow_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Follows how often all streams were broken off.
    pub(super) fn follow_resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    pub(super) fn streams_open(&self) -> usize {
        STREAMS_MAX.saturating_sub(self.streams.available_permits())
    }

    /// Why the broker stopped by itself.
    pub(super) fn take_failure(&self) -> Option<JournalError> {
        lock(&self.failure).take()
    }

    /// Counts a request against the limit a minute.
    pub(super) fn admit(&self, limit: u32) -> Allowance {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let minute = now.div_euclid(60);
        let mut window = lock(&self.window);
        if window.minute != minute {
            *window = Window { minute, count: 0 };
        }
        window.count = window.count.saturating_add(1);
        let shown = if limit == 0 { u32::MAX } else { limit };
        Allowance {
            allowed: window.count <= shown,
            limit: shown,
            remaining: shown.saturating_sub(window.count),
            reset_at: (minute + 1) * 60,
        }
    }

    /// Moves prices and carries out what is due, until the broker stops.
    pub(super) async fn drive(&self) {
        let mut last_tick = Instant::now();
        while !self.stop.is_cancelled() {
            let Ok(wait) = self.turn(&mut last_tick) else { break };
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn next_due(&self) -> Option<OffsetDateTime> {
        lock(&self.exchange).next_due()
    }

    /// One turn of the driver; answers how long it can sleep.
    fn turn(&self, last_tick: &mut Instant) -> Result<Duration, Stopped> {
        // Awake: nobody needs to wake the driver, least of all its own look at the exchange.
        self.planned_us.store(i64::MIN, Ordering::Release);
        let tick_ms = self.with(|exchange| {
            let tick_ms = exchange.config().tick_ms;
            if tick_ms > 0 && last_tick.elapsed() >= Duration::from_millis(tick_ms) {
                *last_tick = Instant::now();
                exchange.tick();
            }
            tick_ms
        })?;
        let mut wait = SLEEP_MAX;
        if tick_ms > 0 {
            wait = wait.min(Duration::from_millis(tick_ms).saturating_sub(last_tick.elapsed()));
        }
        let now = OffsetDateTime::now_utc();
        let wakes_at = now.saturating_add(time::Duration::try_from(wait).unwrap_or_default());
        self.planned_us.store(unix_us(wakes_at), Ordering::Release);
        // Looked up after the store: what is planned from here on wakes the driver by itself.
        if let Some(due) = self.next_due() {
            wait = wait.min(Duration::try_from(due - now).unwrap_or_default());
            self.planned_us.store(unix_us(wakes_at.min(due)), Ordering::Release);
        }
        Ok(wait)
    }
}

fn raise(sender: &watch::Sender<u64>, value: u64) {
    sender.send_if_modified(|current| {
        let higher = value > *current;
        *current = value.max(*current);
        higher
    });
}

fn unix_us(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// A panic in another task does not make the data any worse: every change is one statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
