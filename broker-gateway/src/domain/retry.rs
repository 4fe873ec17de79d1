//! The retry protocol: one pure function that says what may be done next with a request.
//!
//! 0. Outcomes belong to attempts; the request's standing is a fold over all of them.
//! 1. In doubt, a broker that can be asked by our key is asked first.
//! 2. Where it says "none", or cannot be asked, the same bytes go out again under the same key, at
//!    1, 2, 4 and 8 minutes, only where the broker enforces the key and, counting the longest
//!    flight, still will when they arrive. Otherwise there is one attempt, ever.
//! 3. "None" is final only for a question begun when nothing can arrive or surface any more.
//!    Otherwise the order goes to persons.
//! 4. Evidence of life ends the doubt at once.
//!
//! Jitter only ever lengthens a wait: a due time is the shortest wait, so that a request that was
//! put off until its jittered time is never put off again by another throw.

use super::history::History;
use super::outcome::Refusal;
use super::profile::{KeyEnforcement, Profile};
use super::standing::{Doubt, Standing, standing};
use contracts::event::NotSentReason;
use time::{Duration, OffsetDateTime};

/// How patient the protocol is. Not promises of the broker but our own choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Waits before the second, third, … attempt that may reach the broker. Its length bounds them.
    pub ladder: Vec<Duration>,
    /// Wait after the first lookup that settled nothing; doubles from there.
    pub lookup_delay_first: Duration,
    /// The longest wait between two lookups.
    pub lookup_delay_max: Duration,
    /// Wait after the first try that was proven not to have left us; doubles from there.
    pub unsent_delay_first: Duration,
    /// The longest such wait.
    pub unsent_delay_max: Duration,
    /// How long a doubt that no program can settle for sure is looked into before a person is asked.
    pub doubt_max: Duration,
    /// Longest time between committing an attempt and writing it to the socket.
    pub send_grace: Duration,
    /// A question begun before this does not count as having asked: the start of this process, by
    /// the database's clock.
    pub reviewed_since: OffsetDateTime,
    /// For how long a doubt that nobody could look up holds back new orders of its account.
    pub review_hold_max: Duration,
}

/// The time, and whether it can be trusted for a decision to send again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The database's clock.
    pub at: OffsetDateTime,
    /// Whether it agrees with the local one within the skew.
    pub is_trusted: bool,
}

/// A random number from 0 to 1000: by how many thousandths of a quarter a wait is lengthened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(pub u16);

/// What is to be done next with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write a new attempt and send it.
    Send,
    /// Ask the broker by our key.
    Ask,
    /// Nothing before this moment.
    Wait(OffsetDateTime),
    /// The broker has it; cancels and observations go on from here.
    Alive,
    /// It is over.
    Finish(Finish),
}

/// How a request ends without having lived at the broker, and on what evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Finish {
    /// Refused, and nothing else can have lived.
    Refused(Refusal),
    /// It never took effect at the broker.
    NotSent {
        /// Why.
        reason: NotSentReason,
        /// What proves it.
        evidence: AbsenceProof,
    },
    /// A person or a fill must settle it.
    Manual {
        /// Why a program may not.
        reason: ManualReason,
    },
}

/// What proves that an order is not at the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbsenceProof {
    /// No attempt left us.
    NothingLeft,
    /// A "none" that was asked for after every attempt had expired and every record was due.
    FinalNone,
}

/// Why a program may not settle an order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ManualReason {
    /// The broker cannot be asked, and sending again could make a second order.
    CannotBeAsked,
    /// The broker says "none", and can never say it for good.
    NoneIsNeverFinal,
    /// The broker says that it has an order under our key, and does not show it.
    DuplicateNotShown,
    /// The broker has another order under our key.
    Contradicted {
        /// What differs.
        what: String,
    },
}

impl std::fmt::Display for ManualReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CannotBeAsked => f.write_str("outcome unknown and the broker cannot be asked"),
            Self::NoneIsNeverFinal => f.write_str("outcome unknown and the broker's \"none\" is never final"),
            Self::DuplicateNotShown => f.write_str("the broker reports a duplicate key but shows no such order"),
            Self::Contradicted { what } => write!(f, "the broker has another order under our key: {what} differs"),
        }
    }
}

