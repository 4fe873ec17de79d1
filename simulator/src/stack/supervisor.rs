//! The owner of the child processes.
//!
//! All children are started by one thread that lives as long as the stack, because the kernel's parent-death signal
//! follows the thread that started a child and not the process. The thread reaps every child as soon as it ends,
//! says so, and restarts none by itself.

use std::collections::BTreeMap;
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::child::{ChildSpec, describe, tail};
use super::error::{IoContext, StackError};
use super::name::ProcessName;

/// Requests that may wait for the supervisor.
const REQUESTS_MAX: usize = 64;
/// Signals that may wait for one child.
const SIGNALS_MAX: usize = 16;
/// How long each child may take to end when the stack ends; then it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// How long a killed child may take to be reaped.
const KILL_LIMIT: Duration = Duration::from_secs(15);

/// Where the stack says what happens, one line a call.
pub type Announcer = Arc<dyn Fn(&str) + Send + Sync>;

/// Called in the supervisor's thread with every change, before anybody else sees it.
pub type OnChange = Box<dyn FnMut(&Snapshot) + Send>;

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessState {
    /// Its process id while it lives.
    pub pid: Option<u32>,
    /// How it ended last, in words.
    pub ended: Option<String>,
    /// How often it was started.
    pub starts: u64,
}

/// The state of every process that was started at least once.
pub type Snapshot = BTreeMap<ProcessName, ProcessState>;

enum Request {
    Start(ProcessName, How, oneshot::Sender<Result<u32, StackError>>),
    Signal(ProcessName, Signal, oneshot::Sender<Result<u32, StackError>>),
    Run(Box<ChildSpec>, Duration, oneshot::Sender<Result<ExitStatus, StackError>>),
    Shutdown(oneshot::Sender<()>),
}

enum How {
    /// By this specification, and again so later.
    As(Box<ChildSpec>),
    /// As before, with these variables for this once.
    AsBefore(Vec<(String, String)>),
}

/// A handle to the thread that owns the children. When the last handle is dropped the children are ended.
#[derive(Clone, Debug)]
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Snapshot>,
}

impl Supervisor {
    /// Starts the supervisor's thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn start(announce: Announcer, on_change: OnChange) -> Result<Self, StackError> {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (sender, snapshot) = watch::channel(Snapshot::new());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context_io(|| "starting the supervisor's runtime".to_owned())?;
        let mut owner = Owner {
            announce,
            on_change,
            published: sender,
            specs: BTreeMap::new(),
            signals: BTreeMap::new(),
            state: Snapshot::new(),
            waiting: JoinSet::new(),
            one_shots: JoinSet::new(),
        };
        thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || runtime.block_on(owner.run(inbox)))
            .context_io(|| "starting the supervisor's thread".to_owned())?;
        Ok(Self { requests, snapshot })
    }

    /// Starts a process for the first time, or anew with another specification.
    ///
    /// # Errors
    /// When it is running already, or cannot be started.
    pub async fn spawn(&self, name: ProcessName, spec: ChildSpec) -> Result<u32, StackError> {
        self.ask(|reply| Request::Start(name, How::As(Box::new(spec)), reply)).await?
    }

    /// Starts a dead process again as before, with further variables for this once.
    ///
    /// # Errors
    /// When it is running, was never started here, or cannot be started.
    pub async fn restart(&self, name: ProcessName, once: Vec<(String, String)>) -> Result<u32, StackError> {
        self.ask(|reply| Request::Start(name, How::AsBefore(once), reply)).await?
    }

    /// Sends a signal to a living process and tells its process id.
    ///
    /// # Errors
    /// When it is not running.
    pub async fn signal(&self, name: ProcessName, signal: Signal) -> Result<u32, StackError> {
        self.ask(|reply| Request::Signal(name, signal, reply)).await?
    }

    /// Sends a signal and waits until the process is gone and reaped.
    ///
    /// # Errors
    /// When it is not running, or still there after `limit`.
    pub async fn end(&self, name: ProcessName, signal: Signal, limit: Duration) -> Result<(), StackError> {
        let pid = self.signal(name, signal).await?;
        if self.gone(name, pid, limit).await? {
            return Ok(());
        }
        Err(StackError::Settings(format!("{name} (pid {pid}) did not end within {} s", limit.as_secs())))
    }

    /// Waits until a process is gone and reaped; whether it was within `limit`.
    ///
    /// # Errors
    /// When the supervisor has ended.
    pub async fn gone(&self, name: ProcessName, pid: u32, limit: Duration) -> Result<bool, StackError> {
        let mut snapshot = self.snapshot.clone();
        let gone = snapshot.wait_for(|all| all.get(&name).is_none_or(|state| state.pid != Some(pid)));
        match timeout(limit, gone).await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(_)) => Err(StackError::Ended),
            Err(_) => Ok(false),
        }
    }

    /// Runs a program to its end, like a migration, and tells its exit status.
    ///
    /// # Errors
    /// When it cannot be started, or has not ended within `limit` (it is killed then).
    pub async fn run(&self, spec: ChildSpec, limit: Duration) -> Result<ExitStatus, StackError> {
        self.ask(|reply| Request::Run(Box::new(spec), limit, reply)).await?
    }

    /// The present state of the processes.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Follows the state of the processes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Ends all processes in their order, each within a limit, and then the supervisor.
    pub async fn shutdown(&self) {
        // An error means that the supervisor has ended already.
        let _ended = self.ask(Request::Shutdown).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, StackError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| StackError::Ended)?;
        answer.await.map_err(|_| StackError::Ended)
    }
}

