//! A broker that fails in one way, under load: no process is touched, the broker's own mistakes are the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::exercise::{Exercise, tell_broker};
use super::load::{Load, LoadOptions};
use super::oracle::{FaultTally, faults};
use super::outcome::Outcome;
use super::persons::{self, Decisions};
use crate::broker::profile::Profile;
use crate::stack::{ProcessName, StackError};

/// Between two acts of the drill's own.
const BETWEEN: Duration = Duration::from_secs(2);
/// When the gateway is stopped, with attempts whose replies are lost, and for how long.
const FROZEN_FROM: Duration = Duration::from_secs(6);
const FROZEN_FOR: Duration = Duration::from_secs(17);
/// How often everything is taken back, or the streams are stopped.
const ACTS: u32 = 3;

/// What the drill does itself, beside the faults that the broker draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Watch,
    /// Takes back every execution of the last seconds, several times.
    BustAll,
    /// Stops the gateway in the middle of its ladder, until after the window of its first attempts' keys.
    FreezeGateway,
    /// Lets the streams stand still and drop what they did not tell, several times.
    StopStreams,
}

/// How the broker fails.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The drill's name.
    pub name: &'static str,
    /// What is shown, for people.
    pub what: &'static str,
    /// What the broker promises, and the gateway knows of it.
    pub profile: Profile,
    /// The deposit of each customer in US dollars.
    pub deposit: i64,
    /// How long a windowed broker knows a key, where it is not the stack's own length.
    pub key_window_ms: Option<u32>,
    /// Further variables of the gateway, without their prefix.
    pub gateway: &'static [(&'static str, &'static str)],
    /// Probabilities, by call.
    pub faults: &'static [(&'static str, &'static [(&'static str, &'static str)])],
    /// Rules by time: kind, call, from and until in milliseconds after the start of the load.
    pub spans: &'static [(&'static str, &'static str, u32, u32)],
    /// How long their faults last, where they take time.
    pub delay_ms: Option<u32>,
    /// What the drill does itself.
    pub act: Act,
}

/// Lost replies of orders, cancels and questions.
const LOST_REPLIES: &[(&str, &[(&str, &str)])] = &[
    (
        "submit",
        &[
            ("drop_reply", "0.12"),
            ("error_after_effect", "0.05"),
            ("half_body", "0.03"),
            ("drop_before_receipt", "0.05"),
        ],
    ),
    ("cancel", &[("drop_reply", "0.1")]),
    ("lookup", &[("drop_reply", "0.1")]),
];

/// Lost replies of orders and cancels, and events that no stream tells.
const BLIND: &[(&str, &[(&str, &str)])] = &[
    (
        "submit",
        &[
            ("drop_reply", "0.08"),
            ("error_after_effect", "0.03"),
            ("drop_before_receipt", "0.04"),
            ("identical_partials", "0.2"),
            ("reorder_events", "0.1"),
            ("lost_event", "0.1"),
        ],
    ),
    ("cancel", &[("drop_reply", "0.1")]),
    ("stream", &[("drop_message", "0.03"), ("stream_reset", "0.005")]),
];

const QUIET: Scenario = Scenario {
    name: "",
    what: "",
    profile: Profile::Full,
    deposit: 2_000_000,
    key_window_ms: None,
    gateway: &[],
    faults: &[],
    spans: &[],
    delay_ms: None,
    act: Act::Watch,
};

