//! An error with all its causes in one line, for logs.

pub use platform::telemetry::Chain;
