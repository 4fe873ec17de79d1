//! What is said of the chassis's metrics.

use platform::telemetry::shared::{CONSUMERS, EVERY_PROCESS, LOCKS};
use platform::testing::metric_faults;
use std::path::Path;

#[test]
fn every_metric_is_listed_named_by_the_rules_and_documented() {
    let faults = metric_faults(Path::new(env!("CARGO_MANIFEST_DIR")), &[&EVERY_PROCESS, &CONSUMERS, &LOCKS]);
    assert!(faults.is_empty(), "{faults:#?}");
}
