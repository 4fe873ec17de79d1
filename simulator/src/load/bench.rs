//! The benchmark: accepted and filled orders a second beside a plain transaction an order on the same server, in rounds,
//! and the comparison with the broker's truth at the end.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rust_decimal::Decimal;
use serde_json::json;

use super::cpu::{self, CpuTimes};
use super::figures::{self, Round, Summary};
use super::generator::{Arrivals, LoadPlan, LoadResult};
use super::pgbench::{Pgbench, checkpoint};
use super::phase::{Books, post, start_behind, stop_behind};
use super::proof::prove;
use super::statements::{self, Statements};
use super::{LoadError, OrderBook, open_accounts};
use crate::drill::exercise::configure_broker;
use crate::drill::outcome::Outcome;
use crate::drill::trader::Placed;
use crate::stack::{Announcer, GivenServers, Layout, MarketHours, ProcessName, Stack, StackOptions};

/// Cash of each account in US dollars; more than its orders can cost.
const DEPOSIT: Decimal = Decimal::from_parts(1_000_000_000, 0, 0, false, 0);
/// Connections of the open loop: many more than it needs at once, so that none is waited for.
const OPEN_CONNECTIONS: usize = 128;
/// Load before the first round, which fills caches and is not counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// The lane's rate, so that the broker's limit is not what is measured.
const LANE_PER_S: &str = "100000";

/// How a benchmark is to be.
pub struct BenchOptions {
    /// The checkout that holds the run folders.
    pub checkout: PathBuf,
    /// The folder of the service binaries.
    pub bin: PathBuf,
    /// The time of each measurement.
    pub duration: Duration,
    /// Connections of the closed loop.
    pub connections: usize,
    /// How often everything is measured.
    pub rounds: usize,
    /// Accounts that trade, and rows of the yardstick's account table.
    pub accounts: usize,
    /// Whether to say where PostgreSQL spends its time.
    pub profile: bool,
    /// Settings of processes that differ from their defaults.
    pub set: Vec<(String, String)>,
    /// Where to say what happens.
    pub announce: Announcer,
}

/// Runs it on a private stack.
///
/// # Errors
/// When anything could not be measured.
pub async fn run(options: BenchOptions) -> Result<(Summary, Outcome), LoadError> {
    if options.rounds == 0 || options.connections == 0 || options.accounts == 0 || options.duration.is_zero() {
        return Err(LoadError::Settings("rounds, connections, accounts and seconds must be at least 1".to_owned()));
    }
    let stack = Box::pin(Stack::start(StackOptions {
        layout: Layout::of_checkout(&options.checkout, "bench"),
        bin: options.bin.clone(),
        keep: false,
        market_hours: MarketHours::Always,
        seed: 1,
        copies: 1,
        given: GivenServers::default(),
        extra: settings(&options),
        broker_url: None,
        announce: options.announce.clone(),
    }))
    .await?;
    let result = match Bench::prepare(stack, &options).await {
        Ok(mut bench) => {
            let result = bench.measure().await;
            (bench.stack, result)
        }
        Err((stack, error)) => (stack, Err(error)),
    };
    let (stack, result) = result;
    stack.shutdown().await;
    result
}

/// What differs from the defaults.
fn settings(options: &BenchOptions) -> BTreeMap<ProcessName, Vec<(String, String)>> {
    let lane = ["BROKER_GATEWAY__LANE__RATE_PER_S", "BROKER_GATEWAY__LANE__BURST"];
    // Every fill comes once: by the stream.
    let no_push = vec![("BROKER_SIM__PUSH_URL".to_owned(), String::new())];
    let lane = lane.map(|name| (name.to_owned(), LANE_PER_S.to_owned())).to_vec();
    let of = |prefix: &'static str| options.set.iter().filter(move |(name, _)| name.starts_with(prefix)).cloned();
    let mut server = if options.profile { statements::settings() } else { Vec::new() };
    server.extend(options.set.iter().filter_map(|(name, value)| {
        let name = name.strip_prefix("POSTGRES__")?;
        Some((name.to_ascii_lowercase(), value.clone()))
    }));
    BTreeMap::from([
        (ProcessName::OrderServer, of("ORDER_SERVER__").collect()),
        (ProcessName::BrokerGateway, lane.into_iter().chain(of("BROKER_GATEWAY__")).collect()),
        (ProcessName::FillReceiver, of("FILL_RECEIVER__").collect()),
        (ProcessName::BrokerSim, no_push),
        (ProcessName::Postgres, server),
    ])
}

