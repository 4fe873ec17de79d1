//! Whether a copy can work on what it holds. One that cannot read a log (its peer refuses it, its
//! connections are broken) renews its leases all the same, and what it holds would stand still.

use super::config::LeaseConfig;
use super::plan::Living;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use uuid::Uuid;

/// Whether a copy can work on what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// It can.
    Able,
    /// Something fails, not for long yet.
    Troubled,
    /// It has failed for too long, or gave its leases up for that a while ago.
    Unable,
}

impl Ability {
    /// The word in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Able => "able",
            Self::Troubled => "troubled",
            Self::Unable => "unable",
        }
    }

    /// Reads the word; one that is not known is no reason to hand anything over.
    pub(super) fn read(word: &str) -> Self {
        match word {
            "able" => Self::Able,
            "unable" => Self::Unable,
            _ => Self::Troubled,
        }
    }
}

/// Since when which log has made no progress because something fails.
#[derive(Debug, Clone, Default)]
pub(super) struct Troubles(Arc<Mutex<BTreeMap<&'static str, Instant>>>);

impl Troubles {
    pub(super) fn report(&self, log: &'static str, since: Option<Instant>) {
        let mut troubles = self.lock();
        match since {
            Some(since) => troubles.insert(log, since),
            None => troubles.remove(log),
        };
    }

    pub(super) fn since(&self) -> Option<Instant> {
        self.lock().values().min().copied()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a copy remembers of its own ability and of the others'. Pure: the time is given.
#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Until then it takes nothing back: without anything to do nothing fails.
    rests_until: Option<Instant>,
    /// Since when another copy has been able without a break.
    able_other_since: Option<Instant>,
}

impl Judge {
    pub(super) fn ability(&self, trouble_since: Option<Instant>, now: Instant, config: &LeaseConfig) -> Ability {
        let failed_for = trouble_since.map(|since| now.saturating_duration_since(since));
        if self.rests_until.is_some_and(|until| now < until) || failed_for.is_some_and(|it| it >= config.trouble_max())
        {
            Ability::Unable
        } else if trouble_since.is_some() {
            Ability::Troubled
        } else {
            Ability::Able
        }
    }

    /// Whether this copy, being unable, gives up what it holds: another one must have been able for as
    /// long as failures are borne. What fails everywhere ends at each copy at another moment, and must
    /// not send the leases to and fro.
    pub(super) fn gives_up(&mut self, me: Uuid, copies: &[Living], now: Instant, config: &LeaseConfig) -> bool {
        if !copies.iter().any(|copy| copy.id != me && copy.ability == Ability::Able) {
            self.able_other_since = None;
            return false;
        }
        let since = *self.able_other_since.get_or_insert(now);
        let unable = copies.iter().any(|copy| copy.id == me && copy.ability == Ability::Unable);
        unable && now.saturating_duration_since(since) >= config.trouble_max()
    }

    pub(super) fn gave_up(&mut self, now: Instant, config: &LeaseConfig) {
        self.rests_until = Some(now + config.rest());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CONFIG: LeaseConfig =
        LeaseConfig { duration_ms: 1_000, renewal_ms: 250, trouble_ms_max: 3_000, rest_ms: 30_000 };
    const ME: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn copies(mine: Ability, other: Ability) -> [Living; 2] {
        [Living { id: ME, ability: mine }, Living { id: OTHER, ability: other }]
    }

    #[test]
    fn trouble_becomes_inability_with_time_and_a_copy_that_gave_up_rests() {
        let (start, mut judge) = (Instant::now(), Judge::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(judge.ability(None, start, &CONFIG), Ability::Able);
        assert_eq!(judge.ability(Some(start), at(2_999), &CONFIG), Ability::Troubled);
        assert_eq!(judge.ability(Some(start), at(3_000), &CONFIG), Ability::Unable);
        assert_eq!(judge.ability(None, at(3_001), &CONFIG), Ability::Able, "it kept what it held, and reads it");
        judge.gave_up(at(4_000), &CONFIG);
        assert_eq!(judge.ability(None, at(33_999), &CONFIG), Ability::Unable);
        assert_eq!(judge.ability(None, at(34_000), &CONFIG), Ability::Able);
    }

    #[test]
    fn nothing_is_given_up_before_another_copy_has_been_able_for_a_while() {
        use Ability::{Able, Troubled, Unable};
        let (start, mut judge) = (Instant::now(), Judge::default());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!judge.gives_up(ME, &copies(Unable, Unable), at(0), &CONFIG));
        // The peer is back: the other one has noticed, and this one will within a moment.
        assert!(!judge.gives_up(ME, &copies(Unable, Able), at(1_000), &CONFIG));
        assert!(!judge.gives_up(ME, &copies(Unable, Troubled), at(3_000), &CONFIG));
        assert!(!judge.gives_up(ME, &copies(Unable, Able), at(4_000), &CONFIG));
        assert!(!judge.gives_up(ME, &copies(Troubled, Able), at(7_000), &CONFIG));
        assert!(judge.gives_up(ME, &copies(Unable, Able), at(7_000), &CONFIG));
    }
}
