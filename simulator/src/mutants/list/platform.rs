//! What consumers of a log must not do.

use super::{Mutation, integration, unit};
use crate::mutants::mutation::Edit;

const PLATFORM: &str = "platform";
const APPLIED: &str = "platform/src/applied.rs";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "ignore a sequence gap",
        harm: "an event that the bus lost is never applied",
        edits: &[
            Edit {
                file: "platform/src/consumer/slice.rs",
                old: "    if event.seq != place.seq.saturating_add(1) {\n",
                new: "    if event.seq <= place.seq {\n",
            },
            // The second guard: after a gap the predecessor is another, too.
            Edit {
                file: "platform/src/consumer/slice.rs",
                old: "    if event.prev_id != place.event_id {\n",
                new: "    if event.prev_id != place.event_id && event.seq == place.seq.saturating_add(1) {\n",
            },
        ],
        catcher: unit(PLATFORM, "consumer::tracker::tests::a_hole_before_the_first_event_sends_to_the_feed"),
    },
    Mutation {
        name: "no conditional update of the applied position",
        harm: "two copies that hold the same slice both let it take effect",
        edits: &[
            Edit { file: APPLIED, old: " && *of == partition && **at == actual", new: " && *of == partition" },
            // The second guard: the row that is moved, or none.
            Edit {
                file: APPLIED,
                old: "        moved.iter().any(|row| ",
                new: "        moved.is_empty() || moved.iter().any(|row| ",
            },
        ],
        catcher: integration(PLATFORM, "consumer::two_consumers_on_one_partition_apply_each_event_once"),
    },
];
