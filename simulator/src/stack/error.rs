//! What can go wrong while a local stack is run.

use std::io;
use std::path::PathBuf;

use super::name::ProcessName;

/// A failure of the local stack, worded for the person who runs it.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Another stack holds the run folder.
    #[error("a stack is already running from {run} (pid {pid}); end it with `make stop`")]
    AlreadyRunning {
        /// Its run folder.
        run: PathBuf,
        /// The process that holds the lock, as it wrote it.
        pid: String,
    },
    /// No stack answers at the control socket.
    #[error("no stack is running from {run}; start one with `make stack`")]
    NotRunning {
        /// The run folder that was tried.
        run: PathBuf,
    },
    /// The running stack refused a request; the text is its own.
    #[error("{0}")]
    Refused(String),
    /// A name that is none of the stack's processes.
    #[error("there is no process {given:?}; the stack has: {known}")]
    UnknownProcess {
        /// What was asked for.
        given: String,
        /// The names that exist.
        known: String,
    },
    /// The process belongs to somebody else (a server given by URL).
    #[error("{0} is not run by this stack, it was given by its URL")]
    NotOurs(ProcessName),
    /// A start of a process that is alive.
    #[error("{name} is already running (pid {pid})")]
    ProcessRunning {
        /// The process.
        name: ProcessName,
        /// Its process id.
        pid: u32,
    },
    /// A signal for a process that is dead.
    #[error("{0} is not running")]
    ProcessDead(ProcessName),
    /// A process ended before it was ready.
    #[error("{name} ended before it was ready ({how}); the end of {log}:\n{tail}")]
    DiedEarly {
        /// The process.
        name: String,
        /// Its exit status.
        how: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A process was not ready in time.
    #[error("{name} was not ready within {limit_s} s: {last}")]
    NotReady {
        /// The process.
        name: ProcessName,
        /// The limit in seconds.
        limit_s: u64,
        /// The last answer or error.
        last: String,
    },
    /// A program that must be installed is not.
    #[error("{program} was not found; {advice}")]
    MissingProgram {
        /// The program.
        program: String,
        /// What to do about it.
        advice: &'static str,
    },
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
    /// An operator call of the order server failed.
    #[error("the operator call {call} failed: {why}")]
    Operator {
        /// Method and path.
        call: String,
        /// Status and body, or the connection's error.
        why: String,
    },
    /// A database could not be prepared.
    #[error("preparing the database {database} failed")]
    Database {
        /// The database.
        database: String,
        /// The driver's error.
        #[source]
        source: sqlx::Error,
    },
    /// A file, folder, socket or process could not be used.
    #[error("{what} failed")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The supervisor has ended.
    #[error("the stack has ended")]
    Ended,
}

/// Adds what was tried to an input or output error.
pub(crate) trait IoContext<T> {
    /// Names what was tried.
    fn context_io(self, what: impl FnOnce() -> String) -> Result<T, StackError>;
}

impl<T> IoContext<T> for Result<T, io::Error> {
    fn context_io(self, what: impl FnOnce() -> String) -> Result<T, StackError> {
        self.map_err(|source| StackError::Io { what: what(), source })
    }
}
