//! Which errors of the database are final for the values, and which are to be waited out.

use crate::application::ports::StoreError;
use platform::eventlog::EventLogError;

/// Sorts an error: classes 22 (data) and 23 (integrity), and values that cannot be encoded, are
/// refused for ever; everything else says nothing about the values.
pub(super) fn sorted(error: sqlx::Error) -> StoreError {
    let refused = match &error {
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
        }
        sqlx::Error::Encode(_) => true,
        _ => false,
    };
    if refused { StoreError::Refused(Box::new(error)) } else { StoreError::Unavailable(Box::new(error)) }
}

pub(super) fn sorted_log(error: EventLogError) -> StoreError {
    match error {
        EventLogError::Append(error) => sorted(error),
        EventLogError::Encode(_) | EventLogError::TooLarge { .. } => StoreError::Refused(Box::new(error)),
        EventLogError::Incomplete { .. } | EventLogError::Read(_) | EventLogError::Corrupt(_) => {
            StoreError::Unavailable(Box::new(error))
        }
    }
}
