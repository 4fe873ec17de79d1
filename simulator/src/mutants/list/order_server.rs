//! Wrong order servers.

use super::{Mutation, integration, unit};
use crate::mutants::mutation::Edit;

const ORDER_CORE: &str = "order-core";
const MODELS: &str = "models";
const TRANSACTION: &str = "order-core/src/adapters/db/transaction.rs";
const BATCH: &str = "order-core/src/application/batch.rs";
const REPLY: &str = "order-core/src/domain/reply.rs";

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "fills count only in working states",
        harm: "a fill before the acknowledgement, in doubt or after the end is lost",
        edits: &[
            Edit {
                file: REPLY,
                old: "    order.facts.raise_submit(Submit::Live);
    order.broker.get_or_insert_with(|| event.broker.clone());\n",
                new: "    use super::status::Status;
    let works = matches!(order.status(), Status::Working | Status::PartiallyFilled | Status::PendingCancel);
    order.facts.raise_submit(Submit::Live);
    order.broker.get_or_insert_with(|| event.broker.clone());\n",
            },
            Edit {
                file: REPLY,
                old: "    settle_executions(account, order, ledger, &charges, cause, lines)?;\n",
                new: "    if works {
        settle_executions(account, order, ledger, &charges, cause, lines)?;
    }\n",
            },
        ],
        catcher: unit(ORDER_CORE, "domain::interleaving::a_fill_counts_in_every_status_that_an_order_can_be_filled_in"),
    },
    Mutation {
        name: "hold not recomputed after a fill",
        harm: "money stays held for shares that are bought already",
        edits: &[Edit {
            file: REPLY,
            old: "    settle_executions(account, order, ledger, &charges, cause, lines)?;
    settle_hold(account, order, &charges, cause, lines)?;\n",
            new: "    settle_executions(account, order, ledger, &charges, cause, lines)?;\n",
        }],
        catcher: unit(ORDER_CORE, "domain::interleaving::a_cancel_at_any_moment_keeps_every_invariant"),
    },
    Mutation {
        name: "the broker's end counts before its fills are here",
        harm: "an order is called canceled, its hold given back, and then it is filled",
        edits: &[Edit {
            file: "order-core/src/domain/status.rs",
            old: "            && executed >= count\n",
            new: "            && count <= quantity\n",
        }],
        catcher: unit(
            ORDER_CORE,
            "domain::status::tests::a_broker_end_waits_until_the_ledger_reaches_the_brokers_count",
        ),
    },
    Mutation {
        name: "publish before commit",
        harm: "others act on an event that a rollback takes back",
        edits: &[Edit {
            file: TRANSACTION,
            old: "        self.tx.commit().await.map_err(|e| StoreError::CommitUnknown { source: Box::new(e) })?;
        tell(self.publisher.as_ref(), self.hub.as_ref(), envelopes, plans);\n",
            new: "        tell(self.publisher.as_ref(), self.hub.as_ref(), envelopes, plans);
        self.tx.commit().await.map_err(|e| StoreError::CommitUnknown { source: Box::new(e) })?;\n",
        }],
        catcher: integration(ORDER_CORE, "publishing::an_event_whose_commit_failed_is_never_on_the_bus"),
    },
    Mutation {
        name: "an account in doubt keeps its version",
        harm: "a delayed statement commits an order after its customer was refused",
        edits: &[Edit {
            file: BATCH,
            old: "            in_doubt.filter_map(|id| Some((id, snapshot.accounts.get(&id)?.clone()))).collect();\n",
            new: "            in_doubt.filter_map(|id| Some((id, snapshot.accounts.get(&id)?.clone()))).take(0).collect();\n",
        }],
        catcher: integration(
            ORDER_CORE,
            "commands::a_statement_that_arrives_after_its_order_was_refused_writes_nothing",
        ),
    },
    Mutation {
        name: "a lost connection means that a batch was not committed",
        harm: "an order is answered as not taken, and is traded",
        edits: &[Edit {
            file: "order-core/src/adapters/db/at_once.rs",
            old: "    StoreError::CommitUnknown { source: Box::new(error) }\n}\n",
            new: "    failed(\"write and commit a batch\")(error)\n}\n",
        }],
        catcher: unit(
            ORDER_CORE,
            "adapters::db::at_once::tests::an_error_that_does_not_come_from_the_server_leaves_the_commit_unknown",
        ),
    },
    Mutation {
        name: "an execution that is logged again counts again",
        harm: "a fill is booked twice",
        edits: &[Edit {
            file: "order-core/src/application/books.rs",
            old: ".filter(|new| is_new(&order, new, &ledger))",
            new: ".filter(|new| is_new(&order, new, &[]))",
        }],
        catcher: integration(ORDER_CORE, "facts::an_execution_that_is_logged_again_under_another_event_counts_once"),
    },
    Mutation {
        name: "no version check",
        harm: "a holder whose lease ran out spends what another has spent",
        edits: &[Edit {
            // The build of `make lock-proof`: neither lock nor write look at the version.
            file: "order-core/build.rs",
            old: "fn main() {\n",
            new: "fn main() {\n    println!(\"cargo:rustc-cfg=oor_without_version_check\");\n",
        }],
        catcher: integration(
            ORDER_CORE,
            "lock::a_holder_paused_beyond_its_lease_spends_nothing_that_another_spent_meanwhile",
        ),
    },
    Mutation {
        name: "unlock before commit",
        harm: "nothing yet, since the version guards: the lock then saves no work, and is no second guard",
        edits: &[Edit {
            file: BATCH,
            old: "            self.together(together, now, &mut rest).await;
        }
        (rest, held)\n",
            new: "            self.let_go(held).await;
            self.together(together, now, &mut rest).await;
        }
        (rest, Vec::new())\n",
        }],
        catcher: integration(MODELS, "contest::the_account_lock_is_given_back_only_after_the_commit"),
    },
    Mutation {
        name: "answer before the commit is confirmed",
        harm: "a customer is told of an order that a lost commit took along",
        edits: &[Edit {
            file: BATCH,
            old: "                rest.add_alone(undecided(decided).map(|mut item| {
                    item.maybe_committed |= written.contains(&item.command.account_id());
                    item
                }));\n",
            new: "                let _no_longer_needed = written;
                settle(decided, &BTreeSet::new(), rest);\n",
        }],
        catcher: integration(MODELS, "contest::the_version_guards_whatever_becomes_of_the_lock"),
    },
];
