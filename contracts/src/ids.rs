//! Identifiers, one type each, so that ours and the broker's can never be mixed up.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;
use uuid::Uuid;

/// Why a text is not an id of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Nothing was given.
    #[error("{kind} is empty")]
    Empty {
        /// Which id.
        kind: &'static str,
    },
    /// Longer than the kind allows.
    #[error("{kind} is longer than {max} characters")]
    TooLong {
        /// Which id.
        kind: &'static str,
        /// Longest allowed, in characters.
        max: usize,
    },
    /// A character that the kind does not allow (control characters, NUL, non-ASCII).
    #[error("{kind} holds a character that is not allowed")]
    BadCharacter {
        /// Which id.
        kind: &'static str,
    },
    /// Not a UUID.
    #[error("{kind} is not a UUID")]
    NotAUuid {
        /// Which id.
        kind: &'static str,
    },
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Wraps a UUID.
            #[must_use]
            pub const fn new(id: Uuid) -> Self { Self(id) }
            /// The bare UUID, for storage.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid { self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text).map(Self).map_err(|_| IdError::NotAUuid { kind: stringify!($name) })
            }
        }
    };
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, max $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The longest text of this kind, in characters.
            pub const LEN_MAX: usize = $max;
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`IdError`] when it is empty, too long, or has a character outside printable ASCII.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                check_text(stringify!($name), &text, Self::LEN_MAX)?;
                Ok(Self(text))
            }
            /// The text, for storage and the wire.
            #[must_use]
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> { Self::new(text) }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> { Self::new(text) }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String { id.0 }
        }
    };
}

fn check_text(kind: &'static str, text: &str, max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { kind });
    }
    if text.len() > max {
        return Err(IdError::TooLong { kind, max });
    }
    if !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(IdError::BadCharacter { kind });
    }
    Ok(())
}

uuid_id! {
    /// A customer's account with us.
    AccountId
}
uuid_id! {
    /// One order of a customer, minted by us when the request enters and kept over every retry.
    OrderId
}
uuid_id! {
    /// One event in the log of one of our processes.
    EventId
}
text_id! {
    /// The client's own name for an order, unique per account.
    ClientOrderId, max 128
}
text_id! {
    /// The broker's name for an order. Never the same type as ours.
    BrokerOrderId, max 128
}
text_id! {
    /// The broker's name for one execution (or for a bust or correction of one).
    ExecutionId, max 128
}
text_id! {
    /// Which broker, by its name in our configuration.
    BrokerId, max 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_ids_refuse_empty_long_and_control_characters() {
        assert!(matches!(ClientOrderId::new(""), Err(IdError::Empty { .. })));
        assert!(matches!(ClientOrderId::new("x".repeat(129)), Err(IdError::TooLong { .. })));
        assert!(matches!(ClientOrderId::new("a\u{0}b"), Err(IdError::BadCharacter { .. })));
        assert!(matches!(ClientOrderId::new("주문"), Err(IdError::BadCharacter { .. })));
        assert_eq!(ClientOrderId::new("x".repeat(128)).unwrap().as_str().len(), 128);
    }

    #[test]
    fn deserializing_checks_like_the_constructor() {
        assert!(serde_json::from_str::<ClientOrderId>("\"\"").is_err());
        assert!(serde_json::from_str::<ClientOrderId>("\"ok\"").is_ok());
        assert!(serde_json::from_str::<OrderId>("\"nope\"").is_err());
    }
}
