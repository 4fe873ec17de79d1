//! Whole stories under one seed: customers, order server, gateway, receiver and broker, with every decision
//! made by the production code and everything between them (network, clock, commits, deaths, the broker)
//! chosen by the seed. The same seed is the same story, byte for byte.
//!
//! A story has a wild part, in which anything may happen at any time, and a quiet part, in which nothing new
//! goes wrong until nothing is left to do. Then the invariants are looked at.

mod broker;
mod consume;
mod core;
mod gateway;
mod invariants;
mod plot;
mod quiet;
mod receiver;
mod wild;

pub use plot::{Mutation, Plot};

use self::core::Core;
use broker::Broker;
use consume::Reader;
use contracts::Partition;
use contracts::event::Producer;
use gateway::Gateway;
use platform::consumer::tracker::Tracker;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use receiver::Receiver;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;
use time::{Duration, OffsetDateTime};

/// When every story begins.
pub(crate) const BEGIN: OffsetDateTime = time::macros::datetime!(2026-07-01 14:00:00 UTC);

/// What became of a story.
#[derive(Debug)]
pub struct Ended {
    /// The seed.
    pub seed: u64,
    /// Every line of it.
    pub text: String,
    /// What must not be.
    pub violations: Vec<String>,
    /// What happened in it, for the sum over many.
    pub tally: Tally,
}

/// How often what happened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Orders that were taken from customers.
    pub orders: u64,
    /// Executions at the broker.
    pub fills: u64,
    /// Steps of the wild part.
    pub steps: u64,
    /// Faults: lost, late and repeated messages, deaths, commits that were lost or not confirmed.
    pub faults: u64,
    /// Orders of which more than one attempt went out.
    pub resent: u64,
    /// Orders left to persons.
    pub manual: u64,
}

impl Tally {
    /// Adds another story.
    pub fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.fills += other.fills;
        self.steps += other.steps;
        self.faults += other.faults;
        self.resent += other.resent;
        self.manual += other.manual;
    }
}

/// Everything.
struct World {
    plot: Plot,
    rng: ChaCha8Rng,
    now: OffsetDateTime,
    began: Instant,
    core: Core,
    gateway: Gateway,
    receiver: Receiver,
    broker: Broker,
    trackers: BTreeMap<(Reader, Producer, Partition), Tracker>,
    text: String,
    tally: Tally,
}

/// Tells the story of a seed.
#[must_use]
pub fn tell(seed: u64, mutation: Mutation) -> Ended {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let plot = Plot::draw(&mut rng, mutation);
    let mut text = String::new();
    let _infallible = writeln!(text, "seed {seed}: {plot}");
    let mut world = World {
        core: Core::new(&plot),
        gateway: Gateway::new(plot.rules(BEGIN), mutation == Mutation::NewKeyForEachAttempt),
        receiver: Receiver::new(
            BEGIN,
            mutation == Mutation::DedupByCursor,
            mutation == Mutation::IgnoreDroppedMessages,
        ),
        broker: Broker::new(plot.truth.clone(), plot.skew),
        trackers: BTreeMap::new(),
        plot,
        rng,
        now: BEGIN,
        began: Instant::now(),
        text,
        tally: Tally::default(),
    };
    world.go_wild();
    let mut violations = world.come_to_rest();
    violations.extend(world.violations());
    world.count();
    for violation in &violations {
        let _infallible = writeln!(world.text, "VIOLATED {violation}");
    }
    Ended { seed, text: world.text, violations, tally: world.tally }
}

impl World {
    fn note(&mut self, line: &str) {
        let at = self.now - BEGIN;
        let _infallible = writeln!(self.text, "{:>6}.{:03} s  {line}", at.whole_seconds(), at.subsec_milliseconds());
    }

    fn fault(&mut self, line: &str) {
        self.tally.faults += 1;
        self.note(line);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.rng.random_range(0..len))
    }

    fn since(&self) -> std::time::Duration {
        std::time::Duration::try_from(self.now - BEGIN).unwrap_or_default()
    }

    /// The steady clock, as the consumers see it.
    fn instant(&self) -> Instant {
        self.began + self.since()
    }

    /// The database's clock goes on, but not past what must happen before.
    fn tick(&mut self, by: Duration) {
        let until = [self.broker.must_act_by(), self.hands_due()].into_iter().flatten().min();
        let wanted = self.now + by;
        self.now = until.map_or(wanted, |until| wanted.min(until.max(self.now)));
        self.core.db_leases_end();
        self.let_happen_what_must();
    }
}
