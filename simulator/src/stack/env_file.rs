//! The file `stack.env`: where the running stack is, in shell lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::error::StackError;
use super::layout::write_atomically;
use super::name::ProcessName;
use super::supervisor::Snapshot;

/// Writes `stack.env` anew with every change of an address or a process id.
#[derive(Debug)]
pub struct EnvFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl EnvFile {
    /// The file at `path`, not written yet.
    #[must_use]
    pub fn new(path: PathBuf, values: BTreeMap<String, String>) -> Self {
        Self { path, values }
    }

    /// Sets a value; it is in the file after the next [`EnvFile::write`].
    pub fn set(&mut self, name: &str, value: String) {
        self.values.insert(name.to_owned(), value);
    }

    /// Replaces the file by the present values and process ids.
    ///
    /// # Errors
    /// When the file cannot be replaced.
    pub fn write(&self, processes: &Snapshot) -> Result<(), StackError> {
        let mut text = String::from("# Addresses and process ids of the running stack; read it with `. FILE`.\n");
        for (name, value) in &self.values {
            text.push_str(&line(name, value));
        }
        let copies = processes.keys().filter(|name| name.copy() > 1).copied();
        for name in ProcessName::ALL.into_iter().chain(copies) {
            let pid = processes.get(&name).and_then(|state| state.pid);
            text.push_str(&line(&name.pid_variable(), &pid.map(|pid| pid.to_string()).unwrap_or_default()));
        }
        text.push_str(&line("PID_STACK", &std::process::id().to_string()));
        write_atomically(&self.path, &text)
    }

    /// Removes the file; a missing one is fine.
    pub fn remove(path: &Path) {
        let _missing = fs::remove_file(path);
    }
}

fn line(name: &str, value: &str) -> String {
    format!("export {name}='{}'\n", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::supervisor::ProcessState;
    use std::process::Command;

    #[test]
    fn a_shell_reads_every_value_back_and_a_dead_process_has_an_empty_id() {
        let folder = std::env::temp_dir().join(format!("stack-env-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("stack.env");
        let odd = "a'b \"c\" $HOME `id` \\ é";
        let file = EnvFile::new(path.clone(), BTreeMap::from([("ODD".to_owned(), odd.to_owned())]));
        let alive = ProcessState { pid: Some(42), ended: None, starts: 1 };
        let dead = ProcessState { pid: None, ended: Some("signal SIGKILL".to_owned()), starts: 1 };
        file.write(&BTreeMap::from([(ProcessName::Redis, alive), (ProcessName::OrderServer, dead)])).unwrap();
        let shell = ". \"$0\"; printf '%s|%s|%s' \"$ODD\" \"$PID_REDIS\" \"$PID_ORDER_SERVER\"";
        let output = Command::new("sh").arg("-c").arg(shell).arg(&path).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{odd}|42|"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
