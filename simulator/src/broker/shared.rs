//! The exchange with its clock, its lock and everybody who waits for it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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
    minute: Mutex<Window>,
    second: Mutex<Window>,
    token: Mutex<Option<Token>>,
    pub(super) streams: Arc<Semaphore>,
    pub(super) push: PushTally,
    pub(super) stop: CancellationToken,
    /// `key:secret`.
    credentials: String,
}

/// Requests of the minute or second that is running.
#[derive(Debug, Default)]
struct Window {
    number: i64,
    count: u32,
}

impl Window {
    /// Counts a request in the span of that number, and answers how many it has.
    fn count(&mut self, number: i64) -> u32 {
        if self.number != number {
            *self = Self { number, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}

/// The one token that is valid.
struct Token {
    text: String,
    ends_at: Instant,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Token").field("ends_at", &self.ends_at).finish_non_exhaustive()
    }
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
            minute: Mutex::default(),
            second: Mutex::default(),
            token: Mutex::default(),
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
        let mut exchange = lock(&self.exchange);
        // Looked at under the lock: whoever waited for it must not go on with a file that ends in half a record.
        if lock(&self.failure).is_some() {
            return Err(Stopped);
        }
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

    /// Whether a text is the key with its secret, joined by a colon.
    pub(super) fn is_key(&self, shown: &str) -> bool {
        shown == self.credentials
    }

    /// Whether a token is the valid one.
    pub(super) fn is_token(&self, shown: &str) -> bool {
        lock(&self.token).as_ref().is_some_and(|token| token.text == shown && Instant::now() < token.ends_at)
    }

    /// A new token; the one before is not valid any more.
    pub(super) fn issue_token(&self, lifetime_ms: u64) -> String {
        let text = Uuid::new_v4().to_string();
        let ends_at = Instant::now() + Duration::from_millis(lifetime_ms);
        *lock(&self.token) = Some(Token { text: text.clone(), ends_at });
        text
    }

    /// Counts a request against the limits a minute and a second; 0 for none.
    pub(super) fn admit(&self, minute_limit: u32, second_limit: u32) -> Allowance {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let minute = now.div_euclid(60);
        let (in_minute, in_second) = (lock(&self.minute).count(minute), lock(&self.second).count(now));
        let shown = |limit: u32| if limit == 0 { u32::MAX } else { limit };
        Allowance {
            allowed: in_minute <= shown(minute_limit) && in_second <= shown(second_limit),
            limit: shown(minute_limit),
            remaining: shown(minute_limit).saturating_sub(in_minute),
            reset_at: if in_second > shown(second_limit) { now + 1 } else { (minute + 1) * 60 },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_anew_when_its_span_is_over() {
        let mut window = Window::default();
        assert_eq!([7, 7, 7, 8, 8].map(|number| window.count(number)), [1, 2, 3, 1, 2]);
    }
}
