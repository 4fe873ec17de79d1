//! `load`: orders posted to a running stack, and the benchmark.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand};
use rust_decimal::Decimal;
use simulator::load::bench::{self, BenchOptions};
use simulator::load::generator::{self, Arrivals, LoadPlan};
use simulator::load::{OrderBook, open_accounts};
use simulator::stack::{Operator, http_client};

/// Violations that are told one by one.
const TOLD_MAX: usize = 20;

/// Load on the order API.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures a private stack beside pgbench on the same server. The last line is the result, as JSON; exits with 1
    /// when an order was lost, doubled or wrong.
    Bench {
        /// The checkout; `.run` and `.data` are in it.
        #[arg(long, default_value = ".")]
        checkout: PathBuf,
        /// The time of one measurement, of which each round has four.
        #[arg(long, default_value_t = 8)]
        seconds: u64,
        /// Connections of the closed loop.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// How often everything is measured.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Accounts that trade.
        #[arg(long, default_value_t = 10_000)]
        accounts: usize,
        /// Says after each load where PostgreSQL spent its time, statement by statement. Costs some speed itself.
        #[arg(long)]
        profile: bool,
        /// A setting of a process that differs from its default, such as `ORDER_SERVER__WORKER__SHARDS=1` or, for the
        /// database server, `POSTGRES__SHARED_BUFFERS=1GB`.
        #[arg(long, value_name = "NAME=VALUE")]
        set: Vec<String>,
    },
    /// Posts orders to the stack whose addresses are in the environment (`. .run/stack.env`).
    Post {
        #[arg(long, env = "ORDER_API_URL")]
        order_api_url: String,
        #[arg(long, env = "OPS_URL")]
        ops_url: String,
        #[arg(long, env = "OPS_TOKEN", hide_env_values = true)]
        ops_token: String,
        /// For how long.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Connections.
        #[arg(long, default_value_t = 64)]
        connections: usize,
        /// Orders a second, whatever the server does. Without it each connection posts when it has its answer.
        #[arg(long)]
        rate: Option<u64>,
        /// Accounts that are opened for it.
        #[arg(long, default_value_t = 1_000)]
        accounts: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(code) => code,
        Err(error) => {
            let _gone = writeln!(std::io::stderr(), "load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bench { checkout, seconds, connections, rounds, accounts, profile, set } => {
            let started = Instant::now();
            let options = BenchOptions {
                checkout: std::fs::canonicalize(&checkout).context("the checkout cannot be used")?,
                bin: std::env::current_exe()?.parent().map(PathBuf::from).context("the program has no folder")?,
                duration: Duration::from_secs(seconds),
                connections,
                rounds,
                accounts,
                profile,
                set: set.iter().map(|text| setting(text)).collect::<Result<_, _>>()?,
                announce: Arc::new(move |text| say(&format!("[{:>3} s] {text}", started.elapsed().as_secs()))),
            };
            let (summary, outcome) = Box::pin(bench::run(options)).await?;
            for violation in outcome.violations().iter().take(TOLD_MAX) {
                let _gone = writeln!(std::io::stderr(), "load: {violation}");
            }
            say(&serde_json::to_string(&summary)?);
            Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Post { order_api_url, ops_url, ops_token, seconds, connections, rate, accounts } => {
            let http = http_client()?;
            let operator = Operator::new(http.clone(), ops_url, ops_token);
            let deposit = Decimal::from(1_000_000_000);
            let traders = open_accounts(&operator, &http, &order_api_url, accounts, deposit).await?;
            let run = format!("load-{}", uuid::Uuid::new_v4().simple());
            let arrivals = rate.map_or(Arrivals::Closed, |per_s| Arrivals::Open { per_s });
            let duration = Duration::from_secs(seconds);
            let plan = LoadPlan { arrivals, connections, duration, first_number: 0 };
            let book = OrderBook::new(traders, run);
            let result = tokio::task::spawn_blocking(move || generator::run(&book, &order_api_url, &plan)).await??;
            let percentile = |percent| result.latency_us.value_at_percentile(percent);
            say(&format!(
                "{} of {} orders accepted in {} ms; latency us p50 {} p99 {} max {}; {} arrivals held up",
                result.accepted(),
                result.posted.len(),
                result.elapsed.as_millis(),
                percentile(50.0),
                percentile(99.0),
                result.latency_us.max(),
                result.held_up
            ));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn setting(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) = text.split_once('=').with_context(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn say(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}
