//! Wrong receivers.

use super::{Mutation, integration, unit};
use crate::mutants::mutation::Edit;

const RECEIVER: &str = "fill-receiver";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "dedup by the cursor's id instead of the execution's",
        harm: "a fill that comes again at another place is booked twice",
        edits: &[Edit {
            file: "fill-receiver/src/domain/reading.rs",
            old: "    Ok(Identity::Execution { scope, kind, execution_id })\n",
            new: "    let _of_the_broker = execution_id;
    let execution_id = ExecutionId::new(wire.event_id.as_str()).map_err(|error| out_of_range(&error))?;
    Ok(Identity::Execution { scope, kind, execution_id })\n",
        }],
        catcher: unit(
            RECEIVER,
            "domain::reading::tests::a_repeat_under_another_position_with_other_bytes_has_the_same_identity_and_terms",
        ),
    },
    Mutation {
        name: "what came before a hole was noticed is stored",
        harm: "the cursor passes what the broker dropped: a fill is lost",
        edits: &[Edit {
            file: "fill-receiver/src/domain/intake.rs",
            old: "        if reason.is_hole() {\n",
            new: "        if reason.is_hole() && self.readings.is_empty() {\n",
        }],
        catcher: unit(RECEIVER, "domain::intake::tests::nothing_that_came_before_a_hole_was_noticed_is_stored"),
    },
    Mutation {
        name: "acknowledge before commit: a push",
        harm: "the broker does not send again what a crash takes along: a fill is lost",
        edits: &[Edit {
            file: "fill-receiver/src/application/push.rs",
            old: "        match tokio::time::timeout(Duration::from_millis(self.limits.deadline_ms), storing).await {\n",
            new: "        if !storing.is_finished() {
            return Ok(Taken::Stored { events: 1, new: 1, parked: 0 });
        }
        match tokio::time::timeout(Duration::from_millis(self.limits.deadline_ms), storing).await {\n",
        }],
        catcher: integration(RECEIVER, "push::a_push_is_acknowledged_only_after_its_commit"),
    },
    Mutation {
        name: "acknowledge before commit: the cursor",
        harm: "the stream is read on from behind what was not stored: a fill is lost",
        edits: &[Edit {
            file: "fill-receiver/src/adapters/db/receive.rs",
            old: "        let mut tx = conn.begin().await.map_err(sorted)?;
        if let Some(moved) = moved {
            self.move_cursor(&mut tx, moved, now).await?;
        }\n",
            new: "        if let Some(moved) = moved {
            self.move_cursor(&mut *conn, moved, now).await?;
        }
        let mut tx = conn.begin().await.map_err(sorted)?;\n",
        }],
        catcher: integration(RECEIVER, "copies::events_that_cannot_be_stored_move_no_cursor"),
    },
];