struct Owner {
    announce: Announcer,
    on_change: OnChange,
    published: watch::Sender<Snapshot>,
    specs: BTreeMap<ProcessName, ChildSpec>,
    signals: BTreeMap<ProcessName, mpsc::Sender<Signal>>,
    state: Snapshot,
    waiting: JoinSet<(ProcessName, u32, String)>,
    one_shots: JoinSet<()>,
}

impl Owner {
    async fn run(&mut self, mut inbox: mpsc::Receiver<Request>) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.waiting.join_next() => self.reaped(ended),
                Some(_) = self.one_shots.join_next() => {}
                request = inbox.recv() => match request {
                    Some(Request::Shutdown(reply)) => {
                        inbox.close();
                        self.end_all().await;
                        let _gone = reply.send(());
                        return;
                    }
                    Some(request) => self.handle(request),
                    None => {
                        self.end_all().await;
                        return;
                    }
                },
            }
        }
    }

    fn handle(&mut self, request: Request) {
        // A requester that went away does not undo its request.
        match request {
            Request::Start(name, how, reply) => {
                let _gone = reply.send(self.start(name, how));
            }
            Request::Signal(name, signal, reply) => {
                let _gone = reply.send(self.send_signal(name, signal));
            }
            Request::Run(spec, limit, reply) => match spec.spawn() {
                Ok(child) => {
                    self.one_shots.spawn(async move {
                        let _gone = reply.send(run_to_end(child, &spec, limit).await);
                    });
                }
                Err(error) => {
                    let _gone = reply.send(Err(error));
                }
            },
            Request::Shutdown(_) => {}
        }
    }

    fn start(&mut self, name: ProcessName, how: How) -> Result<u32, StackError> {
        if let Some(pid) = self.state.get(&name).and_then(|state| state.pid) {
            return Err(StackError::ProcessRunning { name, pid });
        }
        let (spec, once) = match how {
            How::As(spec) => (*spec, Vec::new()),
            How::AsBefore(once) => (self.specs.get(&name).cloned().ok_or(StackError::NotOurs(name))?, once),
        };
        let child = once.into_iter().fold(spec.clone(), |spec, (name, value)| spec.env(name, value)).spawn()?;
        let pid = child.id().ok_or(StackError::ProcessDead(name))?;
        self.specs.insert(name, spec);
        let (signals, inbox) = mpsc::channel(SIGNALS_MAX);
        self.signals.insert(name, signals);
        self.waiting.spawn(watch_child(name, pid, child, inbox));
        let state = self.state.entry(name).or_default();
        state.pid = Some(pid);
        state.starts += 1;
        self.publish();
        Ok(pid)
    }

    fn send_signal(&self, name: ProcessName, signal: Signal) -> Result<u32, StackError> {
        let pid = self.state.get(&name).and_then(|state| state.pid).ok_or(StackError::ProcessDead(name))?;
        let sender = self.signals.get(&name).ok_or(StackError::ProcessDead(name))?;
        sender.try_send(signal).map_err(|_| StackError::ProcessDead(name))?;
        Ok(pid)
    }

    fn reaped(&mut self, ended: Result<(ProcessName, u32, String), tokio::task::JoinError>) {
        // The watching task neither panics nor is cancelled while the owner runs.
        let Ok((name, pid, how)) = ended else { return };
        self.signals.remove(&name);
        let state = self.state.entry(name).or_default();
        state.pid = None;
        state.ended = Some(how.clone());
        self.publish();
        (self.announce)(&format!("{name} (pid {pid}) ended: {how}"));
    }

    fn publish(&mut self) {
        (self.on_change)(&self.state);
        self.published.send_replace(self.state.clone());
    }

    async fn end_all(&mut self) {
        self.one_shots.abort_all();
        while self.one_shots.join_next().await.is_some() {}
        for name in ProcessName::stop_order() {
            let Some(stop) = self.specs.get(&name).map(|spec| spec.stop_signal) else { continue };
            for (signal, limit) in [(stop, STOP_LIMIT), (Signal::SIGKILL, KILL_LIMIT)] {
                let Ok(pid) = self.send_signal(name, signal) else { break };
                if self.wait_gone(name, limit).await {
                    break;
                }
                (self.announce)(&format!("{name} (pid {pid}) did not end on {signal} within {} s", limit.as_secs()));
            }
        }
    }

    async fn wait_gone(&mut self, name: ProcessName, limit: Duration) -> bool {
        let gone = async {
            while self.signals.contains_key(&name) {
                match self.waiting.join_next().await {
                    Some(ended) => self.reaped(ended),
                    None => return,
                }
            }
        };
        timeout(limit, gone).await.is_ok()
    }
}

