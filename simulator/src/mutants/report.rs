//! What a run ends with: a table and a line.

use std::fmt::Write;

use super::mutation::Mutation;

/// What came of one mutation.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which.
    pub mutation: &'static Mutation,
    /// What its catcher said when it failed; else why that proves nothing.
    pub outcome: Result<String, String>,
    /// How long building and running took.
    pub seconds: u64,
}

/// The table, as Markdown.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| mutation | where | caught by | it said | s |\n|---|---|---|---|---|\n");
    for Row { mutation, outcome, seconds } in rows {
        let Mutation { name, catcher, .. } = mutation;
        let files = mutation.files().join(", ");
        let (caught, said) = match outcome {
            Ok(said) => (catcher.to_string(), format!("`{}`", said.replace(['|', '`'], "'"))),
            Err(why) => (format!("**not by {catcher}**"), why.replace('|', "'")),
        };
        let _infallible = writeln!(text, "| {name} | {files} | {caught} | {said} | {seconds} |");
    }
    text
}

/// The last line.
#[must_use]
pub fn summary(rows: &[Row]) -> String {
    let caught = rows.iter().filter(|row| row.outcome.is_ok()).count();
    let word = if caught == rows.len() { "ok" } else { "FAILED" };
    format!("mutants {word}: {caught} of {} caught", rows.len())
}
