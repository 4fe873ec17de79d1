//! The invariants of a process's own database, checked bit by bit in the background and shown as a
//! metric that must read 0.
//!
//! A round examines a bounded number of subjects (accounts, requests, events): those in use and, every
//! other time, the next ones of a walk over all of them. So a round's cost does not grow with the
//! database, what is in use is seen within seconds, and everything in the end. What was found stays
//! shown until the same subject was examined again and found in order.

mod log;

pub use log::{LOG_GAPLESS, LOG_TAIL_LEN, log_findings, log_gaps, snapshot};

use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Most findings that are kept; further ones are counted only.
const KEPT_MAX: usize = 200;
/// Most findings that a health report names.
const NAMED_MAX: usize = 10;

/// One thing that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// The invariant of the whole system that it belongs to, `I1` to `I8`.
    pub invariant: &'static str,
    /// What is checked, such as `balance_is_journal_sum`.
    pub name: &'static str,
}

/// Something that is not in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which check.
    pub check: Check,
    /// Of which subject; none where the check looks at everything in each round.
    pub subject: Option<Uuid>,
    /// Where, with the figures.
    pub detail: String,
}

/// Which subjects a round examines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Those that were used last.
    Recent,
    /// The next ones after this id, in the order of ids.
    After(Uuid),
}

/// What a round found.
#[derive(Debug, Default)]
pub struct Round {
    /// The subjects that were examined; none of a walk is its end.
    pub examined: Vec<Uuid>,
    /// What is not in order.
    pub findings: Vec<Finding>,
}

/// Looks at the database of a process.
#[async_trait]
pub trait Inspector: Send + Sync + 'static {
    /// Examines at most `len_max` subjects.
    ///
    /// # Errors
    /// The database's.
    async fn inspect(&self, turn: Turn, len_max: u32) -> Result<Round, Box<dyn Error + Send + Sync>>;

    /// The next subject after this id, without examining it; none at the end.
    ///
    /// # Errors
    /// The database's.
    async fn next_subject(&self, after: Uuid) -> Result<Option<Uuid>, Box<dyn Error + Send + Sync>>;
}

/// How often is looked, and at how much.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time between two rounds.
    pub interval: Duration,
    /// Longest round.
    pub timeout: Duration,
    /// Most subjects of a round.
    pub len_max: u32,
}

impl Pace {
    /// From a configuration; an interval of 0 means never.
    #[must_use]
    pub const fn new(interval_ms: u64, timeout_ms: u64, len_max: u32) -> Option<Self> {
        if interval_ms == 0 {
            return None;
        }
        Some(Self { interval: Duration::from_millis(interval_ms), timeout: Duration::from_millis(timeout_ms), len_max })
    }
}

#[derive(Debug, Default)]
struct Known {
    found: BTreeMap<(Check, Option<Uuid>), String>,
    walks: u64,
    failed: Option<String>,
    looked: bool,
}

/// What is known about the invariants. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Invariants {
    checks: &'static [Check],
    known: Arc<Mutex<Known>>,
}