/// Waits for one child and delivers signals to it. Only here is a signal sent, where the child is known not to be
/// reaped yet, so that a re-used process id is never hit.
async fn watch_child(
    name: ProcessName,
    pid: u32,
    mut child: Child,
    mut signals: mpsc::Receiver<Signal>,
) -> (ProcessName, u32, String) {
    let status = loop {
        tokio::select! {
            biased;
            status = child.wait() => break status,
            Some(signal) = signals.recv() => deliver(&child, signal),
        }
    };
    let how = match status {
        Ok(status) => describe(status),
        Err(error) => format!("it could not be waited for: {error}"),
    };
    (name, pid, how)
}

fn deliver(child: &Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // ESRCH is impossible for a child that was not waited for, and a refusal shows when the child does not end.
        let _refused = kill(Pid::from_raw(pid), signal);
    }
}

async fn run_to_end(mut child: Child, spec: &ChildSpec, limit: Duration) -> Result<ExitStatus, StackError> {
    match timeout(limit, child.wait()).await {
        Ok(status) => status.context_io(|| format!("waiting for {}", spec.program.display())),
        Err(_) => {
            let _already_gone = child.kill().await;
            Err(StackError::DiedEarly {
                name: spec.program.display().to_string(),
                how: format!("killed after {} s", limit.as_secs()),
                log: spec.log.clone(),
                tail: tail(&spec.log),
            })
        }
    }
}
