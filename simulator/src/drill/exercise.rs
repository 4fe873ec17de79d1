//! A private stack with customers, and the way to its final comparison.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contracts::alpaca::OrderStatus;
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::availability::Availability;
use super::books::{self, Figures};
use super::check::{AccountView, Invariant, Kind, Verdict, compare};
use super::load::Posted;
use super::oracle::broker_orders;
use super::records;
use super::trader::Trader;
use crate::stack::{
    Announcer, GivenServers, Layout, MarketHours, ProcessName, Stack, StackError, StackOptions, describe_error,
};

/// The pause between two looks at whether the system is at rest.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// How long a clean comparison must stay clean: what comes twice may come late.
const STAY_CLEAN: Duration = Duration::from_secs(3);
/// Between two cancel rounds, so that a cancel under way is not asked for all the time.
const CANCEL_PAUSE: Duration = Duration::from_secs(2);
/// How long orders that the broker is not known to have are left to the gateway's ladder, 15 s and its attempts on a
/// stack. A cancel stops the ladder: an order that was lost is then in doubt until its `valid_until` has passed.
const LADDER_LIMIT: Duration = Duration::from_secs(30);
/// How often a process that gives up is started again, in a row.
const STARTS_MAX: u32 = 5;
/// Most steps of the way to rest that are told.
const STEPS_MAX: usize = 40;

/// How an exercise is set up.
pub struct ExerciseOptions {
    /// The checkout that holds the run folders.
    pub checkout: PathBuf,
    /// The name of this exercise's run folder.
    pub instance: String,
    /// The folder of the service binaries.
    pub bin: PathBuf,
    /// That of the engine's own, where they are of another build.
    pub engine_bin: Option<PathBuf>,
    /// The seed of the simulated broker and of the customers.
    pub seed: u64,
    /// How many copies of each engine process.
    pub copies: u8,
    /// Whether the broker makes mistakes.
    pub faults: bool,
    /// The deposit of each customer in US dollars.
    pub deposits: Vec<Decimal>,
    /// Further variables of single processes.
    pub extra: BTreeMap<ProcessName, Vec<(String, String)>>,
    /// The size of a file system of the database's own, in memory; for a process whose mounts are its own.
    pub disk_mib: Option<u32>,
    /// Told the simulated broker's base URL before the services start.
    pub broker_url: Option<Arc<OnceLock<String>>>,
    /// Where to say what happens.
    pub announce: Announcer,
}

/// The way to rest, from the end of the load on.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The last comparison.
    pub verdict: Verdict,
    /// What the databases show beside it.
    pub figures: Figures,
    /// When it was clean for good; none at the limit.
    pub after: Option<Duration>,
    /// How many orders were not finished, whenever that changed, with the time.
    pub unfinished: Vec<(Duration, usize)>,
}

impl Settled {
    fn note(&mut self, at: Duration, verdict: &Verdict) {
        let open = verdict.violations.iter().filter(|found| found.kind == Kind::Unsettled).count();
        if self.unfinished.len() < STEPS_MAX && self.unfinished.last().is_none_or(|(_, last)| *last != open) {
            self.unfinished.push((at, open));
        }
    }
}

/// A running stack with customers.
pub struct Exercise {
    /// The stack.
    pub stack: Stack,
    /// The customers.
    pub traders: Vec<Trader>,
    /// How long they waited.
    pub availability: Arc<Availability>,
    gave_up: AtomicU64,
    announce: Announcer,
}

impl Exercise {
    /// Starts the stack and opens the accounts.
    ///
    /// # Errors
    /// When anything does not start.
    pub async fn start(options: ExerciseOptions) -> Result<Self, StackError> {
        let stack = Stack::start(StackOptions {
            layout: Layout::of_checkout(&options.checkout, &options.instance).with_disk(options.disk_mib),
            bin: options.bin,
            engine_bin: options.engine_bin,
            keep: false,
            market_hours: MarketHours::Always,
            seed: options.seed,
            copies: options.copies,
            // Always its own: it wipes them, and stops them.
            given: GivenServers::default(),
            extra: options.extra,
            broker_url: options.broker_url,
            announce: options.announce.clone(),
        })
        .await?;
        let availability: Arc<Availability> = Arc::default();
        let mut traders = Vec::with_capacity(options.deposits.len());
        for (index, deposit) in options.deposits.into_iter().enumerate() {
            let opened = stack.operator().open_account(&deposit.to_string(), &format!("drill-{index}")).await?;
            let base_urls = stack.copies().iter().map(|copy| copy.order_api.clone()).collect();
            let base_url = stack.addresses().order_api.clone();
            let trader = Trader::new(index, deposit, opened.1, base_url, stack.http().clone());
            traders.push(trader.at(base_urls).counted_by(availability.clone()));
        }
        let exercise = Self { stack, traders, availability, gave_up: AtomicU64::new(0), announce: options.announce };
        if options.faults {
            exercise.configure_broker(&broker_faults()).await?;
        }
        Ok(exercise)
    }

