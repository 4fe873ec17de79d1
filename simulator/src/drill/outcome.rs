//! What a drill ends with: one line of JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use super::check::{Kind, Tally, Verdict, Violation};

/// Violations that are told one by one; the rest is counted.
const TOLD_MAX: usize = 50;

/// The result of a drill.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    tally: Tally,
    violations: Vec<Violation>,
    notes: Map<String, Value>,
}

impl Outcome {
    /// The result of a comparison, or the reason why there was none.
    #[must_use]
    pub fn of(settled: Result<Verdict, String>) -> Self {
        match settled {
            Ok(verdict) => Self { tally: verdict.tally, violations: verdict.violations, notes: Map::new() },
            Err(error) => {
                let mut outcome = Self::default();
                outcome.require(false, &format!("nothing could be compared: {error}"));
                outcome
            }
        }
    }

    /// Adds a figure to the line.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.notes.insert(name.to_owned(), value.into());
    }

    /// Adds a violation unless something holds.
    pub fn require(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.violations.push(Violation { kind: Kind::Wrong, text: otherwise.to_owned() });
        }
    }

    /// How many orders ended in which way.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Every violation.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether there is no violation.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }

    /// The line.
    #[must_use]
    pub fn line(&self, drill: &str) -> String {
        #[derive(Serialize)]
        struct Line<'a> {
            drill: &'a str,
            ok: bool,
            #[serde(flatten)]
            tally: Tally,
            #[serde(flatten)]
            notes: &'a Map<String, Value>,
            violations_len: usize,
            violations: Vec<String>,
        }
        let line = Line {
            drill,
            ok: self.is_ok(),
            tally: self.tally,
            notes: &self.notes,
            violations_len: self.violations.len(),
            violations: self.violations.iter().take(TOLD_MAX).map(ToString::to_string).collect(),
        };
        serde_json::to_string(&line)
            .unwrap_or_else(|error| format!("{{\"drill\":\"{drill}\",\"ok\":false,\"error\":\"{error}\"}}"))
    }
}
