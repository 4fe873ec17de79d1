//! What every drill tells at its end, beside its own figures.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::exercise::Exercise;
use super::oracle::faults;
use super::outcome::Outcome;

/// Orders whose story is told.
const STORIES_MAX: usize = 20;

/// Adds which faults hit, how long customers waited, and writes the story of each order with a violation.
pub async fn complete(exercise: &Exercise, outcome: &mut Outcome, may_be_harmless: bool) {
    let sim = &exercise.stack.addresses().sim;
    let hits: BTreeMap<String, u64> = match faults(exercise.stack.http(), sim).await {
        Ok(kinds) => kinds.into_iter().map(|(kind, tally)| (kind, tally.hits)).filter(|(_, hits)| *hits > 0).collect(),
        Err(error) => {
            outcome.require(false, &format!("the faults could not be counted: {error}"));
            BTreeMap::new()
        }
    };
    outcome.strike(hits.values().sum::<u64>() + exercise.stack.interventions());
    outcome.note("broker_faults", json!(hits));
    outcome.note("interventions", exercise.stack.interventions());
    let gap = exercise.availability.longest_gap();
    outcome.note("unavailable_ms", u64::try_from(gap.as_millis()).unwrap_or(u64::MAX));
    outcome.require(outcome.faults() > 0 || may_be_harmless, "no fault ever hit");
    let orders: BTreeSet<_> = outcome.violations().iter().filter_map(|found| found.order).take(STORIES_MAX).collect();
    if outcome.is_ok() {
        return;
    }
    let mut stories = Vec::new();
    for order in orders {
        stories.push(exercise.story(order).await);
    }
    let found: Vec<String> = outcome.violations().iter().map(ToString::to_string).collect();
    let file = exercise.stack.layout().run().join("violations.json");
    let text = format!("{:#}\n", json!({"violations": found, "stories": stories}));
    match std::fs::write(&file, text) {
        Ok(()) => exercise.say(&format!("the whole story of each order with a violation: {}", file.display())),
        Err(error) => exercise.say(&format!("{}: {error}", file.display())),
    }
}