struct Bench<'a> {
    options: &'a BenchOptions,
    stack: Stack,
    admin_url: String,
    book: Arc<OrderBook>,
    books: Books,
    pgbench: Pgbench,
    statements: Option<Statements>,
    posted: Vec<(u64, Placed)>,
    next_number: u64,
}

impl<'a> Bench<'a> {
    async fn prepare(stack: Stack, options: &'a BenchOptions) -> Result<Self, (Stack, LoadError)> {
        let parts = async {
            let admin_url = stack.admin_url().ok_or_else(|| LoadError::Settings("no private server".to_owned()))?;
            let mut books = Books::open(&stack).await?;
            books.require_durable().await?;
            // Prices stand still, so that every order fills, and each fills in one piece.
            configure_broker(&stack, &json!({"tick_ms": 0, "partial_probability": "0"})).await?;
            (options.announce)(&format!("opening {} accounts", options.accounts));
            let api_url = &stack.addresses().order_api;
            let traders = open_accounts(stack.operator(), stack.http(), api_url, options.accounts, DEPOSIT).await?;
            let pgbench = Pgbench::prepare(&admin_url, stack.layout().run(), options.accounts).await?;
            let statements = if options.profile { Some(Statements::open(&admin_url).await?) } else { None };
            let book = Arc::new(OrderBook::new(traders, "bench".to_owned()));
            Ok::<_, LoadError>((admin_url, books, book, pgbench, statements))
        };
        match parts.await {
            Ok((admin_url, books, book, pgbench, statements)) => Ok(Self {
                options,
                stack,
                admin_url,
                book,
                books,
                pgbench,
                statements,
                posted: Vec::new(),
                next_number: 0,
            }),
            Err(error) => Err((stack, error)),
        }
    }

    async fn measure(&mut self) -> Result<(Summary, Outcome), LoadError> {
        self.say(&format!(
            "commits are durable; {} connections, {} s a measurement; the broker has no faults and fills each order at \
             once in one piece; its lane is set to {LANE_PER_S} calls/s, all else has its defaults",
            self.options.connections,
            self.options.duration.as_secs()
        ));
        let plan = LoadPlan { duration: WARM_UP.min(self.options.duration), ..self.closed() };
        self.load(plan).await?;
        self.books.wait_until_none_is_open().await?;
        let mut rounds = Vec::with_capacity(self.options.rounds);
        for number in 1..=self.options.rounds {
            let round = self.round().await?;
            self.say(&format!("round {number} of {}: {}", self.options.rounds, round.line()));
            rounds.push(round);
        }
        self.say(&format!("spread over {} rounds: {}", rounds.len(), figures::spread(&rounds)));
        self.say(&format!("comparing {} orders with the broker's truth", self.posted.len()));
        let mut outcome = Outcome::of(prove(&self.stack, &self.book, &self.posted).await);
        let tally = outcome.tally();
        outcome
            .require(tally.orders == tally.filled, &format!("of {} orders {} were filled", tally.orders, tally.filled));
        self.say(&format!(
            "compared: {} orders, {} filled, {} lost, {} duplicated, {} violations",
            tally.orders,
            tally.filled,
            tally.lost,
            tally.duplicated,
            outcome.violations().len()
        ));
        Ok((Summary::of(&rounds), outcome))
    }

