//! An error with all its causes in one line: the log formatter writes only the first of them.

use std::error::Error;
use std::fmt;

/// Shows an error and what it came from, joined by colons.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(inner) = source {
            write!(f, ": {inner}")?;
            source = inner.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_told() {
        let cause = std::io::Error::other("connection refused");
        let error = sqlx::Error::Io(cause);
        assert_eq!(Chain(&error).to_string().matches("connection refused").count(), 2);
    }
}
