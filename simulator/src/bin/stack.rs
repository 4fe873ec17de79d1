//! `stack`: the local stack from the command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use contracts::calendar::Pace;
use simulator::broker::profile::Profile;
use simulator::stack::control::{Answer, Ask, Control, ask};
use simulator::stack::{
    Announcer, COPIES_MAX, GivenServers, Layout, MarketHours, ProcessName, Servers, Stack, StackOptions, Supervisor,
    Variables, with_pace, with_profile,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Milliseconds of a real minute.
const REAL_MINUTE_MS: u32 = 60_000;
/// Exit codes above this one tell the signal that ended a command, as in a shell.
const SIGNAL_BASE: i32 = 128;

/// Runs the local stack: private PostgreSQL and Redis, the simulated broker and the engine's processes.
#[derive(Parser)]
struct Arguments {
    /// The checkout; `.run` and `.data` are in it.
    #[arg(long, default_value = ".", global = true)]
    checkout: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything in the foreground until it is interrupted.
    Up {
        /// Keeps the data of the run before instead of starting afresh.
        #[arg(long)]
        keep: bool,
        /// When the market is open.
        #[arg(long, value_enum, default_value_t)]
        market_hours: MarketHours,
        /// The seed of the simulated broker.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many copies of each engine process.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=i64::from(COPIES_MAX)))]
        copies: u8,
        /// What the simulated broker promises, and the gateway is told.
        #[arg(long, value_enum, default_value_t)]
        profile: Profile,
        /// Makes the exchange's clock and the gateway's ladder faster: a minute takes so many milliseconds.
        #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
        minute_ms: u32,
        /// What the exchange's clock shows at the start, RFC 3339; the time as it is unless given.
        #[arg(long)]
        clock_shows: Option<String>,
        /// The folder of the services' binaries, where it is not that of this one.
        #[arg(long)]
        bin: Option<PathBuf>,
    },
    /// Starts a dead process of the running stack again, on its old port.
    Start {
        /// postgres, redis, broker-sim, order-server, broker-gateway or fill-receiver; of a further copy order-server-2.
        name: String,
    },
    /// Ends the running stack.
    Stop,
    /// Tells what runs.
    Status,
    /// Runs a command beside private servers, with their addresses in TEST_DATABASE_URL and REDIS_URL.
    Servers {
        /// The name of the run folder in `.run`.
        #[arg(long, default_value = "servers")]
        instance: String,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

// One thread, as long as the process: the supervisor has its own.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let checkout = std::fs::canonicalize(&arguments.checkout)
        .with_context(|| format!("the checkout {} cannot be used", arguments.checkout.display()))?;
    let layout = Layout::of_checkout(&checkout, "stack");
    let result = run(arguments.command, &checkout, layout).await;
    Ok(result.unwrap_or_else(|error| {
        say_error(&format!("{error:#}"));
        ExitCode::FAILURE
    }))
}

async fn run(command: Command, checkout: &Path, layout: Layout) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up { keep, market_hours, seed, copies, profile, minute_ms, clock_shows, bin } => {
            let own = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
            let bin = bin.or_else(own).context("the program has no folder")?;
            let options = StackOptions {
                layout,
                bin,
                engine_bin: None,
                keep,
                market_hours,
                seed,
                copies,
                given: GivenServers::from_variables(|name| std::env::var(name).ok())?,
                extra: surroundings(profile, minute_ms, clock_shows.as_deref())?,
                broker_url: None,
                announce: announcer(),
            };
            up(options).await
        }
        Command::Start { name } => asked(&layout, Ask::Start { name }).await,
        Command::Stop => asked(&layout, Ask::Stop).await,
        Command::Status => asked(&layout, Ask::Status).await,
        Command::Servers { instance, command } => {
            beside_servers(Layout::of_checkout(checkout, &instance), &command).await
        }
    }
}

/// The variables of a broker of that kind, and of that clock where it is not the real one.
fn surroundings(profile: Profile, minute_ms: u32, shows: Option<&str>) -> anyhow::Result<Variables> {
    let variables = match profile {
        Profile::Full => Variables::new(),
        _ => with_profile(Variables::new(), profile),
    };
    if minute_ms == REAL_MINUTE_MS && shows.is_none() {
        return Ok(variables);
    }
    let now = OffsetDateTime::now_utc();
    let shows = shows.map(|text| OffsetDateTime::parse(text, &Rfc3339)).transpose();
    let shows = shows.context("--clock-shows is no RFC 3339 time")?.unwrap_or(now);
    Ok(with_pace(variables, Pace::new(now, shows, minute_ms)?))
}

fn announcer() -> Announcer {
    Arc::new(|text| say(&format!("stack: {text}")))
}

/// Prints a line; a reader that has gone away must not end the stack.
fn say(text: &str) {
    let _gone = writeln!(std::io::stdout(), "{text}");
}

fn say_error(text: &str) {
    let _gone = writeln!(std::io::stderr(), "stack: {text}");
}

async fn asked(layout: &Layout, question: Ask) -> anyhow::Result<ExitCode> {
    say(&ask(layout.run(), &question).await?);
    Ok(ExitCode::SUCCESS)
}

struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Interrupts {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.hang_up.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}

