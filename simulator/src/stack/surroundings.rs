//! What a stack is set up against: a broker of another kind, or a faster clock. Both are variables of
//! several processes that must fit together.

use std::collections::BTreeMap;

use contracts::calendar::Pace;

use super::name::ProcessName;
use crate::broker::profile::Profile;

/// How long a windowed broker enforces a key, in milliseconds: longer than the gateway's ladder, 15 of a
/// stack's minutes, and its longest flight.
const KEY_WINDOW_MS: u64 = 60_000;

/// Further variables of single processes.
pub type Variables = BTreeMap<ProcessName, Vec<(String, String)>>;

/// The simulated broker makes these promises, and gateway and receiver know it.
#[must_use]
pub fn with_profile(mut variables: Variables, profile: Profile) -> Variables {
    let (word, enforcement) = match profile {
        Profile::Full => ("full", "always"),
        Profile::Windowed => ("windowed", "window"),
        Profile::LookupOnly => ("lookup_only", "never"),
        Profile::Blind => ("blind", "never"),
    };
    let knows_keys = profile != Profile::Blind;
    add(&mut variables, ProcessName::BrokerSim, "BROKER_SIM__PROFILE", word);
    add(&mut variables, ProcessName::BrokerSim, "BROKER_SIM__KEY_WINDOW_MS", &KEY_WINDOW_MS.to_string());
    let window_ms = if profile == Profile::Windowed { KEY_WINDOW_MS } else { 0 };
    for (name, value) in [
        ("KEY_ACCEPTED", knows_keys.to_string()),
        ("KEY_LOOKED_UP", knows_keys.to_string()),
        ("KEY_ENFORCEMENT", enforcement.to_owned()),
        ("KEY_WINDOW_MS", window_ms.to_string()),
        ("HONOURS_VALID_UNTIL", knows_keys.to_string()),
    ] {
        add(&mut variables, ProcessName::BrokerGateway, &format!("BROKER_GATEWAY__PROFILE__{name}"), &value);
    }
    if profile == Profile::Blind {
        // Without replay there is nothing to audit; the orders themselves are asked for instead.
        for (name, value) in
            [("BROKER__EXECUTIONS", "cumulative"), ("POLL__INTERVAL_MS", "2000"), ("AUDIT__INTERVAL_MS", "0")]
        {
            add(&mut variables, ProcessName::FillReceiver, &format!("FILL_RECEIVER__{name}"), value);
        }
    }
    variables
}

/// The exchange's clock, and the minutes of the gateway's ladder, go at this pace.
#[must_use]
pub fn with_pace(mut variables: Variables, pace: Pace) -> Variables {
    let text = pace.to_string();
    add(&mut variables, ProcessName::BrokerSim, "BROKER_SIM__PACE", &text);
    add(&mut variables, ProcessName::OrderServer, "ORDER_SERVER__MARKET__PACE", &text);
    let minute_ms = pace.minute_ms().to_string();
    add(&mut variables, ProcessName::BrokerGateway, "BROKER_GATEWAY__RETRY__MINUTE_MS", &minute_ms);
    variables
}

fn add(variables: &mut Variables, process: ProcessName, name: &str, value: &str) {
    variables.entry(process).or_default().push((name.to_owned(), value.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    fn value<'a>(variables: &'a Variables, process: ProcessName, name: &str) -> Option<&'a str> {
        let of_process = variables.get(&process)?;
        of_process.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn broker_gateway_and_receiver_are_told_the_same_profile() {
        for profile in Profile::value_variants() {
            let variables = with_profile(Variables::new(), *profile);
            let word = value(&variables, ProcessName::BrokerSim, "BROKER_SIM__PROFILE").unwrap();
            assert_eq!(Profile::from_str(word, false).unwrap(), *profile);
            let gateway = |name: &str| {
                value(&variables, ProcessName::BrokerGateway, &format!("BROKER_GATEWAY__PROFILE__{name}")).unwrap()
            };
            let config = crate::broker::config::SimConfig::new(1).with_profile(*profile);
            assert_eq!(gateway("KEY_ACCEPTED"), config.key_accepted.to_string());
            assert_eq!(gateway("KEY_LOOKED_UP"), config.key_looked_up.to_string());
            assert_eq!(gateway("HONOURS_VALID_UNTIL"), config.honours_valid_until.to_string());
            let enforcement = serde_json::to_value(config.key_enforcement).unwrap();
            assert_eq!(enforcement, gateway("KEY_ENFORCEMENT"));
            let window = value(&variables, ProcessName::BrokerSim, "BROKER_SIM__KEY_WINDOW_MS").unwrap();
            let executions = value(&variables, ProcessName::FillReceiver, "FILL_RECEIVER__BROKER__EXECUTIONS");
            assert_eq!(executions.is_none_or(|word| word != "cumulative"), config.execution_ids);
            let polls = value(&variables, ProcessName::FillReceiver, "FILL_RECEIVER__POLL__INTERVAL_MS").is_some();
            assert_eq!(polls, !config.replay);
            assert!(gateway("KEY_WINDOW_MS") == "0" || gateway("KEY_WINDOW_MS") == window);
        }
    }
}
