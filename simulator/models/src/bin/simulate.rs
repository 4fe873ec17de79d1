//! Tells many stories, each of one seed, and stops at the first that breaks an invariant.

#![allow(clippy::print_stdout, reason = "a command")]

use clap::Parser;
use models::story::{Mutation, Tally, tell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Stories of the engine's decisions in one process, one a seed.
#[derive(Parser)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Prints each story.
    #[arg(long)]
    print: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let began = Instant::now();
    let next = AtomicU64::new(args.first);
    let end = args.first.saturating_add(args.seeds);
    let sum = Mutex::new((Tally::default(), 0_u64, None::<(u64, String)>));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let story = tell(seed, Mutation::None);
                    if args.print {
                        println!("{}", story.text);
                    }
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.0.add(&story.tally);
                    sum.1 += 1;
                    // Of several failures the lowest seed is shown, whichever thread was first.
                    let is_lower = sum.2.as_ref().is_none_or(|(first, _)| seed < *first);
                    if !story.violations.is_empty() && is_lower {
                        sum.2 = Some((seed, story.text));
                        next.store(end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (tally, stories, failed) = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let per_minute = stories.saturating_mul(60_000) / ms;
    if let Some((seed, text)) = failed {
        println!("{text}");
        anyhow::bail!("seed {seed} breaks an invariant; the same again: make simulate SEEDS=1 FIRST={seed}");
    }
    let Tally { orders, fills, steps, faults, resent, manual } = tally;
    println!(
        "simulate ok: stories={stories} orders={orders} fills={fills} steps={steps} faults={faults} resent={resent} \
         manual={manual} violations=0 seconds={}.{} stories_per_minute={per_minute}",
        ms / 1000,
        ms % 1000 / 100
    );
    Ok(())
}
