//! Two persons who settle what no program may: for each manual order they look at the broker's own books, as a person
//! does by telephone, and both say the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::exercise::Exercise;
use super::oracle::broker_orders;
use crate::stack::describe_error;

const LOOK_PAUSE: Duration = Duration::from_secs(1);
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A manual order is looked at only after so long: what was under way to the broker has arrived by then, or never will.
const PATIENCE_S: i64 = 6;

#[derive(Deserialize)]
struct Unsettled {
    requests: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    age_s: i64,
    evidence_digest: String,
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    order_id: Uuid,
    state: String,
}

/// What the persons did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Orders that the broker has.
    pub bound: usize,
    /// Orders that it never had.
    pub absent: usize,
}

/// Lets the two persons work as long as something else takes.
pub async fn beside<T>(exercise: &Exercise, work: impl Future<Output = T>) -> (T, Decisions) {
    tokio::pin!(work);
    let mut decisions = Decisions::default();
    loop {
        tokio::select! {
            done = &mut work => return (done, decisions),
            () = sleep(LOOK_PAUSE) => {}
        }
        if let Err(error) = settle_all(exercise, &mut decisions).await {
            exercise.say(&format!("the persons will look again: {error}"));
        }
    }
}

async fn settle_all(exercise: &Exercise, decisions: &mut Decisions) -> Result<(), String> {
    let [first, second] = exercise.stack.persons();
    let url = format!("{}/ops/v1/manual", exercise.stack.addresses().gateway_ops);
    let request = exercise.stack.http().get(&url).bearer_auth(first).timeout(CALL_LIMIT);
    let answer = request.send().await.map_err(|error| describe_error(&error))?;
    let unsettled: Unsettled = answer.json().await.map_err(|error| describe_error(&error))?;
    let manual = |case: &Case| case.request.state == "manual" && case.age_s >= PATIENCE_S;
    let cases: Vec<Case> = unsettled.requests.into_iter().filter(manual).collect();
    if cases.is_empty() {
        return Ok(());
    }
    // Read after the list: what is absent here now was absent after everything under way had arrived.
    let broker = broker_orders(exercise.stack.http(), &exercise.stack.addresses().sim).await?;
    let known: BTreeMap<Uuid, Uuid> =
        broker.iter().filter(|order| !order.foreign).filter_map(|order| Some((order.our_id()?, order.id))).collect();
    for case in cases {
        let found = known.get(&case.request.order_id);
        let body = match found {
            Some(id) => json!({"evidence_digest": case.evidence_digest, "decision": "bound", "broker_order_id": id}),
            None => json!({"evidence_digest": case.evidence_digest, "decision": "absent"}),
        };
        let url = format!("{url}/{}/settlement", case.request.order_id);
        let mut settled = false;
        for token in [first, second] {
            let request = exercise.stack.http().post(&url).bearer_auth(token).json(&body).timeout(CALL_LIMIT);
            // New evidence, or an end by itself: the next look shows what is left of it.
            settled = request.send().await.map_err(|error| describe_error(&error))?.status().is_success();
        }
        match found {
            Some(_) if settled => decisions.bound += 1,
            None if settled => decisions.absent += 1,
            _ => {}
        }
    }
    Ok(())
}
