//! Many drills, one after the other, and the report on them.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use super::command::labelled;
use super::report::{Run, markdown, rows};

/// Which drills, with which seeds.
#[derive(Clone, Debug)]
pub struct Series {
    /// The program that runs one drill.
    pub program: PathBuf,
    /// The checkout, whose `.run` gets the report.
    pub checkout: PathBuf,
    /// The folder of the engine's programs with kill points.
    pub kill_points: PathBuf,
    /// The drills.
    pub names: Vec<String>,
    /// The first seed.
    pub seed: u64,
    /// How many seeds.
    pub seeds: u64,
    /// Orders of each drill at least, where that is not left to it.
    pub orders: Option<usize>,
    /// How long the end of each may take.
    pub settle_limit_s: u64,
    /// The word that its folders and its report get, where others go on beside it.
    pub label: Option<String>,
}

impl Series {
    /// Runs each drill with each seed in a process of its own and says its line, then the table, which is also
    /// written to `.run/drills.md` and, as JSON, to `.run/drills.json`; with a label, to `.run/drills.LABEL.md`.
    /// Whether all passed.
    ///
    /// # Errors
    /// When a process cannot be started, or the report not be written.
    pub async fn run(&self, say: impl Fn(&str)) -> io::Result<bool> {
        let mut runs = Vec::new();
        for name in &self.names {
            for seed in self.seed..self.seed.saturating_add(self.seeds) {
                let run = self.one(name, seed).await?;
                say(&run.line.to_string());
                runs.push(run);
            }
        }
        let rows = rows(&runs);
        let table = markdown(&rows);
        say(&format!("\n{table}"));
        let folder = self.checkout.join(".run");
        std::fs::create_dir_all(&folder)?;
        let report = labelled("drills", self.label.as_deref());
        std::fs::write(folder.join(format!("{report}.md")), &table)?;
        std::fs::write(folder.join(format!("{report}.json")), serde_json::to_string_pretty(&rows)?)?;
        Ok(runs.iter().all(|run| run.passed))
    }

    async fn one(&self, name: &str, seed: u64) -> io::Result<Run> {
        let mut command = Command::new(&self.program);
        command.arg("--checkout").arg(&self.checkout).args(["--seed", &seed.to_string()]);
        command.arg("--kill-points").arg(&self.kill_points);
        command.args(["--settle-limit-s", &self.settle_limit_s.to_string(), "run", name]);
        if let Some(label) = &self.label {
            command.args(["--label", label]);
        }
        if let Some(orders) = self.orders {
            command.args(["--orders", &orders.to_string()]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped()).kill_on_drop(true);
        // Not `output()`, which keeps what is said meanwhile to itself.
        let output = command.spawn()?.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let line = serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap_or_default();
        Ok(Run { drill: name.to_owned(), seed, passed: output.status.success(), line })
    }
}
