//! The control socket of a running stack: one line of JSON asks, one line answers.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::error::{IoContext, StackError};

const SOCKET: &str = "control.sock";
/// The longest line either way, in bytes.
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// How long a caller may take to say its line.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take: a start waits until the process is ready, a stop until all have ended.
const ANSWER_LIMIT: Duration = Duration::from_secs(180);

/// What can be asked of a running stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Start a dead process again.
    Start {
        /// Its name.
        name: String,
    },
    /// Tell what runs.
    Status,
    /// End the stack.
    Stop,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// What to tell the person who asked.
    pub text: String,
}

/// The listening end, in the run folder of a stack.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Listens in a run folder whose lock the caller holds; a socket left by a dead stack is replaced.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen(run: &Path) -> Result<Self, StackError> {
        let path = run.join(SOCKET);
        let _missing = fs::remove_file(&path);
        let listener = through_folder(run, |short| UnixListener::bind(short))?;
        Ok(Self { listener, path })
    }

    /// Waits for the next caller.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn accept(&self) -> Result<Caller, StackError> {
        let (stream, _) = self.listener.accept().await.context_io(|| "accepting at the control socket".to_owned())?;
        Ok(Caller { stream: BufReader::new(stream) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _missing = fs::remove_file(&self.path);
    }
}

/// Somebody who asks.
#[derive(Debug)]
pub struct Caller {
    stream: BufReader<UnixStream>,
}

impl Caller {
    /// Reads what is asked.
    ///
    /// # Errors
    /// When that is no valid line, or does not come in time.
    pub async fn ask(&mut self) -> Result<Ask, StackError> {
        let line = timeout(ASK_LIMIT, read_line(&mut self.stream)).await;
        let line = line.map_err(|_| StackError::Settings("the caller said nothing".to_owned()))??;
        serde_json::from_str(&line).map_err(|error| StackError::Settings(format!("not understood: {error}")))
    }

    /// Answers; a caller that went away is ignored.
    pub async fn answer(mut self, answer: &Answer) {
        let _gone = write_line(self.stream.get_mut(), answer).await;
    }
}

/// Asks the stack that runs from a run folder.
///
/// # Errors
/// [`StackError::NotRunning`] when none does, [`StackError::Refused`] when it says no.
pub async fn ask(run: &Path, ask: &Ask) -> Result<String, StackError> {
    let not_running = || StackError::NotRunning { run: run.to_owned() };
    let connecting = async {
        let folder = File::open(run).ok()?;
        UnixStream::connect(short_path(&folder)).await.ok()
    };
    let stream = connecting.await.ok_or_else(not_running)?;
    let mut stream = BufReader::new(stream);
    write_line(stream.get_mut(), ask).await?;
    let line = timeout(ANSWER_LIMIT, read_line(&mut stream)).await;
    let line = line.map_err(|_| StackError::Settings("the stack does not answer".to_owned()))??;
    let answer: Answer = serde_json::from_str(&line).map_err(|_| StackError::Ended)?;
    if answer.ok { Ok(answer.text) } else { Err(StackError::Refused(answer.text)) }
}

/// The path of a socket is limited to 107 bytes, whatever the path of the checkout: this one goes through the open
/// folder.
fn short_path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

fn through_folder<T>(run: &Path, make: impl FnOnce(PathBuf) -> std::io::Result<T>) -> Result<T, StackError> {
    let made = File::open(run).and_then(|folder| make(short_path(&folder)));
    made.context_io(|| format!("listening at {}", run.join(SOCKET).display()))
}

async fn read_line(stream: &mut BufReader<UnixStream>) -> Result<String, StackError> {
    let mut line = String::new();
    stream.take(LINE_BYTES_MAX).read_line(&mut line).await.context_io(|| "reading the control socket".to_owned())?;
    Ok(line)
}

async fn write_line<T: Serialize>(stream: &mut UnixStream, value: &T) -> Result<(), StackError> {
    let mut text = serde_json::to_string(value).map_err(|error| StackError::Settings(error.to_string()))?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await.context_io(|| "writing to the control socket".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_works_below_a_path_longer_than_a_socket_path_may_be() {
        let root = std::env::temp_dir().join(format!("stack-control-{}", uuid::Uuid::new_v4()));
        let run = root.join("long".repeat(60));
        fs::create_dir_all(&run).unwrap();
        let control = Control::listen(&run).unwrap();
        let serve = async {
            let mut caller = control.accept().await.unwrap();
            let Ask::Start { name } = caller.ask().await.unwrap() else { panic!("another ask") };
            caller.answer(&Answer { ok: false, text: format!("no {name}") }).await;
        };
        let start = Ask::Start { name: "x".to_owned() };
        let (_, answer) = tokio::join!(serve, ask(&run, &start));
        assert_eq!(answer.unwrap_err().to_string(), "no x");
        drop(control);
        assert!(matches!(ask(&run, &Ask::Status).await.unwrap_err(), StackError::NotRunning { .. }));
        fs::remove_dir_all(&root).unwrap();
    }
}
