//! The word under which a request is stored. Derived from its standing and the decision taken on
//! it; never a source of truth of its own, except that `manual` and the ends stay until new
//! evidence comes.

use std::str::FromStr;
use thiserror::Error;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing has left us.
    Queued,
    /// An attempt is under way.
    Sending,
    /// It may be at the broker.
    Doubt,
    /// The broker has it.
    Live,
    /// The broker had it, and says that it is at its end.
    Closed,
    /// The broker refused it.
    Refused,
    /// It never took effect.
    NotSent,
    /// A person or a fill must settle it.
    Manual,
    /// Two persons settled it: the broker never had it.
    Absent,
}

/// A word that is none of the states.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown request state {0:?}")]
pub struct UnknownState(pub String);

impl State {
    /// The word in the database, in answers and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Sending => "sending",
            Self::Doubt => "doubt",
            Self::Live => "live",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::NotSent => "not_sent",
            Self::Manual => "manual",
            Self::Absent => "absent",
        }
    }

    /// Whether we have said that the order is not at the broker. Evidence of life against it is an
    /// alarm.
    #[must_use]
    pub const fn is_end_without_life(self) -> bool {
        matches!(self, Self::Refused | Self::NotSent | Self::Absent)
    }

    /// Whether the broker is known to have, or to have had, the order.
    #[must_use]
    pub const fn is_alive(self) -> bool {
        matches!(self, Self::Live | Self::Closed)
    }
}

impl FromStr for State {
    type Err = UnknownState;
    fn from_str(word: &str) -> Result<Self, UnknownState> {
        match word {
            "queued" => Ok(Self::Queued),
            "sending" => Ok(Self::Sending),
            "doubt" => Ok(Self::Doubt),
            "live" => Ok(Self::Live),
            "closed" => Ok(Self::Closed),
            "refused" => Ok(Self::Refused),
            "not_sent" => Ok(Self::NotSent),
            "manual" => Ok(Self::Manual),
            "absent" => Ok(Self::Absent),
            other => Err(UnknownState(other.to_owned())),
        }
    }
}
