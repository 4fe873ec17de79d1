//! Posts orders: as fast as a number of connections goes (closed loop), or at a fixed rate, whatever the server does
//! (open loop).

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, TryStreamExt};
use hdrhistogram::Histogram;
use tokio::sync::{Mutex, mpsc};

use super::connection::Connection;
use super::{LoadError, OrderBook};
use crate::drill::trader::Placed;

/// The longest latency that is told apart, in microseconds.
const LATENCY_MAX_US: u64 = 120_000_000;
/// Three digits of a latency are exact.
const LATENCY_DIGITS: u8 = 3;
/// An arrival that waits this long for a free connection is held up by the generator.
const HELD_UP: Duration = Duration::from_millis(2);
const NANOS: u128 = 1_000_000_000;

/// How orders arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Each connection posts its next order when it has the answer to the last one. Latency is that of a call.
    Closed,
    /// So many a second, at even distances. Latency counts from the moment when the order was to arrive, so that
    /// waiting for a free connection, or behind a server that stalls, is part of it.
    Open {
        /// Orders a second.
        per_s: u64,
    },
}

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// How orders arrive.
    pub arrivals: Arrivals,
    /// Connections.
    pub connections: usize,
    /// For how long orders are posted.
    pub duration: Duration,
    /// The number of the first order; the others follow.
    pub first_number: u64,
}

/// What became of a load.
#[derive(Debug)]
pub struct LoadResult {
    /// Each order's number and answer.
    pub posted: Vec<(u64, Placed)>,
    /// Latencies in microseconds.
    pub latency_us: Histogram<u64>,
    /// From the first order to the last answer.
    pub elapsed: Duration,
    /// Arrivals of an open loop that found no free connection in time.
    pub held_up: u64,
}

impl LoadResult {
    /// Orders that were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.posted.iter().filter(|(_, placed)| matches!(placed, Placed::Accepted(_))).count()
    }

    /// The number after the last order.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.posted.iter().map(|(number, _)| number + 1).max().unwrap_or_default()
    }
}

/// Posts the orders of `book` at `api_url`. Blocks its thread, which serves all connections: a thread for each would
/// make the server wake one up with every answer, and what that costs would look like the server's own.
///
/// # Errors
/// [`LoadError`] when a connection cannot be opened; what happens to an opened one is part of the result.
pub fn run(book: &OrderBook, api_url: &str, plan: &LoadPlan) -> Result<LoadResult, LoadError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LoadError::Runtime)?;
    runtime.block_on(post_all(book, api_url, plan))
}

async fn post_all(book: &OrderBook, api_url: &str, plan: &LoadPlan) -> Result<LoadResult, LoadError> {
    let address = api_url.strip_prefix("http://").ok_or_else(|| LoadError::Address(api_url.to_owned()))?;
    let connect = |_| async {
        Connection::open(address).await.map_err(|source| LoadError::Connect { address: address.to_owned(), source })
    };
    let connections: Vec<Connection> =
        (0..plan.connections).map(connect).collect::<FuturesUnordered<_>>().try_collect().await?;
    let start = Instant::now();
    let queue = Queue::open(*plan, start);
    let workers: FuturesUnordered<_> =
        connections.into_iter().map(|connection| work(book, &queue, connection)).collect();
    let whole = workers.try_fold(Share::new()?, async |whole, share| Ok(whole.with(share))).await?;
    let elapsed = start.elapsed();
    Ok(LoadResult { posted: whole.posted, latency_us: whole.latency_us, elapsed, held_up: whole.held_up })
}

/// An order's number and the moment when it arrives.
type Arrival = (u64, Instant);

/// Which order comes next, and when.
#[derive(Debug)]
enum Queue {
    Closed { plan: LoadPlan, start: Instant, taken: AtomicU64 },
    Open(Mutex<mpsc::Receiver<Arrival>>),
}

impl Queue {
    fn open(plan: LoadPlan, start: Instant) -> Self {
        match plan.arrivals {
            Arrivals::Closed => Self::Closed { plan, start, taken: AtomicU64::new(0) },
            Arrivals::Open { per_s } => {
                // Room for all of them: arrivals do not wait for the server.
                let all = plan.duration.as_nanos() * u128::from(per_s) / NANOS + 1;
                let (arrivals, waiting) = mpsc::channel(usize::try_from(all).unwrap_or(usize::MAX >> 3).max(1));
                // A thread sleeps to within some 60 microseconds, a timer of the runtime to a millisecond.
                thread::spawn(move || arrive(&plan, per_s, start, &arrivals));
                Self::Open(Mutex::new(waiting))
            }
        }
    }

