//! Wrong gateways.

use super::{Catcher, Mutation, integration, unit};
use crate::mutants::mutation::Edit;

const GATEWAY: &str = "broker-gateway";
const RETRY: &str = "broker-gateway/src/domain/retry.rs";
const ATTEMPT: &str = "broker-gateway/src/domain/attempt.rs";
const CASE: &str = "broker-gateway/src/application/case.rs";

/// The guard behind the key: a further attempt sends the bytes of the first, or none.
const OTHER_BYTES_ARE_SENT: Edit = Edit {
    file: CASE,
    old: "if self.attempts.iter().any(|earlier| earlier.may_have_arrived() && earlier.bytes_hash != bytes_hash) {",
    new: "if false {",
};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "resend outside the idempotency window",
        harm: "the broker has forgotten the key: a second order",
        edits: &[Edit { file: RETRY, old: "if !profile.key_still_enforced(first, leaves_at) || ", new: "if " }],
        catcher: unit(GATEWAY, "domain::retry::tests::second_resend_is_refused_after_the_key_window"),
    },
    Mutation {
        name: "\"none\" means failed",
        harm: "an order that is recorded late is called gone, and lives",
        edits: &[Edit {
            file: RETRY,
            old: "    let final_after = profile.none_is_final_after(history.valid_until);\n",
            new: "    let final_after = history.asked.last_none_began_at.map(|at| at.saturating_sub(Duration::SECOND));\n",
        }],
        catcher: unit(
            GATEWAY,
            "domain::retry::tests::none_is_final_only_for_a_lookup_begun_after_expiry_skew_and_record_lag",
        ),
    },
    Mutation {
        // There is one broker, so nothing is rerouted. What a failover may take is what is proven not to have been
        // sent, which is also what may be withdrawn: here an order in doubt passes for that.
        name: "an order in doubt is let go, as for another broker",
        harm: "it lives at the broker, and the customer's next order doubles it",
        edits: &[Edit {
            file: RETRY,
            old: "    let final_after = profile.none_is_final_after(history.valid_until);\n",
            new: "    if history.cancel_requested {
        let (reason, evidence) = (NotSentReason::CancelRequested, AbsenceProof::NothingLeft);
        return Action::Finish(Finish::NotSent { reason, evidence });
    }
    let final_after = profile.none_is_final_after(history.valid_until);\n",
        }],
        catcher: unit(GATEWAY, "domain::retry::tests::a_cancel_request_stops_resends_but_not_lookups"),
    },
    Mutation {
        name: "a refusal of the second attempt is final",
        harm: "the first attempt lives, and the order is called refused",
        edits: &[Edit {
            file: "broker-gateway/src/domain/standing.rs",
            old: "if let Some(doubt) = doubt(history, refusal.clone()) {",
            new: "if let Some(doubt) = doubt(history, refusal.clone()).filter(|_| refusal.is_none()) {",
        }],
        catcher: unit(GATEWAY, "domain::standing::tests::a_refusal_after_an_unknown_attempt_is_not_final"),
    },
    Mutation {
        name: "unknown counts as not sent",
        harm: "a call that got no answer is made again: a second order",
        edits: &[Edit {
            file: ATTEMPT,
            old: "CreateOutcome::Unknown { .. } => Self::Unknown,",
            new: "CreateOutcome::Unknown { .. } => Self::NotSent,",
        }],
        catcher: unit(GATEWAY, "domain::attempt::tests::only_proof_that_nothing_left_counts_as_not_sent"),
    },
    Mutation {
        name: "send before the attempt is committed",
        harm: "after a crash nobody knows that something was sent",
        edits: &[Edit {
            file: "broker-gateway/src/application/lane.rs",
            old: "                planned = calls;
                changes
            })
            .await?;\n",
            new: "                planned = calls;
                changes
            })
            .await
            .unwrap_or(1);\n",
        }],
        catcher: unit(
            GATEWAY,
            "application::lane::tests::when_the_commit_of_the_attempt_is_unknown_nothing_is_written_and_nothing_is_told",
        ),
    },
    Mutation {
        name: "send with the intake before it is committed",
        harm: "what is rolled back was sent, and is sent again when it comes again",
        edits: &[Edit {
            file: "broker-gateway/src/adapters/intake.rs",
            old: "        let done = finish(tx, work, &deferred, now, &changes).await?;
        // Committed: what was claimed here is made here, and nowhere else.
        if let Some(lane) = lane {
            straight.start(&*lane, &inserted.claimed);
        }
",
            new: "        if let Some(lane) = lane {
            straight.start(&*lane, &inserted.claimed);
        }
        let done = finish(tx, work, &deferred, now, &changes).await?;
",
        }],
        catcher: integration(GATEWAY, "straight::what_is_not_committed_is_not_sent"),
    },
    Mutation {
        name: "a further attempt may send other bytes",
        harm: "another order goes out under the key of the first",
        edits: &[OTHER_BYTES_ARE_SENT],
        catcher: unit(GATEWAY, "application::case::tests::a_further_attempt_with_other_bytes_is_left_to_persons"),
    },
    Mutation {
        name: "a new key for each attempt",
        harm: "the broker cannot tell that it is the same order: two orders",
        edits: &[
            Edit {
                file: "broker-gateway/src/application/claim.rs",
                old: "CreateOrder { key: case.request().key(), ",
                new: "CreateOrder { key: fresh_key(case), ",
            },
            Edit {
                file: "broker-gateway/src/application/claim.rs",
                old: "fn plan_send<D: Dialect>",
                new: "fn fresh_key(case: &Case<'_>) -> BrokerKey {
    let tries = u128::try_from(case.request().attempts).unwrap_or_default();
    let order = case.request().order_id.as_uuid().as_u128().wrapping_add(tries << 64);
    BrokerKey::new(case.request().partition, OrderId::new(uuid::Uuid::from_u128(order)))
}

fn plan_send<D: Dialect>",
            },
            OTHER_BYTES_ARE_SENT,
        ],
        catcher: unit(GATEWAY, "application::lane::tests::every_attempt_goes_out_under_the_key_of_the_first"),
    },
    Mutation {
        name: "an attempt whose sender died counts as not sent",
        harm: "what the dead process had sent is sent again",
        edits: &[Edit {
            file: "broker-gateway/src/domain/history.rs",
            old: "attempt.end = Some((AttemptEnd::Unknown, now));",
            new: "attempt.end = Some((AttemptEnd::NotSent, now));",
        }],
        catcher: Catcher::Stories { seeds: 2000 },
    },
];
