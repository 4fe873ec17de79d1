//! The clock of a process steps under load, far forwards and far backwards, and comes back.
//!
//! `libfaketime` is loaded into the process and reads the step from a file. The monotonic clock goes on, as it does
//! when somebody sets the time of a machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError, Variables, describe_error};

const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
/// The processes whose clocks step.
const STEPPED: [ProcessName; 2] = [ProcessName::BrokerGateway, ProcessName::OrderServer];
const STEP_S: i64 = 600;
const STEPPED_FOR: Duration = Duration::from_secs(8);
const BETWEEN: Duration = Duration::from_secs(3);
/// The library looks at its file once a second; what is sent before and after that is not counted.
const NOTICED_AFTER: Duration = Duration::from_secs(2);
/// How often the order server is asked for its clock.
const CLOCK_TRIES: usize = 10;
const CLOCK_PAUSE: Duration = Duration::from_millis(500);
/// How many orders the broker loses before it reads them, each time the gateway's clock is off.
const LOST: u32 = 10;
/// How long before the clock is back an order must have been in doubt: with a sound clock the gateway asks for it at
/// once, and sends it again after a second.
const IN_DOUBT_FOR: Duration = Duration::from_secs(3);
const DISAGREEMENTS: &str = "gateway_clock_disagreements_total";

/// The clocks in the drill's hands.
#[derive(Debug)]
pub struct Clocks {
    folder: PathBuf,
}

impl Clocks {
    /// Writes a file for each clock, in step, and the variables that let the processes read them.
    ///
    /// # Errors
    /// When the library is not installed, or a file cannot be written.
    pub fn prepare(folder: &Path, variables: &mut Variables) -> Result<Self, StackError> {
        let library = find_library().ok_or_else(|| StackError::MissingProgram {
            program: "libfaketime".to_owned(),
            advice: "install it with `scripts/servers.sh faketime`",
        })?;
        fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let clocks = Self { folder: folder.to_owned() };
        for name in STEPPED {
            clocks.step(name, 0)?;
            let own = [
                ("LD_PRELOAD", library.display().to_string()),
                ("FAKETIME_TIMESTAMP_FILE", clocks.file(name).display().to_string()),
                ("FAKETIME_CACHE_DURATION", "1".to_owned()),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                // A process that is killed would leave its shared memory behind.
                ("FAKETIME_DISABLE_SHM", "1".to_owned()),
            ];
            let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
            variables.entry(name).or_default().extend(own);
        }
        Ok(clocks)
    }

    fn file(&self, name: ProcessName) -> PathBuf {
        self.folder.join(format!("{name}.clock"))
    }

