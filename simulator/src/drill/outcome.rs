//! What a drill ends with: one line of JSON.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::check::{Invariant, Kind, Tally, Verdict, Violation};
use super::exercise::Settled;

/// Violations that are told one by one; the rest is counted.
const TOLD_MAX: usize = 50;

/// The result of a drill.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    tally: Tally,
    violations: Vec<Violation>,
    faults: u64,
    notes: Map<String, Value>,
}

impl Outcome {
    /// The result of a comparison, or the reason why there was none.
    #[must_use]
    pub fn of(settled: Result<Verdict, String>) -> Self {
        match settled {
            Ok(verdict) => Self { tally: verdict.tally, violations: verdict.violations, ..Self::default() },
            Err(error) => {
                let mut outcome = Self::default();
                outcome.require(false, &format!("nothing could be compared: {error}"));
                outcome
            }
        }
    }

    /// The same with the way to rest: when it was reached, and how many orders were open how long after the load.
    #[must_use]
    pub fn settled(settled: Result<Settled, String>) -> Self {
        let way = settled.as_ref().ok().map(|settled| (settled.after, settled.figures, settled.unfinished.clone()));
        let mut outcome = Self::of(settled.map(|settled| settled.verdict));
        if let Some((after, figures, unfinished)) = way {
            let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            outcome.note("fills", figures.fills);
            outcome.note("manual", figures.manual);
            outcome.note("attempts_open", figures.attempts_open);
            outcome.note("resent", figures.resent);
            outcome.note("recovery_ms", after.map(ms));
            let steps: Vec<Value> = unfinished.into_iter().map(|(at, open)| json!([ms(at), open])).collect();
            outcome.note("unfinished_at_ms", steps);
        }
        outcome
    }

    /// Adds a figure to the line.
    pub fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.notes.insert(name.to_owned(), value.into());
    }

    /// Counts faults that really hit.
    pub fn strike(&mut self, hits: u64) {
        self.faults += hits;
    }

    /// How many faults really hit.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults
    }

    /// Adds a violation unless something holds.
    pub fn require(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            let text = otherwise.to_owned();
            self.violations.push(Violation { invariant: Invariant::Drill, order: None, kind: Kind::Wrong, text });
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
            faults: u64,
            #[serde(flatten)]
            notes: &'a Map<String, Value>,
            violations: usize,
            found: Vec<String>,
        }
        let line = Line {
            drill,
            ok: self.is_ok(),
            tally: self.tally,
            faults: self.faults,
            notes: &self.notes,
            violations: self.violations.len(),
            found: self.violations.iter().take(TOLD_MAX).map(ToString::to_string).collect(),
        };
        serde_json::to_string(&line)
            .unwrap_or_else(|error| format!("{{\"drill\":\"{drill}\",\"ok\":false,\"error\":\"{error}\"}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_when_all_was_at_rest_and_how_many_were_not_until_then() {
        let unfinished = vec![(Duration::from_millis(3), 14), (Duration::from_secs(4), 0)];
        let settled = Settled { after: Some(Duration::from_secs(4)), unfinished, ..Settled::default() };
        let line = Outcome::settled(Ok(settled.clone())).line("kill");
        assert!(line.contains(r#""recovery_ms":4000"#), "{line}");
        assert!(line.contains(r#""unfinished_at_ms":[[3,14],[4000,0]]"#), "{line}");
        let never = Outcome::settled(Ok(Settled { after: None, ..settled })).line("kill");
        assert!(never.contains(r#""recovery_ms":null"#), "{never}");
    }
}
