//! `mutants`: puts known ways to lose or double an order into a copy of the engine, one at a time, and demands of each
//! that the test named for it fails. Needs `TEST_DATABASE_URL`; `make mutants` starts a private server.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::Parser;
use simulator::mutants::copy::WorkingCopy;
use simulator::mutants::list;
use simulator::mutants::mutation::Mutation;
use simulator::mutants::report::{markdown, summary};
use simulator::mutants::run::Trial;

/// Wrong changes of the engine, and the tests that notice them.
#[derive(Parser)]
struct Arguments {
    /// The checkout; `.run` is in it.
    #[arg(long, default_value = ".")]
    checkout: PathBuf,
    /// The target folder; copy and builds are in its `mutants`.
    #[arg(long, env = "CARGO_TARGET_DIR", default_value = "target")]
    target: PathBuf,
    /// Only mutations in whose name, files or catcher this stands.
    #[arg(long)]
    only: Option<String>,
    /// Tells the mutations and tries none.
    #[arg(long)]
    list: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let chosen: Vec<&'static Mutation> = list::all().filter(|mutation| is_chosen(&arguments, mutation)).collect();
    ensure!(!chosen.is_empty(), "there is no such mutation");
    if arguments.list {
        for Mutation { name, harm, catcher, .. } in chosen {
            say(&format!("{name}: {harm} ({catcher})"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let checkout = arguments.checkout.canonicalize().context("there is no such checkout")?;
    let folder = checkout.join(&arguments.target).join("mutants");
    let copy = WorkingCopy::of(&checkout, &folder.join("tree")).context("copy the tree")?;
    let trial = Trial { copy, target: folder.join("target") };
    trial.baseline(&chosen, say)?;
    let mut rows = Vec::new();
    for mutation in chosen {
        let row = trial.attempt(mutation)?;
        match &row.outcome {
            Ok(said) => say(&format!("caught  {} ({} s): {said}", mutation.name, row.seconds)),
            Err(why) => say(&format!("MISSED  {} by {}: {why}", mutation.name, mutation.catcher)),
        }
        rows.push(row);
    }
    let (table, line) = (markdown(&rows), summary(&rows));
    let run = checkout.join(".run");
    std::fs::create_dir_all(&run)
        .and_then(|()| std::fs::write(run.join("mutants.md"), format!("{table}\n{line}\n")))?;
    say(&format!("\n{table}\n{line}"));
    let all = rows.iter().all(|row| row.outcome.is_ok());
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_chosen(arguments: &Arguments, mutation: &Mutation) -> bool {
    arguments.only.as_deref().is_none_or(|part| {
        let texts = [mutation.name.to_owned(), mutation.catcher.to_string(), mutation.files().join(" ")];
        texts.iter().any(|text| text.contains(part))
    })
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _unread = writeln!(out, "{line}").and_then(|()| out.flush());
}