/// Every scenario.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "lost-replies",
        what: "one reply in four is lost; the broker refuses a used key for ever",
        faults: LOST_REPLIES,
        ..QUIET
    },
    Scenario {
        name: "lost-replies-windowed",
        what: "the same where a used key is a new order after a while",
        profile: Profile::Windowed,
        faults: LOST_REPLIES,
        ..QUIET
    },
    Scenario {
        name: "lost-replies-lookup",
        what: "the same where a used key is a new order, and orders are found by it",
        profile: Profile::LookupOnly,
        faults: LOST_REPLIES,
        ..QUIET
    },
    Scenario {
        name: "recorded-late",
        what: "orders are taken or arrive seconds after the connection broke, and until then nobody knows them",
        faults: &[
            ("submit", &[("record_late", "0.1"), ("arrive_late", "0.1"), ("drop_before_receipt", "0.05")]),
            ("lookup", &[("drop_reply", "0.05")]),
        ],
        ..QUIET
    },
    Scenario {
        name: "window-crossed",
        what: "orders stay unrecorded and the gateway stands still until used keys are new orders: no sending again",
        profile: Profile::Windowed,
        // As short as the gateway takes it: its ladder of 15 s, the longest flight and a second for the clocks.
        key_window_ms: Some(20_000),
        gateway: &[("PROFILE__LONGEST_FLIGHT_MS", "3000"), ("PROFILE__RECORD_LAG_MAX_MS", "35000")],
        act: Act::FreezeGateway,
        spans: &[("record_late", "submit", 2_000, 26_000)],
        delay_ms: Some(30_000),
        ..QUIET
    },
    Scenario {
        name: "disorder",
        what: "fills come twice, out of order, before the reply, after the cancel, late, busted, corrected, of strangers",
        faults: &[
            (
                "submit",
                &[
                    ("duplicate_fill", "0.2"),
                    ("fill_before_ack", "0.2"),
                    ("identical_partials", "0.15"),
                    ("reorder_events", "0.2"),
                    ("foreign_order", "0.1"),
                    ("backfill", "0.1"),
                    ("bust", "0.05"),
                    ("correct", "0.05"),
                    ("reject_late", "0.05"),
                ],
            ),
            ("cancel", &[("fill_after_cancel", "0.3"), ("cancel_refused", "0.25"), ("cancel_rejected_late", "0.2")]),
        ],
        ..QUIET
    },
    Scenario {
        name: "blind",
        what: "no keys, no execution ids, no replay: replies and events are lost, two persons settle what is in doubt",
        profile: Profile::Blind,
        faults: BLIND,
        ..QUIET
    },
    Scenario {
        name: "mass-bust",
        what: "every execution of the last seconds is taken back, again and again, and the proceeds are spent",
        deposit: 20_000,
        act: Act::BustAll,
        ..QUIET
    },
    Scenario {
        name: "slow-reader",
        what: "streams stand still, break off, and drop messages",
        faults: &[
            ("submit", &[("lost_event", "0.1")]),
            ("stream", &[("drop_message", "0.03"), ("stream_reset", "0.005")]),
        ],
        act: Act::StopStreams,
        ..QUIET
    },
];

impl Scenario {
    /// The one with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }

    /// Every kind of fault that must strike at least once.
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        let drawn = self.faults.iter().flat_map(|(_, kinds)| kinds.iter().map(|(kind, _)| *kind));
        drawn.chain(self.spans.iter().map(|(kind, ..)| *kind))
    }

    /// The broker's configuration with these faults, or with none of them.
    fn config(&self, on: bool) -> Value {
        let table = |kinds: &[(&str, &str)]| -> BTreeMap<String, String> {
            kinds.iter().map(|(kind, chance)| ((*kind).to_owned(), if on { *chance } else { "0" }.to_owned())).collect()
        };
        let mut config: serde_json::Map<String, Value> =
            self.faults.iter().map(|(call, kinds)| ((*call).to_owned(), json!(table(kinds)))).collect();
        config.insert("stream_stalled".to_owned(), json!(false));
        Value::Object(config)
    }
}

