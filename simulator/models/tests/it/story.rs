//! Seeded stories: the engine keeps its invariants, planted faults do not, and a seed is its story.

use models::story::{Mutation, Tally, tell};

#[test]
fn stories_of_many_seeds_keep_every_invariant() {
    let mut sum = Tally::default();
    for seed in 1..=400 {
        let story = tell(seed, Mutation::None);
        assert!(story.violations.is_empty(), "{}", story.text);
        sum.add(&story.tally);
    }
    println!("stories: {sum:?}");
    // Otherwise nothing was tried.
    assert!(sum.orders > 0 && sum.fills > 0 && sum.faults > 0 && sum.resent > 0 && sum.manual > 0, "{sum:?}");
}

#[test]
fn the_same_seed_is_the_same_story_byte_for_byte() {
    for seed in 1..=20 {
        assert_eq!(tell(seed, Mutation::None).text, tell(seed, Mutation::None).text);
    }
}

#[test]
fn every_planted_fault_is_found() {
    for mutation in Mutation::WRONG {
        let found = (1..=3000).map(|seed| tell(seed, mutation)).find(|story| !story.violations.is_empty());
        let story = found.expect("a planted fault that no story shows");
        println!("{mutation:?}: seed {}: {}", story.seed, story.violations.join("; "));
    }
}
