//! Mutations tried one after the other.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};

use super::catcher::{Catcher, Verdict};
use super::copy::WorkingCopy;
use super::mutation::Mutation;
use super::report::Row;

/// The longest build: the first one makes everything.
const BUILD_LIMIT_S: u32 = 3600;

/// The longest run of a catcher.
const RUN_LIMIT_S: u32 = 600;

/// Building the models optimised takes longer than the few of them that are run here.
const MODELS_UNOPTIMISED: &str = "profile.dev.package.models.opt-level=0";

/// Lines of a failed command that are shown.
const TAIL_LINES_MAX: usize = 25;

/// Where and how mutations are tried.
#[derive(Debug)]
pub struct Trial {
    /// The tree that is changed.
    pub copy: WorkingCopy,
    /// The target folder of its builds.
    pub target: PathBuf,
}

impl Trial {
    /// Demands of every catcher that it passes on the tree as it is.
    ///
    /// # Errors
    /// When one does not, since its failure then proves nothing.
    pub fn baseline(&self, mutations: &[&'static Mutation], say: impl Fn(&str)) -> anyhow::Result<()> {
        let mut passed: Vec<Catcher> = Vec::new();
        for catcher in mutations.iter().map(|mutation| mutation.catcher) {
            if passed.contains(&catcher) {
                continue;
            }
            let began = Instant::now();
            self.build(catcher).with_context(|| format!("the tree as it is does not build for {catcher}"))?;
            let output = self.cargo(&catcher.run(), RUN_LIMIT_S)?;
            if catcher.verdict(&output.text) != Verdict::Passed {
                bail!("does not pass on the tree as it is: {catcher}\n{}", output.tail());
            }
            say(&format!("passes  {catcher} ({} s)", began.elapsed().as_secs()));
            passed.push(catcher);
        }
        Ok(())
    }

    /// Makes a mutation, runs its catcher, and undoes it.
    ///
    /// # Errors
    /// When the mutation no longer applies, or a command cannot be started.
    pub fn attempt(&self, mutation: &'static Mutation) -> anyhow::Result<Row> {
        let began = Instant::now();
        let _mutated = self.copy.mutate(mutation).with_context(|| format!("\"{}\" does not apply", mutation.name))?;
        let outcome = self.outcome(mutation.catcher)?;
        Ok(Row { mutation, outcome, seconds: began.elapsed().as_secs() })
    }

    fn outcome(&self, catcher: Catcher) -> anyhow::Result<Result<String, String>> {
        if let Err(error) = self.build(catcher) {
            return Ok(Err(format!("it does not compile: {error}")));
        }
        let output = self.cargo(&catcher.run(), RUN_LIMIT_S)?;
        Ok(match catcher.verdict(&output.text) {
            Verdict::Failed { said } => Ok(said),
            Verdict::Passed => Err("it passes all the same".to_owned()),
            Verdict::None => Err(format!("it came to no end: {}", output.tail())),
        })
    }

    fn build(&self, catcher: Catcher) -> anyhow::Result<()> {
        let args: Vec<String> = catcher.build().into_iter().map(str::to_owned).collect();
        let output = self.cargo(&args, BUILD_LIMIT_S)?;
        if !output.success {
            bail!("{}", output.tail());
        }
        Ok(())
    }

    fn cargo(&self, args: &[String], limit_s: u32) -> anyhow::Result<Output> {
        // `timeout` ends cargo and what it runs; the kernel ends `timeout` with us.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", "timeout", "--kill-after", "10", &limit_s.to_string(), "cargo"]);
        command.args(["--config", MODELS_UNOPTIMISED]).args(args).current_dir(self.copy.root()).stdin(Stdio::null());
        command.env("CARGO_TARGET_DIR", &self.target).env("SQLX_OFFLINE", "true");
        // Nobody debugs these builds, and a mutant must not leave its counterexamples for the next one.
        command.env("CARGO_PROFILE_DEV_DEBUG", "false").env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
        command.env("CARGO_TERM_COLOR", "never").env("RUST_BACKTRACE", "0");
        // Where these are named, the query macros would look at the databases.
        for name in ["ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL", "FILL_RECEIVER_DATABASE_URL"] {
            command.env_remove(name);
        }
        // `make` and an outer cargo would share their job slots, and settings of the outer build.
        for name in ["MAKEFLAGS", "MAKELEVEL", "CARGO_MAKEFLAGS", "RUSTFLAGS"] {
            command.env_remove(name);
        }
        let output = command.output().context("run cargo")?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Output { success: output.status.success(), text })
    }
}

struct Output {
    success: bool,
    text: String,
}

impl Output {
    fn tail(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines.get(lines.len().saturating_sub(TAIL_LINES_MAX)..).unwrap_or_default().join("\n")
    }
}
