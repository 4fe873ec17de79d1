//! What must notice a mutation, and what it said when it was run.

use std::fmt;

/// What must notice a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Catcher {
    /// A test.
    Test {
        /// Its package.
        package: &'static str,
        /// The binary that it is in.
        binary: Binary,
        /// Its whole name.
        name: &'static str,
    },
    /// Stories of these seeds, from the first on.
    Stories {
        /// How many.
        seeds: u32,
    },
}

/// A test binary of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// The tests beside the code.
    Lib,
    /// The integration tests.
    It,
}

impl Catcher {
    /// The arguments of `cargo` that build it.
    #[must_use]
    pub fn build(self) -> Vec<&'static str> {
        match self {
            Self::Test { package, binary, .. } => {
                let mut args = vec!["test", "--locked", "--no-run", "-p", package];
                args.extend(binary.arguments());
                args
            }
            Self::Stories { .. } => vec!["build", "--locked", "-p", "models", "--bin", "simulate"],
        }
    }

    /// The arguments of `cargo` that run it.
    #[must_use]
    pub fn run(self) -> Vec<String> {
        let args: Vec<&str> = match self {
            Self::Test { package, binary, name } => {
                let mut args = vec!["test", "--locked", "--quiet", "-p", package];
                args.extend(binary.arguments());
                args.extend(["--", "--exact", name]);
                args
            }
            Self::Stories { seeds } => {
                let run = ["run", "--locked", "--quiet", "-p", "models", "--bin", "simulate", "--", "--seeds"];
                return run.into_iter().map(str::to_owned).chain([seeds.to_string()]).collect();
            }
        };
        args.into_iter().map(str::to_owned).collect()
    }

    /// What its output means.
    #[must_use]
    pub fn verdict(self, output: &str) -> Verdict {
        let (passed, failed) = match self {
            Self::Test { .. } => ("test result: ok. 1 passed;", "test result: FAILED. 0 passed; 1 failed;"),
            Self::Stories { .. } => ("simulate ok: ", "breaks an invariant"),
        };
        match (output.contains(passed), output.contains(failed)) {
            (true, false) => Verdict::Passed,
            (false, true) => Verdict::Failed { said: self.said(output) },
            _ => Verdict::None,
        }
    }

    /// The sentence of a failure that says what was wrong.
    fn said(self, output: &str) -> String {
        let lines = || output.lines().map(str::trim);
        let said: Vec<&str> = match self {
            // The message is on the lines after the place.
            Self::Test { .. } => lines()
                .skip_while(|line| !line.contains("panicked at "))
                .skip(1)
                .take_while(|line| !line.is_empty() && !line.starts_with("note: "))
                .collect(),
            Self::Stories { .. } => lines().filter(|line| line.starts_with("VIOLATED ")).collect(),
        };
        said.join(" ").chars().take(SAID_LEN_MAX).collect()
    }
}

/// The longest sentence that is kept of a failure.
const SAID_LEN_MAX: usize = 160;

impl Binary {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Lib => &["--lib"],
            Self::It => &["--test", "it"],
        }
    }
}

impl fmt::Display for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test { package, name, .. } => write!(f, "{package}: {name}"),
            Self::Stories { seeds } => write!(f, "simulate, seeds 1 to {seeds}"),
        }
    }
}

/// What a run of a catcher came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It ran and passed.
    Passed,
    /// It ran and failed.
    Failed {
        /// What it said.
        said: String,
    },
    /// It did not run to its end: that proves nothing.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEST: Catcher = Catcher::Test { package: "p", binary: Binary::Lib, name: "m::t" };

    #[test]
    fn only_the_one_test_that_ran_and_failed_is_a_failure() {
        let failed = "thread 'm::t' (7) panicked at a.rs:1:1:\nassertion failed: cash\n  left: 1\nnote: run with\n\n\
                      test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out";
        assert_eq!(TEST.verdict(failed), Verdict::Failed { said: "assertion failed: cash left: 1".to_owned() });
        assert_eq!(TEST.verdict("test result: ok. 1 passed; 0 failed; 0 ignored"), Verdict::Passed);
        for nothing in [
            "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 10 filtered out",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored",
            "error: could not compile `p` (lib test) due to 1 previous error",
            "",
        ] {
            assert_eq!(TEST.verdict(nothing), Verdict::None, "{nothing}");
        }
    }

    #[test]
    fn stories_fail_by_a_broken_invariant_and_by_nothing_else() {
        let stories = Catcher::Stories { seeds: 9 };
        let broken = "seed 3: ...\nVIOLATED I2: two orders\nError: seed 3 breaks an invariant; the same again: ...";
        assert_eq!(stories.verdict(broken), Verdict::Failed { said: "VIOLATED I2: two orders".to_owned() });
        assert_eq!(stories.verdict("simulate ok: stories=9"), Verdict::Passed);
        assert_eq!(stories.verdict("thread 'main' panicked at x.rs:1:1:\noverflow"), Verdict::None);
    }
}