    /// Says what happens.
    pub fn say(&self, text: &str) {
        (self.announce)(text);
    }

    /// Changes how the simulated broker behaves.
    ///
    /// # Errors
    /// When the broker refuses or cannot be reached.
    pub async fn configure_broker(&self, change: &Value) -> Result<(), StackError> {
        configure_broker(&self.stack, change).await
    }

    /// Asks the simulated broker for a fault.
    ///
    /// # Errors
    /// When the broker refuses or cannot be reached.
    pub async fn add_fault(&self, fault: &Value) -> Result<(), StackError> {
        tell_broker(&self.stack, Method::POST, "/sim/v1/faults", fault).await.map(drop)
    }

    /// What became of one of our orders, as the processes tell it together; the error where they do not.
    pub async fn story(&self, order: Uuid) -> Value {
        let told = self.stack.operator().explain(&order.to_string()).await;
        told.unwrap_or_else(|error| json!({"order": order, "error": describe_error(&error)}))
    }

    /// Kills a process and starts it again after a while, without waiting for it.
    ///
    /// # Errors
    /// When it is not running, or cannot be started.
    pub async fn kill_and_restart(&self, name: ProcessName, dead_for: Duration) -> Result<(), StackError> {
        match self.stack.kill(name).await {
            Err(StackError::ProcessDead(_)) => self.has_given_up(name),
            killed => killed?,
        }
        sleep(dead_for).await;
        self.stack.restart(name).await.map(drop)
    }

    /// Waits until a process is ready. One that gave up, as when its database was away at its start, is started again,
    /// as a service manager does.
    ///
    /// # Errors
    /// When it gives up again and again, or cannot be started.
    pub async fn ready(&self, name: ProcessName) -> Result<(), StackError> {
        for _ in 0..STARTS_MAX {
            match self.stack.wait_ready(name).await {
                Err(StackError::DiedEarly { .. }) => {
                    self.has_given_up(name);
                    self.stack.restart(name).await?;
                }
                other => return other,
            }
        }
        self.stack.wait_ready(name).await
    }

