//! The ticker of a share as the exchange writes it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A ticker such as `AAPL` or `BRK.B`: upper-case letters, digits, `.`, `-` and `/`, at most 16.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(String);

/// The text is not a ticker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("symbol must be 1 to 16 characters of A-Z, 0-9, '.', '-', '/'")]
pub struct SymbolError;

impl Symbol {
    /// Checks and wraps a ticker.
    ///
    /// # Errors
    /// [`SymbolError`] when it is empty, too long or has another character.
    pub fn new(text: impl Into<String>) -> Result<Self, SymbolError> {
        let text = text.into();
        let good = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'/');
        if text.is_empty() || text.len() > 16 || !text.bytes().all(good) {
            return Err(SymbolError);
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Symbol {
    type Error = SymbolError;
    fn try_from(text: String) -> Result<Self, SymbolError> {
        Self::new(text)
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> String {
        symbol.0
    }
}