/// Lets customers trade at such a broker, heals it, and compares.
///
/// # Errors
/// When the broker cannot be told.
pub async fn run(
    exercise: &Exercise,
    scenario: &Scenario,
    load: LoadOptions,
    settle_limit: Duration,
) -> Result<Outcome, StackError> {
    exercise.configure_broker(&scenario.config(true)).await?;
    for (kind, call, from_ms, until_ms) in scenario.spans {
        let mut rule = json!({"fault": kind, "on": call, "from_ms": from_ms, "until_ms": until_ms});
        if let (Some(delay_ms), Some(rule)) = (scenario.delay_ms, rule.as_object_mut()) {
            rule.insert("delay_ms".to_owned(), delay_ms.into());
        }
        exercise.add_fault(&rule).await?;
    }
    let span = Duration::from_millis(scenario.spans.iter().map(|span| u64::from(span.3)).max().unwrap_or(0));
    let load = Load::start(&exercise.traders, load);
    let (acts, ()) = tokio::join!(act(exercise, scenario.act), sleep(span));
    let acts = acts?;
    load.stop().await;
    let posted = load.finish().await;
    exercise.say(&format!("{} orders posted; the broker makes no more mistakes", posted.len()));
    exercise.configure_broker(&scenario.config(false)).await?;
    let settling = exercise.settle(&posted, settle_limit);
    let (settled, decisions) = if scenario.profile == Profile::Blind {
        persons::beside(exercise, settling).await
    } else {
        (settling.await, Decisions::default())
    };
    let mut outcome = Outcome::settled(settled);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    if scenario.profile == Profile::Blind {
        outcome.note("settled_bound", decisions.bound);
        outcome.note("settled_absent", decisions.absent);
        outcome.require(decisions.bound > 0, "the persons bound no order to the broker's");
        outcome.require(decisions.absent > 0, "the persons found no order absent");
    }
    if scenario.act != Act::FreezeGateway {
        // A process that is frozen counts as any other intervention.
        outcome.strike(acts);
    }
    outcome.require(scenario.act == Act::Watch || acts > 0, "the drill itself changed nothing");
    let sim = &exercise.stack.addresses().sim;
    let struck: BTreeMap<String, FaultTally> = faults(exercise.stack.http(), sim).await.unwrap_or_default();
    for kind in scenario.kinds() {
        let hits = struck.get(kind).map_or(0, |tally| tally.hits);
        outcome.require(hits > 0, &format!("{kind} never struck"));
    }
    Ok(outcome)
}

/// Tells how often it struck.
async fn act(exercise: &Exercise, act: Act) -> Result<u64, StackError> {
    let mut struck = 0;
    if act == Act::Watch {
        return Ok(struck);
    }
    if act == Act::FreezeGateway {
        sleep(FROZEN_FROM).await;
        exercise.stack.signal(ProcessName::BrokerGateway, Signal::SIGSTOP).await?;
        exercise.say("the gateway stands still");
        sleep(FROZEN_FOR).await;
        exercise.stack.signal(ProcessName::BrokerGateway, Signal::SIGCONT).await?;
        return Ok(1);
    }
    for _ in 0..ACTS {
        sleep(BETWEEN).await;
        match act {
            Act::Watch | Act::FreezeGateway => {}
            Act::BustAll => {
                let body = json!({"since_ms_ago": 1_500});
                let told = tell_broker(&exercise.stack, reqwest::Method::POST, "/sim/v1/busts", &body).await?;
                let busted: Value = serde_json::from_str(&told).unwrap_or_default();
                let busted = busted.get("busted").map_or(0, |busted| {
                    busted.as_u64().unwrap_or_else(|| busted.as_array().map_or(0, |list| list.len() as u64))
                });
                exercise.say(&format!("{busted} executions were taken back"));
                struck += busted;
            }
            Act::StopStreams => {
                exercise.configure_broker(&json!({"stream_stalled": true})).await?;
                sleep(BETWEEN).await;
                let body = json!({"count": 5});
                tell_broker(&exercise.stack, reqwest::Method::POST, "/sim/v1/streams/drop", &body).await?;
                exercise.configure_broker(&json!({"stream_stalled": false})).await?;
                struck += 1;
            }
        }
    }
    Ok(struck)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::config::SimConfig;

    #[test]
    fn every_scenario_is_one_that_the_broker_understands_and_its_end_is_a_broker_without_faults() {
        for scenario in SCENARIOS {
            let on = SimConfig::new(1).merged(scenario.config(true)).unwrap();
            let off = on.merged(scenario.config(false)).unwrap();
            for (table, healed) in [(&on.submit, &off.submit), (&on.cancel, &off.cancel), (&on.stream, &off.stream)] {
                assert!(table.values().all(|chance| chance.millionths() > 0), "{}", scenario.name);
                assert!(healed.values().all(|chance| chance.millionths() == 0), "{}", scenario.name);
            }
            assert!(scenario.kinds().next().is_some() || scenario.act != Act::Watch, "{}", scenario.name);
        }
    }
}