    async fn round(&mut self) -> Result<Round, LoadError> {
        stop_behind(&self.stack).await?;
        let pgbench_per_s = figures::of_thousandths(self.pgbench.run(self.options.duration).await?);
        self.say(&format!("  pgbench, one transaction an order, 32 clients: {pgbench_per_s:.0}/s"));

        self.forget_statements().await?;
        let closed = self.load(self.closed()).await?;
        let accepted_per_s = figures::per_s(closed.accepted, closed.elapsed);
        self.say(&format!("  accepted, order server alone: {}", closed.line));
        self.tell_statements(closed.accepted).await?;

        let per_s = figures::fifth(accepted_per_s);
        let arrivals = Arrivals::Open { per_s };
        let open = self.load(LoadPlan { arrivals, connections: OPEN_CONNECTIONS, ..self.closed() }).await?;
        self.say(&format!("  accepted at a fixed rate of {per_s}/s: {}", open.line));

        // What these two have left must not be counted as filled in the next.
        start_behind(&self.stack).await?;
        self.books.wait_until_none_is_open().await?;
        self.forget_statements().await?;
        let (start, before) = (Instant::now(), cpu::read(&self.stack));
        let whole = self.load(self.closed()).await?;
        self.books.wait_until_none_is_open().await?;
        let elapsed = start.elapsed() - whole.checkpoint;
        let filled_per_s = figures::per_s(whole.accepted, elapsed);
        let used = cpu::used(&before, &cpu::read(&self.stack));
        self.say(&format!("  whole path, accepting: {}", whole.line));
        self.say(&format!(
            "  whole path, until all {} were filled: {filled_per_s:.0}/s in {:.1} s; {}",
            whole.accepted,
            elapsed.as_secs_f64(),
            figures::cpu_line(&used, whole.accepted)
        ));
        self.tell_statements(whole.accepted).await?;
        Ok(Round {
            pgbench_per_s,
            accepted_per_s,
            filled_per_s,
            accept_p50_ms: open.p50_ms,
            accept_p99_ms: open.p99_ms,
        })
    }

    fn closed(&self) -> LoadPlan {
        LoadPlan {
            arrivals: Arrivals::Closed,
            connections: self.options.connections,
            duration: self.options.duration,
            first_number: self.next_number,
        }
    }

    async fn load(&mut self, plan: LoadPlan) -> Result<Measured, LoadError> {
        let start = Instant::now();
        checkpoint(&self.admin_url).await?;
        let (checkpoint, before) = (start.elapsed(), cpu::read(&self.stack));
        let result = post(&self.stack, &self.book, plan).await?;
        let used = cpu::used(&before, &cpu::read(&self.stack));
        self.next_number = self.next_number.max(result.next_number());
        let measured = Measured::of(&result, &used, checkpoint);
        if let Some(warning) = figures::generator_warning(&used, result.elapsed, result.held_up, result.posted.len()) {
            self.say(&warning);
        }
        self.posted.extend(result.posted);
        Ok(measured)
    }

    async fn forget_statements(&mut self) -> Result<(), LoadError> {
        match &mut self.statements {
            Some(statements) => statements.forget().await,
            None => Ok(()),
        }
    }

    async fn tell_statements(&mut self, orders: usize) -> Result<(), LoadError> {
        let Some(statements) = &mut self.statements else { return Ok(()) };
        for line in statements.lines(orders).await? {
            (self.options.announce)(&line);
        }
        Ok(())
    }

    fn say(&self, text: &str) {
        (self.options.announce)(text);
    }
}

/// One load's figures.
struct Measured {
    accepted: usize,
    elapsed: Duration,
    checkpoint: Duration,
    p50_ms: f64,
    p99_ms: f64,
    line: String,
}

impl Measured {
    fn of(result: &LoadResult, used: &CpuTimes, checkpoint: Duration) -> Self {
        let (accepted, elapsed) = (result.accepted(), result.elapsed);
        let p50_ms = figures::percentile_ms(&result.latency_us, 50.0);
        let p99_ms = figures::percentile_ms(&result.latency_us, 99.0);
        let line = format!(
            "{:.0}/s ({accepted} of {} orders), p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {:.2} ms; {}",
            figures::per_s(accepted, elapsed),
            result.posted.len(),
            figures::percentile_ms(&result.latency_us, 100.0),
            figures::cpu_line(used, accepted)
        );
        Self { accepted, elapsed, checkpoint, p50_ms, p99_ms, line }
    }
}
