//! The benchmark, in its smallest form, with the real services.

use crate::stack_support::Checkout;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// `scripts/test.sh` builds the services and runs it.
#[test]
#[ignore = "needs the programs of all services: cargo build --workspace --bins"]
fn the_benchmark_measures_a_ratio_and_finds_every_order_at_the_broker() {
    let load = Path::new(env!("CARGO_BIN_EXE_load"));
    assert!(load.with_file_name("order-server").exists(), "build the services first");
    let checkout = Checkout::new();
    let mut command = Command::new(load);
    command.args(["bench", "--seconds", "1", "--connections", "4", "--rounds", "1", "--accounts", "20", "--checkout"]);
    for name in ["REDIS_URL", "TEST_DATABASE_URL", "ORDER_CORE_DATABASE_URL", "BROKER_GATEWAY_DATABASE_URL"] {
        command.env_remove(name);
    }
    let output = command.arg(&checkout.root).env_remove("FILL_RECEIVER_DATABASE_URL").stdin(Stdio::null()).output();
    let output = output.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let compared = said.lines().find_map(|line| line.split_once("compared: ")).unwrap().1;
    assert!(compared.ends_with(" 0 lost, 0 duplicated, 0 violations"), "{compared}");
    let orders: u64 = compared.split(' ').next().unwrap().parse().unwrap();
    assert!(orders > 0 && compared.contains(&format!("{orders} orders, {orders} filled")), "{compared}");

    let summary: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let figure = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("no {name} in {summary}"));
    assert!(figure("accept_p50_ms") > 0.0 && figure("accept_p99_ms") >= figure("accept_p50_ms"), "{summary}");
    assert_eq!(summary["rounds"], 1);
    for (ratio, per_s) in [("accepted_ratio", "accepted_per_s"), ("filled_ratio", "filled_per_s")] {
        // Both are rounded, each on its own.
        let expected = figure(per_s) / figure("pgbench_per_s");
        assert!((figure(ratio) - expected).abs() < 0.02, "{ratio} in {summary}");
        assert!(figure(per_s) > 0.0, "{summary}");
    }
}