    /// Sets how far the clock of a process is off.
    fn step(&self, name: ProcessName, seconds: i64) -> Result<(), StackError> {
        let (file, new) = (self.file(name), self.folder.join(format!("{name}.clock.new")));
        let written = fs::write(&new, format!("{seconds:+}\n")).and_then(|()| fs::rename(&new, &file));
        written.map_err(|error| failed(&file, &error))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> StackError {
    StackError::Settings(format!("{}: {error}", path.display()))
}

fn find_library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.flatten();
    folders.map(|folder| folder.path().join(LIBRARY)).find(|library| library.exists())
}

/// What one step did.
struct Step {
    name: ProcessName,
    seconds: i64,
    accepted: usize,
    /// Whether the process itself shows that its clock is off.
    seen: bool,
    /// How many orders were in doubt meanwhile, and stayed so until the clock was back.
    in_doubt: i64,
    /// How often the gateway sent an order again meanwhile that may have arrived before.
    sent_again: i64,
}

/// Lets each clock step forwards and backwards under load, and compares.
///
/// # Errors
/// When a clock cannot be set, or a process not be asked.
pub async fn run(
    exercise: &Exercise,
    clocks: &Clocks,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    let load = Load::start(&exercise.traders, load);
    let mut steps = Vec::new();
    for name in STEPPED {
        for seconds in [STEP_S, -STEP_S] {
            sleep(BETWEEN).await;
            let step = step_once(exercise, clocks, &load, name, seconds).await?;
            let Step { accepted, in_doubt, sent_again, .. } = step;
            exercise.say(&format!(
                "the clock of {name} was {seconds:+} s off; {accepted} orders were accepted, {in_doubt} were in doubt, \
                 {sent_again} sent again"
            ));
            steps.push(step);
        }
    }
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.strike(steps.iter().filter(|step| step.seen).count() as u64);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    outcome.note("steps", steps.len());
    outcome.note("accepted_meanwhile", steps.iter().map(|step| step.accepted).sum::<usize>());
    outcome.note("in_doubt_meanwhile", steps.iter().map(|step| step.in_doubt).sum::<i64>());
    for Step { name, seconds, accepted, seen, in_doubt, sent_again } in steps {
        outcome.require(seen, &format!("the clock of {name} did not step by {seconds:+} s"));
        outcome
            .require(accepted > 0, &format!("no order was accepted while the clock of {name} was {seconds:+} s off"));
        if name == ProcessName::BrokerGateway {
            let tempted = in_doubt > 0;
            outcome.require(tempted, &format!("no order was in doubt while the gateway's clock was {seconds:+} s off"));
            let believed = sent_again > 0;
            outcome.require(!believed, &format!("{sent_again} orders were sent again on a clock {seconds:+} s off"));
        }
    }
    Ok(outcome)
}

async fn step_once(
    exercise: &Exercise,
    clocks: &Clocks,
    load: &Load,
    name: ProcessName,
    seconds: i64,
) -> Result<Step, StackError> {
    let (accepted, before) = (load.progress().accepted(), disagreements(exercise).await?);
    clocks.step(name, seconds)?;
    sleep(NOTICED_AFTER).await;
    let from = OffsetDateTime::now_utc();
    if name == ProcessName::BrokerGateway {
        let lost = json!({"match": "all", "on": "submit", "fault": "drop_before_receipt", "times": LOST});
        exercise.add_fault(&lost).await?;
    }
    sleep(STEPPED_FOR).await;
    let until = OffsetDateTime::now_utc();
    let seen = if name == ProcessName::BrokerGateway {
        disagreements(exercise).await? > before
    } else {
        (clock_of_order_server(exercise).await? - until).whole_seconds().abs() > STEP_S / 2
    };
    clocks.step(name, 0)?;
    let sent_again = count(exercise, SENT_AGAIN, from, until).await?;
    let in_doubt = count(exercise, IN_DOUBT, until - IN_DOUBT_FOR, until).await?;
    Ok(Step { name, seconds, accepted: load.progress().accepted() - accepted, seen, in_doubt, sent_again })
}

/// How often the gateway found its clock and the database's to differ.
async fn disagreements(exercise: &Exercise) -> Result<u64, StackError> {
    let url = format!("{}/metrics", exercise.stack.addresses().gateway_ops);
    let text = get(exercise.stack.http().get(&url), &url).await?;
    let line = text.lines().find(|line| line.starts_with(DISAGREEMENTS));
    Ok(line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or_default())
}

async fn clock_of_order_server(exercise: &Exercise) -> Result<OffsetDateTime, StackError> {
    let url = format!("{}/v2/clock", exercise.stack.addresses().order_api);
    let key = &exercise.stack.demo().1;
    let request = exercise.stack.http().get(&url).header("APCA-API-KEY-ID", &key.key_id);
    let request = request.header("APCA-API-SECRET-KEY", &key.secret_key);
    let mut answer = Err(StackError::Settings("the order server was not asked for its clock".to_owned()));
    // Where the clock was set back, the rate of the key may have nothing left for some moments.
    for _ in 0..CLOCK_TRIES {
        let Some(request) = request.try_clone() else { break };
        answer = get(request, &url).await;
        if answer.is_ok() {
            break;
        }
        sleep(CLOCK_PAUSE).await;
    }
    let text = answer?;
    let clock: Value = serde_json::from_str(&text).unwrap_or_default();
    let shown = clock.get("timestamp").and_then(Value::as_str).unwrap_or_default();
    OffsetDateTime::parse(shown, &Rfc3339).map_err(|error| StackError::Operator { call: url, why: error.to_string() })
}

async fn get(request: reqwest::RequestBuilder, url: &str) -> Result<String, StackError> {
    let failed = |error: reqwest::Error| StackError::Operator { call: url.to_owned(), why: describe_error(&error) };
    let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    answer.text().await.map_err(failed)
}

/// Attempts, in that time by the database's clock, of orders of which an earlier one may have arrived.
const SENT_AGAIN: &str = "
    select count(*) from attempts a
    where a.claimed_at between $1 and $2 and exists (
        select 1 from attempts e where e.order_id = a.order_id and e.n < a.n
        and (e.outcome is null or e.outcome in ('accepted', 'duplicate', 'unknown'))
    )";

/// Orders of which an attempt may have arrived before the first moment, and of which nothing was learned, asked or
/// sent between the end of that attempt and the second moment.
const IN_DOUBT: &str = "
    select count(distinct e.order_id) from attempts e
    where e.outcome = 'unknown' and e.ended_at <= $1
    and not exists (select 1 from attempts a where a.order_id = e.order_id and a.n > e.n and a.claimed_at <= $2)
    and not exists (
        select 1 from lookups l where l.order_id = e.order_id and l.ended_at > e.ended_at and l.ended_at <= $2
        and l.outcome in ('found', 'none')
    )
    and not exists (select 1 from evidence v where v.order_id = e.order_id and v.recorded_at <= $2)";

async fn count(
    exercise: &Exercise,
    what: &'static str,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<i64, StackError> {
    let failed = |error: sqlx::Error| StackError::Settings(format!("counting the gateway's attempts: {error}"));
    let options: PgConnectOptions = exercise.stack.databases().broker_gateway.parse().map_err(failed)?;
    let mut conn = options.disable_statement_logging().connect().await.map_err(failed)?;
    let count = sqlx::query_scalar(what).bind(from).bind(until).fetch_one(&mut conn).await.map_err(failed)?;
    conn.close().await.map_err(failed)?;
    Ok(count)
}