/// Decides what may be done next. [`History::expire`] comes first.
#[must_use]
pub fn next_action(profile: &Profile, policy: &RetryPolicy, history: &History, now: Now, jitter: Jitter) -> Action {
    match next(profile, policy, history, now, jitter) {
        // A "none" is final by the clock, so nothing is asked while the clock cannot be believed.
        Action::Ask if !now.is_trusted => Action::Wait(now.at.saturating_add(policy.lookup_delay_max)),
        action => action,
    }
}

fn next(profile: &Profile, policy: &RetryPolicy, history: &History, now: Now, jitter: Jitter) -> Action {
    match standing(history) {
        Standing::Alive => Action::Alive,
        Standing::Contradicted { what } => manual(ManualReason::Contradicted { what }),
        Standing::InFlight { until } => Action::Wait(until),
        Standing::Refused(refusal) => Action::Finish(Finish::Refused(refusal)),
        Standing::Unsent { tries, last_ended_at } => unsent(policy, history, now, jitter, tries, last_ended_at),
        Standing::Hidden(doubt) => hidden(profile, policy, history, now, jitter, &doubt),
        Standing::Doubtful(doubt) => doubtful(profile, policy, history, now, jitter, &doubt),
    }
}

fn manual(reason: ManualReason) -> Action {
    Action::Finish(Finish::Manual { reason })
}

/// Nothing has left us: sending is safe with any broker.
fn unsent(
    policy: &RetryPolicy,
    history: &History,
    now: Now,
    jitter: Jitter,
    tries: u32,
    last_ended_at: Option<OffsetDateTime>,
) -> Action {
    let not_sent = |reason| Action::Finish(Finish::NotSent { reason, evidence: AbsenceProof::NothingLeft });
    if history.cancel_requested {
        return not_sent(NotSentReason::CancelRequested);
    }
    if history.valid_until.is_some_and(|until| now.at >= until) {
        return not_sent(NotSentReason::Expired);
    }
    let Some(last) = last_ended_at else { return Action::Send };
    let wait = doubled(policy.unsent_delay_first, policy.unsent_delay_max, tries.saturating_sub(1));
    due(last, wait, now, jitter).map_or(Action::Send, Action::Wait)
}

/// The broker said "duplicate": it exists, so it is never sent again and "none" is never believed.
fn hidden(
    profile: &Profile,
    policy: &RetryPolicy,
    history: &History,
    now: Now,
    jitter: Jitter,
    doubt: &Doubt,
) -> Action {
    if !profile.key_looked_up || now.at >= doubt.since.saturating_add(policy.doubt_max) {
        return manual(ManualReason::DuplicateNotShown);
    }
    next_question(policy, history, now, jitter, doubt).map_or(Action::Ask, Action::Wait)
}

fn doubtful(
    profile: &Profile,
    policy: &RetryPolicy,
    history: &History,
    now: Now,
    jitter: Jitter,
    doubt: &Doubt,
) -> Action {
    let final_after = profile.none_is_final_after(history.valid_until);
    if let (Some(after), Some(asked)) = (final_after, history.asked.last_none_began_at)
        && asked > after
    {
        return Action::Finish(proven_absent(history, doubt));
    }
    let resend = resend(profile, policy, history, now, doubt);
    if !profile.key_looked_up {
        return match resend {
            Resend::At(ready) => {
                due(doubt.last_ended_at, ready - doubt.last_ended_at, now, jitter).map_or(Action::Send, Action::Wait)
            }
            Resend::ClockUnsound => Action::Wait(now.at.saturating_add(policy.lookup_delay_max)),
            Resend::Never => manual(ManualReason::CannotBeAsked),
        };
    }
    if let Resend::At(ready) = resend
        && now.at >= ready
    {
        let asked_since =
            |asked: Option<OffsetDateTime>| asked.is_some_and(|at| at >= ready.max(policy.reviewed_since));
        if asked_since(history.asked.last_none_began_at) {
            return Action::Send;
        }
        if !asked_since(history.asked.last_began_at) {
            return Action::Ask;
        }
    }
    if final_after.is_none() && resend == Resend::Never && now.at >= doubt.since.saturating_add(policy.doubt_max) {
        return manual(ManualReason::NoneIsNeverFinal);
    }
    // The first question whose "none" counts is due at once, however short ago the last one was.
    if final_after.is_some_and(|after| now.at > after && history.asked.last_began_at.is_none_or(|at| at <= after)) {
        return Action::Ask;
    }
    let Some(question) = next_question(policy, history, now, jitter, doubt) else { return Action::Ask };
    // Not to oversleep a resend, nor the first moment at which "none" counts.
    let earliest = [resend.at(), final_after.map(|after| after.saturating_add(Duration::MILLISECOND))]
        .into_iter()
        .flatten()
        .filter(|moment| *moment > now.at)
        .fold(question, OffsetDateTime::min);
    Action::Wait(earliest)
}