async fn up(options: StackOptions) -> anyhow::Result<ExitCode> {
    let mut interrupts = Interrupts::listen()?;
    let run = options.layout.run().to_owned();
    let starting = Box::pin(Stack::start(options));
    let stack = tokio::select! {
        started = starting => Arc::new(started?),
        number = interrupts.next() => {
            say("stack: interrupted while starting");
            return Ok(exit_code(SIGNAL_BASE + number));
        }
    };
    let control = Control::listen(&run)?;
    say(&welcome(&stack));
    let stopped_by = serve(&stack, &control, &mut interrupts).await;
    say("stack: ending all processes");
    drop(control);
    stack.shutdown().await;
    say("stack: ended");
    if let Some(caller) = stopped_by {
        caller.answer(&Answer { ok: true, text: "the stack has ended".to_owned() }).await;
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers at the control socket until the stack is to end; returns who asked for it, if anybody did.
async fn serve(
    stack: &Arc<Stack>,
    control: &Control,
    interrupts: &mut Interrupts,
) -> Option<simulator::stack::control::Caller> {
    let (stop, mut stops) = tokio::sync::mpsc::channel(1);
    loop {
        tokio::select! {
            _ = interrupts.next() => return None,
            caller = stops.recv() => return caller,
            accepted = control.accept() => match accepted {
                Ok(caller) => {
                    let (stack, stop) = (stack.clone(), stop.clone());
                    tokio::spawn(async move { answer(&stack, caller, &stop).await });
                }
                Err(error) => say_error(&error.to_string()),
            },
        }
    }
}

async fn answer(
    stack: &Stack,
    mut caller: simulator::stack::control::Caller,
    stop: &tokio::sync::mpsc::Sender<simulator::stack::control::Caller>,
) {
    let result = match caller.ask().await {
        Ok(Ask::Start { name }) => start(stack, &name).await,
        Ok(Ask::Status) => Ok(status(stack)),
        Ok(Ask::Stop) => {
            // A second caller finds the queue full or closed, which drops it: the stack is ending anyway.
            let _ending = stop.try_send(caller);
            return;
        }
        Err(error) => Err(error),
    };
    let answer = match result {
        Ok(text) => Answer { ok: true, text },
        Err(error) => Answer { ok: false, text: error.to_string() },
    };
    caller.answer(&answer).await;
}

async fn start(stack: &Stack, name: &str) -> Result<String, simulator::stack::StackError> {
    let name: ProcessName = name.parse()?;
    let pid = stack.restart(name).await?;
    stack.wait_ready(name).await?;
    Ok(format!("{name} is running (pid {pid})"))
}

fn status(stack: &Stack) -> String {
    let snapshot = stack.snapshot();
    let line = |name: ProcessName| match snapshot.get(&name) {
        None => format!("{name:<15} given by its URL"),
        Some(state) => match (state.pid, &state.ended) {
            (Some(pid), _) => format!("{name:<15} running, pid {pid}, started {} times", state.starts),
            (None, how) => format!("{name:<15} dead: {}", how.as_deref().unwrap_or("unknown")),
        },
    };
    let copies = snapshot.keys().filter(|name| name.copy() > 1).copied();
    ProcessName::ALL.into_iter().chain(copies).map(line).collect::<Vec<_>>().join("\n")
}

fn welcome(stack: &Stack) -> String {
    let addresses = stack.addresses();
    let env_file = stack.layout().env_file();
    format!(
        "\nThe stack is ready.\n\n  order API       {}\n  operator port   {}\n  broker          {}\n  \
         addresses, keys {}\n  logs            {}\n\nPlace an order:\n\n  . {}\n  \
         curl -sS \"$ORDER_API_URL/v2/orders\" -H \"APCA-API-KEY-ID: $APCA_API_KEY_ID\" \\\n    \
         -H \"APCA-API-SECRET-KEY: $APCA_API_SECRET_KEY\" -H 'Content-Type: application/json' \\\n    \
         -d '{{\"symbol\":\"AAPL\",\"qty\":\"1\",\"side\":\"buy\",\"type\":\"market\",\"time_in_force\":\"day\"}}'\n\n\
         A process that dies stays dead until `make start NAME=...`; Ctrl-C or `make stop` ends everything.\n",
        addresses.order_api,
        addresses.ops,
        addresses.sim,
        env_file.display(),
        stack.layout().run().join("logs").display(),
        env_file.display(),
    )
}

async fn beside_servers(layout: Layout, command: &[String]) -> anyhow::Result<ExitCode> {
    let (program, arguments) = command.split_first().context("a command is needed")?;
    let mut interrupts = Interrupts::listen()?;
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (postgres, redis) = (given("TEST_DATABASE_URL"), given("REDIS_URL"));
    let _lock = layout.lock()?;
    // Silent: the output belongs to the command.
    let supervisor = Supervisor::start(Arc::new(|_| ()), Box::new(|_| ()))?;
    let starting = Servers::start(&supervisor, &layout, false, postgres.is_some(), redis.as_deref(), &[]);
    let ended = match Box::pin(starting).await {
        Ok(servers) => {
            let url = postgres.or_else(|| servers.admin_url()).context("there is no database server")?;
            let variables = [("TEST_DATABASE_URL", url.as_str()), ("REDIS_URL", &servers.redis_url)];
            let child = tokio::process::Command::new("setpriv")
                .args(["--pdeathsig", "TERM", "--", program])
                .args(arguments)
                .envs(variables)
                .kill_on_drop(true)
                .spawn();
            match child {
                Ok(mut child) => tokio::select! {
                    status = child.wait() => status.map(|status| code_of(&status)).context("waiting for the command"),
                    number = interrupts.next() => Ok(SIGNAL_BASE + number),
                },
                Err(error) => Err(error).with_context(|| format!("starting {program}")),
            }
        }
        Err(error) => Err(error.into()),
    };
    supervisor.shutdown().await;
    ended.map(exit_code)
}

fn code_of(status: &std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|number| SIGNAL_BASE + number)).unwrap_or(1)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
