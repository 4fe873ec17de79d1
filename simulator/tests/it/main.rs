//! Integration tests of the simulator and the local stack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these are tests, where a failed assumption is a failed test; clippy does not see that of their helpers"
)]

mod bench_tiny;
mod broker_config;
mod broker_push;
mod broker_requests;
mod broker_restart;
mod broker_several;
mod broker_stream;
mod broker_support;
mod broker_trading;
mod metrics;
mod one_drill;
mod stack_servers;
mod stack_supervisor;
mod stack_support;
mod stack_up;
mod trace_check;
