//! A real program of ours, and everything that it writes.

use super::eventually;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Long enough for a loaded machine: only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process with an environment of its own, killed when dropped.
#[derive(Debug)]
pub struct TestProcess {
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl TestProcess {
    /// Starts a program with nothing in its environment but these variables.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let output = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            readers.push(collect(stdout, Arc::clone(&output)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.push(collect(stderr, Arc::clone(&output)));
        }
        Self { child, output, readers }
    }

    /// What it wrote until now, to either of its outputs.
    #[must_use]
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until it has written a text, or has ended.
    ///
    /// # Panics
    /// When it neither says so nor ends within a minute.
    pub async fn until_said(&mut self, text: &str) -> String {
        let (child, output) = (Mutex::new(&mut self.child), &self.output);
        let said = || String::from_utf8_lossy(&output.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        let waited = eventually(PATIENCE, || async {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            said().contains(text) || !matches!(child.try_wait(), Ok(None))
        });
        assert!(waited.await, "it neither says {text:?} nor ends: {}", said());
        said()
    }

    /// Waits for its end and returns all that it wrote.
    ///
    /// # Panics
    /// When it does not end within a minute.
    pub async fn until_ended(mut self) -> String {
        let child = Mutex::new(&mut self.child);
        let ended = eventually(PATIENCE, || async {
            !matches!(child.lock().unwrap_or_else(PoisonError::into_inner).try_wait(), Ok(None))
        });
        assert!(ended.await, "it does not end");
        for reader in std::mem::take(&mut self.readers) {
            let _panicked = reader.join();
        }
        self.said()
    }

    /// Kills it and returns all that it wrote.
    pub async fn kill(mut self) -> String {
        let _ended = self.child.kill();
        self.until_ended().await
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, to: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut part = [0; 8192];
        while let Ok(len @ 1..) = from.read(&mut part) {
            to.lock().unwrap_or_else(PoisonError::into_inner).extend(part.iter().take(len));
        }
    })
}