    fn has_given_up(&self, name: ProcessName) {
        self.say(&format!("{name} gave up by itself"));
        let _before = self.gave_up.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a process ended by itself.
    #[must_use]
    pub fn gave_up(&self) -> u64 {
        self.gave_up.load(Ordering::Relaxed)
    }

    /// Cancels what the broker has, waits until everything is at rest, and compares. At the limit it tells what is
    /// wrong then.
    ///
    /// # Errors
    /// When the order API or the oracle could not be read until the limit.
    pub async fn settle(&self, posted: &Posted, limit: Duration) -> Result<Settled, String> {
        let began = Instant::now();
        let mut cancel_at = began;
        let mut clean_since: Option<Instant> = None;
        let mut said = began;
        let mut settled = Settled::default();
        loop {
            if Instant::now() >= cancel_at {
                self.cancel_open(began.elapsed() > LADDER_LIMIT).await;
                cancel_at = Instant::now() + CANCEL_PAUSE;
            }
            let looked = Instant::now();
            let verdict = self.compare_now(posted).await;
            let late = began.elapsed() > limit;
            let verdict = verdict.map(|(verdict, figures)| {
                settled.figures = figures;
                verdict
            });
            match verdict {
                Ok(verdict) if verdict.is_clean() => {
                    settled.note(looked - began, &verdict);
                    let since = *clean_since.get_or_insert(looked);
                    if since.elapsed() >= STAY_CLEAN {
                        return Ok(Settled { verdict, after: Some(since - began), ..settled });
                    }
                }
                Ok(verdict) if late => return Ok(Settled { verdict, ..settled }),
                Err(error) if late => return Err(error),
                Ok(verdict) => {
                    clean_since = None;
                    settled.note(looked - began, &verdict);
                    if said.elapsed() >= STAY_CLEAN {
                        let open = settled.unfinished.last().map_or(0, |(_, open)| *open);
                        self.say(&format!("waiting until all is quiet: {open} orders are not finished"));
                        said = Instant::now();
                    }
                }
                Err(_) => clean_since = None,
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    /// Collects what everybody sees and what the databases say, once, and compares it.
    ///
    /// # Errors
    /// When the order API, the oracle or a database cannot be read.
    pub async fn compare_now(&self, posted: &Posted) -> Result<(Verdict, Figures), String> {
        let broker = broker_orders(self.stack.http(), &self.stack.addresses().sim).await?;
        let mut verdict = compare(&self.views(posted).await?, &broker);
        // The order server's own check sees the journal and the holds, which customers do not.
        let audit = self.stack.operator().audit().await.map_err(|error| describe_error(&error))?;
        for violation in audit {
            verdict.breach(Invariant::I4, Kind::Wrong, None, format!("the order server's audit: {violation}"));
        }
        let records = records::read(self.stack.databases()).await?;
        let figures = books::compare(&records, &broker, &mut verdict);
        Ok((verdict, figures))
    }

    /// What each customer sees now.
    ///
    /// # Errors
    /// When the order API cannot be read.
    pub async fn views(&self, posted: &Posted) -> Result<Vec<AccountView>, String> {
        let mut views = Vec::with_capacity(self.traders.len());
        for trader in &self.traders {
            let own = posted.iter().filter(|(index, _, _)| *index == trader.index);
            views.push(AccountView {
                deposit: trader.deposit,
                posted: own.map(|(_, order, placed)| (order.clone(), placed.clone())).collect(),
                orders: trader.orders().await?,
                account: trader.account().await?,
                positions: trader.positions().await?,
            });
        }
        Ok(views)
    }

    async fn cancel_open(&self, also_unknown: bool) {
        for trader in &self.traders {
            let open = trader.open_orders().await.unwrap_or_default();
            for order in open.iter().filter(|order| also_unknown || order.status != OrderStatus::PendingNew) {
                let _taken = trader.cancel(order.id).await;
            }
        }
    }
}

/// Changes how the simulated broker of a stack behaves.
///
/// # Errors
/// When the broker refuses or cannot be reached.
pub(crate) async fn configure_broker(stack: &Stack, change: &Value) -> Result<(), StackError> {
    tell_broker(stack, Method::PUT, "/sim/v1/config", change).await.map(drop)
}

pub(super) async fn tell_broker(stack: &Stack, method: Method, path: &str, body: &Value) -> Result<String, StackError> {
    let failed = |why: String| StackError::Operator { call: format!("{method} {path}"), why };
    let url = format!("{}{path}", stack.addresses().sim);
    let answer = stack.http().request(method.clone(), url).json(body).send().await;
    let answer = answer.map_err(|error| failed(describe_error(&error)))?;
    let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
    if status.is_success() { Ok(text) } else { Err(failed(format!("{status}: {text}"))) }
}

/// Mistakes of a real broker: lost requests and replies, orders that are recorded or arrive late, errors before and
/// after the effect, rubbish for answers, fills that come twice, early or out of order, streams that break off.
fn broker_faults() -> Value {
    json!({
        "submit": {
            "drop_before_receipt": "0.01", "drop_reply": "0.02", "record_late": "0.01", "arrive_late": "0.01",
            "error_before_effect": "0.01", "error_after_effect": "0.01", "slow_reply": "0.02", "rate_limited": "0.005",
            "nonsense": "0.005", "html": "0.005", "half_body": "0.01", "never_answer": "0.002", "reject": "0.01",
            "reject_late": "0.01", "duplicate_fill": "0.05", "fill_before_ack": "0.05", "identical_partials": "0.05",
            "reorder_events": "0.05", "lost_event": "0.01", "foreign_order": "0.01", "maintenance": "0.005",
            "backfill": "0.02", "bust": "0.02", "correct": "0.02"
        },
        "cancel": {"drop_reply": "0.02", "error_after_effect": "0.02", "fill_after_cancel": "0.1", "cancel_refused": "0.05",
                   "cancel_rejected_late": "0.02"},
        "lookup": {"drop_reply": "0.02", "html": "0.01"},
        "stream": {"stream_reset": "0.002", "drop_message": "0.002"}
    })
}