    /// The next one, once it has arrived; none when the time is over.
    async fn next(&self) -> Option<Arrival> {
        match self {
            Self::Closed { plan, start, taken } => {
                let now = Instant::now();
                let place = taken.fetch_add(1, Ordering::Relaxed);
                (now.duration_since(*start) < plan.duration).then(|| (plan.first_number + place, now))
            }
            Self::Open(waiting) => waiting.lock().await.recv().await,
        }
    }
}

fn arrive(plan: &LoadPlan, per_s: u64, start: Instant, arrivals: &mpsc::Sender<Arrival>) {
    for place in 0.. {
        let after = offset(place, per_s);
        if after >= plan.duration {
            return;
        }
        let at = start + after;
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if arrivals.blocking_send((plan.first_number + place, at)).is_err() {
            return;
        }
    }
}

fn offset(place: u64, per_s: u64) -> Duration {
    let nanos = u128::from(place) * NANOS / u128::from(per_s.max(1));
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}

/// One connection's part of the result.
#[derive(Debug)]
struct Share {
    posted: Vec<(u64, Placed)>,
    latency_us: Histogram<u64>,
    held_up: u64,
}

impl Share {
    fn new() -> Result<Self, LoadError> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, LATENCY_DIGITS)?;
        Ok(Self { posted: Vec::new(), latency_us, held_up: 0 })
    }

    fn with(mut self, other: Self) -> Self {
        self.posted.extend(other.posted);
        self.held_up += other.held_up;
        // Both have the same bounds.
        let _fits = self.latency_us.add(&other.latency_us);
        self
    }
}

async fn work(book: &OrderBook, queue: &Queue, mut connection: Connection) -> Result<Share, LoadError> {
    let mut share = Share::new()?;
    while let Some((number, at)) = queue.next().await {
        let Some((trader, order)) = book.order(number) else { break };
        let Some((_, request)) = trader.raw_post(&order) else { break };
        share.held_up += u64::from(at.elapsed() > HELD_UP);
        let placed = connection.post(&request).await;
        let latency_us = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        share.latency_us.saturating_record(latency_us);
        share.posted.push((number, placed));
    }
    Ok(share)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use rust_decimal::Decimal;

    use super::*;
    use crate::drill::trader::Trader;
    use crate::stack::ApiKey;

    const ANSWER: &str =
        "HTTP/1.1 200 OK\r\ncontent-length: 45\r\n\r\n{\"id\":\"018f0000-0000-7000-8000-000000000001\"}";

    /// A server that answers its connections one after the other, each request after `pause`.
    fn server(pause: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || answer_all(stream, pause));
            }
        });
        url
    }

    fn answer_all(mut stream: std::net::TcpStream, pause: Duration) {
        let mut buffer = [0; 4096];
        // Each request is written in one piece and is short, so one read takes it.
        while stream.read(&mut buffer).is_ok_and(|len| len > 0) {
            thread::sleep(pause);
            if stream.write_all(ANSWER.as_bytes()).is_err() {
                return;
            }
        }
    }

    fn book(url: &str) -> OrderBook {
        platform::tls::install_crypto_provider();
        let key = ApiKey { key_id: "k".to_owned(), secret_key: "s".to_owned() };
        let trader = Trader::new(0, Decimal::ONE, key, url.to_owned(), reqwest::Client::new());
        OrderBook::new(vec![trader], "r".to_owned())
    }

    #[test]
    fn every_order_is_posted_once_and_counted() {
        let url = server(Duration::ZERO);
        let plan = LoadPlan {
            arrivals: Arrivals::Closed,
            connections: 4,
            duration: Duration::from_millis(100),
            first_number: 10,
        };
        let result = run(&book(&url), &url, &plan).unwrap();
        let numbers: BTreeSet<u64> = result.posted.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers.len(), result.posted.len());
        assert_eq!(result.accepted(), result.posted.len());
        assert_eq!(result.latency_us.len(), numbers.len() as u64);
        assert_eq!((numbers.first(), numbers.last()), (Some(&10), Some(&(result.next_number() - 1))));
    }

    #[test]
    fn waiting_for_a_server_that_stalls_is_part_of_an_open_loops_latency() {
        // One connection, 100 arrivals a second, 30 ms a call: the tenth order waits for the nine before it.
        let (url, pause) = (server(Duration::from_millis(30)), Duration::from_millis(30));
        let plan = LoadPlan {
            arrivals: Arrivals::Open { per_s: 100 },
            connections: 1,
            duration: Duration::from_millis(100),
            first_number: 0,
        };
        let result = run(&book(&url), &url, &plan).unwrap();
        assert_eq!(result.posted.len(), 10);
        assert!(Duration::from_micros(result.latency_us.max()) >= pause * 10 - Duration::from_millis(90));
        assert!(result.held_up >= 5);
    }
}
