//! The command line that every process has.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;

/// `NAME [run|migrate|check-config] [--config FILE]`.
#[derive(Debug, Parser)]
pub struct Arguments {
    /// A TOML file that is laid over the compiled-in defaults.
    #[arg(long, global = true)]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What a process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Check the schema and work (the default).
    Run,
    /// Apply the migrations and exit.
    Migrate,
    /// Check the configuration, print what is in effect with secrets masked, and exit.
    CheckConfig,
}

impl Arguments {
    /// Reads this process's arguments; help, version and errors end it.
    #[must_use]
    pub fn parse_for(name: &'static str, about: &'static str, version: &'static str) -> Self {
        let matches = Self::command().name(name).about(about).version(version).get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// What is asked for.
    #[must_use]
    pub fn command_or_run(&self) -> Command {
        self.command.unwrap_or(Command::Run)
    }
}

/// Prints what a command was asked for.
///
/// # Errors
/// The system's error, such as for a reader that is gone.
pub fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_runs_unless_told_otherwise_and_takes_its_file_on_either_side() {
        let parse = |line: &str| Arguments::try_parse_from(line.split(' '));
        assert_eq!(parse("p").unwrap().command_or_run(), Command::Run);
        for line in ["p --config f check-config", "p check-config --config f"] {
            let arguments = parse(line).unwrap();
            assert_eq!(arguments.command_or_run(), Command::CheckConfig);
            assert_eq!(arguments.config, Some("f".into()));
        }
        assert!(parse("p serve").is_err());
    }
}
