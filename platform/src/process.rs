//! The command line that every process has.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
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
    /// Read the configuration, say whether it is valid, and exit.
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