/// Every attempt had expired and every record was due when the broker said "none".
fn proven_absent(history: &History, doubt: &Doubt) -> Finish {
    if let Some(refusal) = &doubt.refusal {
        return Finish::Refused(refusal.clone());
    }
    let reason = if history.cancel_requested { NotSentReason::CancelRequested } else { NotSentReason::Expired };
    Finish::NotSent { reason, evidence: AbsenceProof::FinalNone }
}

/// Whether the same bytes may go out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Resend {
    /// From this moment on, as things stand.
    At(OffsetDateTime),
    /// Not while the clock runs backwards or is not believed.
    ClockUnsound,
    /// Never any more.
    Never,
}

impl Resend {
    const fn at(self) -> Option<OffsetDateTime> {
        match self {
            Self::At(at) => Some(at),
            Self::ClockUnsound | Self::Never => None,
        }
    }
}

fn resend(profile: &Profile, policy: &RetryPolicy, history: &History, now: Now, doubt: &Doubt) -> Resend {
    if history.cancel_requested || doubt.refusal.is_some() || profile.key_enforcement == KeyEnforcement::Never {
        return Resend::Never;
    }
    let step = doubt.sent.checked_sub(1).and_then(|step| usize::try_from(step).ok());
    let Some(wait) = step.and_then(|step| policy.ladder.get(step)) else { return Resend::Never };
    let Some(first) = history.first_claimed_at() else { return Resend::Never };
    let ready = doubt.last_ended_at.saturating_add(*wait).max(after_unsent(policy, history));
    // The bytes leave at the latest when the grace is over.
    let leaves_at = ready.max(now.at).saturating_add(policy.send_grace);
    if !profile.key_still_enforced(first, leaves_at) || history.valid_until.is_some_and(|until| leaves_at >= until) {
        return Resend::Never;
    }
    if now.is_trusted && history.last_moment().is_none_or(|last| last <= now.at) {
        Resend::At(ready)
    } else {
        Resend::ClockUnsound
    }
}

/// What was proven not to have left us since the last attempt that may have arrived has a wait of
/// its own, and makes an older "none" too old to send on.
fn after_unsent(policy: &RetryPolicy, history: &History) -> OffsetDateTime {
    let unsent = || history.attempts.iter().rev().take_while(|attempt| !attempt.may_have_arrived());
    let Some(last) = unsent().filter_map(|attempt| attempt.end.as_ref().map(|(_, at)| *at)).max() else {
        return OffsetDateTime::UNIX_EPOCH;
    };
    let tries = u32::try_from(unsent().count()).unwrap_or(u32::MAX);
    last.saturating_add(doubled(policy.unsent_delay_first, policy.unsent_delay_max, tries.saturating_sub(1)))
}

/// When the next lookup is due; none when it is due now. The first one after an attempt is, and the
/// first one of this process.
fn next_question(
    policy: &RetryPolicy,
    history: &History,
    now: Now,
    jitter: Jitter,
    doubt: &Doubt,
) -> Option<OffsetDateTime> {
    let counts_from = doubt.last_ended_at.max(policy.reviewed_since);
    let last = history.asked.last_began_at.filter(|at| *at >= counts_from)?;
    let wait = doubled(policy.lookup_delay_first, policy.lookup_delay_max, history.asked.count.saturating_sub(1));
    due(last, wait, now, jitter)
}

/// The end of a wait with its jitter; none when the shortest wait is over already.
fn due(since: OffsetDateTime, wait: Duration, now: Now, jitter: Jitter) -> Option<OffsetDateTime> {
    let shortest = since.saturating_add(wait);
    if now.at >= shortest {
        return None;
    }
    let extra = wait.whole_milliseconds().max(0).saturating_mul(i128::from(jitter.0.min(1000))) / 4000;
    Some(shortest.saturating_add(Duration::milliseconds(i64::try_from(extra).unwrap_or(i64::MAX / 2))))
}

fn doubled(first: Duration, max: Duration, times: u32) -> Duration {
    let factor = 1_i32.checked_shl(times.min(20)).unwrap_or(1 << 20);
    first.checked_mul(factor).unwrap_or(max).min(max)
}

#[cfg(test)]
mod tests;
