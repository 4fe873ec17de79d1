//! How one process of the stack is started.
//!
//! Every child is started through `setpriv --pdeathsig`, so that the kernel ends it when the thread that started it
//! ends, also when that is by SIGKILL. `setpriv` replaces itself by the program: the process id is the program's own.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use super::error::{IoContext, StackError};

/// The longest part of a log that is shown when a process dies early, in bytes and in lines.
const TAIL_BYTES_MAX: u64 = 16 * 1024;
const TAIL_LINES_MAX: usize = 20;

/// Everything that is needed to start a process, and to start it again in the same way.
#[derive(Clone, Debug)]
pub struct ChildSpec {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables that are added to the environment of the stack.
    pub env: Vec<(String, String)>,
    /// The user to run as, where that is not the user of the stack.
    pub user: Option<String>,
    /// The signal that the kernel sends it when the stack is gone.
    pub death_signal: Signal,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// Its working folder.
    pub folder: PathBuf,
    /// The file that its output is appended to.
    pub log: PathBuf,
}

impl ChildSpec {
    /// A process that is killed with the stack and ends on SIGTERM.
    pub fn new(program: impl Into<PathBuf>, folder: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            user: None,
            death_signal: Signal::SIGKILL,
            stop_signal: Signal::SIGTERM,
            folder: folder.into(),
            log: log.into(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, A>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it as another user (needs root).
    #[must_use]
    pub fn user(mut self, user: Option<String>) -> Self {
        self.user = user;
        self
    }

    /// Starts the process on the calling thread: the child does not outlive that thread.
    ///
    /// # Errors
    /// When the log cannot be opened or the process not be started.
    pub(crate) fn spawn(&self) -> Result<Child, StackError> {
        let log = self.open_log()?;
        let copy = log.try_clone().context_io(|| format!("opening {}", self.log.display()))?;
        self.command()
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(copy)
            // Own group: a Ctrl-C at the terminal reaches the stack alone, which then ends its children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context_io(|| format!("starting {}", self.program.display()))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        if let Some(user) = &self.user {
            command.arg("--reuid").arg(user).arg("--regid").arg(user).arg("--init-groups");
        }
        let signal = self.death_signal.as_str().trim_start_matches("SIG");
        command.arg("--pdeathsig").arg(signal).arg("--").arg(&self.program).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value))).current_dir(&self.folder);
        command
    }

    fn open_log(&self) -> Result<File, StackError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .context_io(|| format!("opening {}", self.log.display()))
    }
}

/// The last lines of a log file; empty where it cannot be read.
pub(crate) fn tail(log: &Path) -> String {
    read_tail(log).unwrap_or_default()
}

fn read_tail(log: &Path) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().rev().take(TAIL_LINES_MAX).collect();
    lines.reverse();
    Ok(lines.join("\n"))
}

/// An exit status in words: `exit code 1`, `signal SIGKILL`.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("signal {}", signal.as_str()),
            Err(_) => format!("signal {number}"),
        },
        (None, None) => "an unknown end".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_long_log_is_its_last_lines() {
        let folder = std::env::temp_dir().join(format!("stack-tail-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = folder.join("x.log");
        let text: Vec<String> = (0..10_000).map(|line| format!("line {line}")).collect();
        std::fs::write(&log, text.join("\n")).unwrap();
        let tail = tail(&log);
        assert_eq!(tail.lines().count(), TAIL_LINES_MAX);
        assert!(tail.ends_with("line 9999"));
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_missing_log_has_an_empty_tail() {
        assert_eq!(tail(Path::new("/nonexistent/x.log")), "");
    }
}
