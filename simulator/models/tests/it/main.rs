//! Every check, with its bounds, and every design that a check must refute.

#![allow(clippy::print_stdout, clippy::expect_used, reason = "a check says what it reached, and fails loudly")]

mod contest;
mod race;
mod retry;
mod story;
mod takeover;
