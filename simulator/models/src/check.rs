//! Runs a model to its end and says what was reached.

use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::{self, Debug, Write};
use std::hash::Hash;
use std::time::{Duration, Instant};

/// More states than this end a check without a verdict: bounds are to be chosen below it.
const STATES_MAX: usize = 20_000_000;

/// What a check reached.
#[derive(Debug)]
pub struct Reached {
    /// Different states.
    pub states: usize,
    /// Steps of the longest way to a state.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Ways to states that break an invariant: its name, and the steps.
    pub refuted: Vec<(&'static str, String)>,
    /// What must be possible, so that the check means something, and was not.
    pub never_seen: Vec<&'static str>,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.took.as_millis();
        write!(f, "{:>9} states, depth {:>2}, {:>2}.{:01} s", self.states, self.depth, ms / 1000, ms % 1000 / 100)
    }
}

/// Visits every state within the model's bounds.
pub fn exhaust<M>(model: M) -> Reached
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    run(model, HasDiscoveries::All)
}

/// Looks for the shortest way to break an invariant, and stops there.
pub fn refute<M>(model: M) -> Reached
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    run(model, HasDiscoveries::AnyFailures)
}

fn run<M>(model: M, until: HasDiscoveries) -> Reached
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Send + Sync + Clone + PartialEq + Debug + 'static,
    M::Action: Clone + PartialEq + Debug,
{
    let began = Instant::now();
    let properties = model.properties();
    // One thread, so that counterexamples are the shortest and the same every time.
    let checker = model.checker().finish_when(until).target_state_count(STATES_MAX).spawn_bfs().join();
    let mut found = checker.discoveries();
    let mut refuted = Vec::new();
    let mut never_seen = Vec::new();
    for property in &properties {
        match (&property.expectation, found.remove(property.name)) {
            (Expectation::Sometimes, None) => never_seen.push(property.name),
            (Expectation::Sometimes, Some(_)) | (_, None) => {}
            (_, Some(path)) => {
                let mut steps = String::new();
                let mut last = None;
                for (state, action) in path.into_vec() {
                    if let Some(action) = action {
                        let _infallible = writeln!(steps, "    {action:?}");
                    }
                    last = Some(state);
                }
                if let Some(last) = last {
                    let _infallible = writeln!(steps, "    => {last:?}");
                }
                refuted.push((property.name, steps));
            }
        }
    }
    let states = checker.unique_state_count();
    let seconds = began.elapsed().as_secs();
    assert!(checker.state_count() < STATES_MAX, "the bounds are too wide: {states} states in {seconds} s and no end");
    Reached { states, depth: checker.max_depth(), took: began.elapsed(), refuted, never_seen }
}
