//! What is said of the order server's metrics.

use order_core::metrics::OWN;
use platform::testing::metric_faults;
use std::path::Path;

#[test]
fn every_metric_is_listed_named_by_the_rules_and_documented() {
    let faults = metric_faults(Path::new(env!("CARGO_MANIFEST_DIR")), &[&OWN]);
    assert!(faults.is_empty(), "{faults:#?}");
}
