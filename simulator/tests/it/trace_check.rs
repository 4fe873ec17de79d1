//! The check of traces, logs and metrics with the real services.

use crate::stack_support::Checkout;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// `scripts/test.sh` builds the services and runs it.
#[test]
#[ignore = "needs the programs of all services: cargo build --workspace --bins"]
fn every_order_has_one_trace_and_its_lines_no_log_has_a_secret_and_every_metric_is_explained() {
    let drill = Path::new(env!("CARGO_BIN_EXE_drill"));
    assert!(drill.with_file_name("order-server").exists(), "build the services first");
    let checkout = Checkout::new();
    let mut command = Command::new(drill);
    command.arg("trace").arg("--checkout").arg(&checkout.root).stdin(Stdio::null());
    for name in ["REDIS_URL", "TEST_DATABASE_URL", "ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL"] {
        command.env_remove(name);
    }
    let output = command.env_remove("FILL_RECEIVER_DATABASE_URL").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let outcome: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&outcome["ok"], &outcome["traces"]), (&true.into(), &3.into()), "{outcome}");
    assert_eq!(said.lines().filter(|line| line.starts_with("order.place ")).count(), 3, "{said}");
}