impl Invariants {
    /// Nothing known yet, of these checks.
    #[must_use]
    pub fn new(checks: &'static [Check]) -> Self {
        Self { checks, known: Arc::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is broken, in words for a person.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let known = self.known();
        let of = |check: &Check| known.found.keys().filter(|(by, _)| by == check).count();
        let counts = self.checks.iter().map(|check| (check, of(check))).filter(|(_, count)| *count > 0);
        counts.map(|(check, count)| format!("invariant {}: {} ({count})", check.invariant, check.name)).collect()
    }

    /// For the health report.
    #[must_use]
    pub fn report(&self) -> Value {
        let known = self.known();
        let name = |((check, subject), detail): (&(Check, Option<Uuid>), &String)| json!({"invariant": check.invariant, "check": check.name, "subject": subject, "detail": detail});
        let named: Vec<Value> = known.found.iter().take(NAMED_MAX).map(name).collect();
        json!({
            "violations": known.found.len(), "found": named, "looked": known.looked,
            "complete_walks": known.walks, "error": known.failed,
        })
    }

    /// Takes what all subjects came to: whatever else was known is forgotten.
    pub fn replace(&self, findings: Vec<Finding>) {
        self.known().found.clear();
        self.take(Round { examined: Vec::new(), findings });
    }

    /// Takes what a round found, and shows it.
    pub fn take(&self, round: Round) {
        let mut known = self.known();
        let examined: BTreeSet<Uuid> = round.examined.into_iter().collect();
        let before = std::mem::take(&mut known.found);
        let stays = |subject: &Option<Uuid>| subject.is_some_and(|subject| !examined.contains(&subject));
        known.found = before.iter().filter(|((_, subject), _)| stays(subject)).map(|(k, v)| (*k, v.clone())).collect();
        for finding in round.findings {
            let key = (finding.check, finding.subject);
            if known.found.len() >= KEPT_MAX && !known.found.contains_key(&key) {
                continue;
            }
            if !before.contains_key(&key) {
                let Check { invariant, name } = finding.check;
                tracing::error!(invariant, check = name, detail = finding.detail, "an invariant is broken");
            }
            known.found.insert(key, finding.detail);
        }
        (known.looked, known.failed) = (true, None);
        for check in self.checks {
            let count = known.found.keys().filter(|(by, _)| by == check).count();
            metrics::gauge!("invariant_violations", "invariant" => check.invariant, "check" => check.name)
                .set(u32::try_from(count).unwrap_or(u32::MAX));
        }
        drop(known);
    }

    fn failed(&self, error: &dyn Error) {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        tracing::warn!(error = text, "invariants could not be checked");
        metrics::counter!("invariant_check_failures_total").increment(1);
        self.known().failed = Some(text);
    }

    /// Looks again and again, until `shutdown`. A round that fails is tried again with half as many
    /// subjects: one account may have more lines than others have together.
    pub async fn watch(self, inspector: Arc<dyn Inspector>, pace: Pace, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(pace.interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut turn, mut walked) = (Turn::Recent, Uuid::nil());
        let (mut len_recent, mut len_walk) = (pace.len_max, pace.len_max);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let len = if turn == Turn::Recent { &mut len_recent } else { &mut len_walk };
            let began = std::time::Instant::now();
            let looked = tokio::select! {
                looked = tokio::time::timeout(pace.timeout, inspector.inspect(turn, *len)) => looked,
                () = shutdown.cancelled() => return,
            };
            metrics::histogram!("invariant_check_duration_seconds").record(began.elapsed());
            let is_alone = *len == 1;
            match looked {
                Ok(Ok(round)) => {
                    *len = len.saturating_mul(2).min(pace.len_max);
                    if let Turn::After(_) = turn {
                        walked = round.examined.iter().max().copied().unwrap_or_default();
                        self.known().walks += u64::from(round.examined.is_empty());
                    }
                    self.take(round);
                }
                Ok(Err(error)) => {
                    self.failed(&*error);
                    *len = (*len / 2).max(1);
                }
                Err(late) => {
                    self.failed(&late);
                    *len = (*len / 2).max(1);
                }
            }
            // One that cannot be examined at all must not keep the walk from the others.
            if is_alone && turn != Turn::Recent && self.known().failed.is_some() {
                let next = tokio::time::timeout(pace.timeout, inspector.next_subject(walked)).await;
                if let Ok(Ok(next)) = next {
                    walked = next.unwrap_or_default();
                }
            }
            turn = if turn == Turn::Recent { Turn::After(walked) } else { Turn::Recent };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Check = Check { invariant: "I4", name: "a" };
    const B: Check = Check { invariant: "I8", name: "b" };

    fn finding(check: Check, subject: Option<u128>) -> Finding {
        Finding { check, subject: subject.map(Uuid::from_u128), detail: "figures".to_owned() }
    }

    fn round(examined: &[u128], findings: Vec<Finding>) -> Round {
        Round { examined: examined.iter().map(|id| Uuid::from_u128(*id)).collect(), findings }
    }

    #[test]
    fn what_was_found_stays_until_the_same_subject_is_in_order() {
        let invariants = Invariants::new(&[A, B]);
        assert!(invariants.broken().is_empty());
        invariants.take(round(&[1, 2], vec![finding(A, Some(2)), finding(B, None)]));
        assert_eq!(invariants.broken(), ["invariant I4: a (1)", "invariant I8: b (1)"]);
        invariants.take(round(&[1, 3], vec![]));
        assert_eq!(invariants.broken(), ["invariant I4: a (1)"], "2 was not examined again");
        invariants.take(round(&[2], vec![]));
        assert!(invariants.broken().is_empty());
    }

    #[test]
    fn what_is_kept_and_named_is_bounded() {
        let invariants = Invariants::new(&[A]);
        let ids: Vec<u128> = (1..=1_000).collect();
        invariants.take(round(&ids, ids.iter().map(|id| finding(A, Some(*id))).collect()));
        assert_eq!(invariants.report()["violations"], KEPT_MAX);
        assert_eq!(invariants.report()["found"].as_array().unwrap().len(), NAMED_MAX);
    }

    /// Subjects 1 to 5; subject 3 cannot be examined.
    struct Stubborn(Mutex<BTreeSet<u128>>);

    #[async_trait]
    impl Inspector for Stubborn {
        async fn inspect(&self, turn: Turn, len_max: u32) -> Result<Round, Box<dyn Error + Send + Sync>> {
            let Turn::After(after) = turn else { return Ok(Round::default()) };
            let ids: Vec<u128> = (1..=5).filter(|id| *id > after.as_u128()).take(len_max as usize).collect();
            if ids.contains(&3) {
                return Err("canceling statement due to statement timeout".into());
            }
            self.0.lock().unwrap().extend(&ids);
            Ok(round(&ids, vec![]))
        }

        async fn next_subject(&self, after: Uuid) -> Result<Option<Uuid>, Box<dyn Error + Send + Sync>> {
            Ok((1..=5).find(|id| *id > after.as_u128()).map(Uuid::from_u128))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_subject_that_cannot_be_examined_does_not_hide_the_others() {
        let (inspector, end) = (Arc::new(Stubborn(Mutex::default())), CancellationToken::new());
        let pace = Pace { interval: Duration::from_secs(1), timeout: Duration::from_secs(1), len_max: 4 };
        let invariants = Invariants::new(&[A]);
        let watch = tokio::spawn(invariants.clone().watch(inspector.clone(), pace, end.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        end.cancel();
        watch.await.unwrap();
        assert_eq!(*inspector.0.lock().unwrap(), BTreeSet::from([1, 2, 4, 5]));
        assert!(invariants.report()["complete_walks"].as_u64().unwrap() > 0);
    }
}
