//! A drill with the real services, small enough for every change.

use crate::stack_support::Checkout;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// `scripts/test.sh` builds the services and runs it.
#[test]
#[ignore = "needs the programs of all services: cargo build --workspace --bins"]
fn fills_that_come_twice_late_and_out_of_order_are_each_booked_once() {
    let drill = Path::new(env!("CARGO_BIN_EXE_drill"));
    assert!(drill.with_file_name("order-server").exists(), "build the services first");
    let checkout = Checkout::new();
    let mut command = Command::new(drill);
    // Enough for the rarest of its faults, which a third of the orders misses once in ten runs.
    command.args(["run", "disorder", "--orders", "1500", "--checkout"]).arg(&checkout.root).stdin(Stdio::null());
    for name in ["REDIS_URL", "TEST_DATABASE_URL", "ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL"] {
        command.env_remove(name);
    }
    let output = command.env_remove("FILL_RECEIVER_DATABASE_URL").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&line["violations"], &line["lost"], &line["duplicated"]), (&0.into(), &0.into(), &0.into()), "{line}");
    assert!(line["orders"].as_u64().unwrap() >= 1500 && line["broker_faults"]["duplicate_fill"].as_u64() > Some(0));
}
