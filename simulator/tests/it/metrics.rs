//! What is said of the simulated broker's metrics.

use platform::testing::metric_faults;
use simulator::broker::metrics::OWN;
use std::path::Path;

#[test]
fn every_metric_is_listed_named_by_the_rules_and_documented() {
    let faults = metric_faults(Path::new(env!("CARGO_MANIFEST_DIR")), &[&OWN]);
    assert!(faults.is_empty(), "{faults:#?}");
}
