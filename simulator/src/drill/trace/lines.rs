//! What the logs of a run say of its orders, and what they must never say.

use serde_json::Value;

/// The end of a call to the broker that leaves no doubt.
const CALL_ENDED: &str = "call to the broker ended";
/// The end of a call that does.
const CALL_UNKNOWN: &str = "outcome of a call to the broker is not known";
/// A line that every filled order has: of which process, its words (any of them), the fields that it must carry.
type Wanted = (&'static str, &'static [&'static str], &'static [&'static str]);

const WANTED: [Wanted; 5] = [
    ("order-server", &["order accepted"], &["client_order_id", "account_id"]),
    ("broker-gateway", &[CALL_ENDED, CALL_UNKNOWN], &["account_id", "attempt", "call", "outcome", "took_us"]),
    ("broker-gateway", &[CALL_ENDED], &["account_id", "broker_order_id", "call", "outcome"]),
    ("fill-receiver", &["broker event logged"], &["broker_order_id", "event_id"]),
    ("order-server", &["event applied"], &["client_order_id", "account_id", "broker_order_id", "event_id", "status"]),
];
/// Processes that know whose an order is whenever they speak of it.
const KNOW_ACCOUNTS: [&str; 2] = ["order-server", "broker-gateway"];

/// What the log of one process lacks about an order; empty when nothing does.
#[must_use]
pub fn faults(process: &str, log: &str, order: &str) -> Vec<String> {
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let of_order: Vec<&Value> = lines.iter().filter(|line| field(line, "order_id") == Some(order)).collect();
    // The broker's stream may end a doubt before any other call does, and then none names the broker's id.
    let doubted = of_order.iter().any(|line| field(line, "message") == Some(CALL_UNKNOWN));
    let needed = |wanted: &Wanted| wanted.0 == process && !(doubted && wanted.1 == [CALL_ENDED]);
    let mut faults = Vec::new();
    for (_, words, fields) in WANTED.into_iter().filter(needed) {
        let has_all = |line: &Value| fields.iter().all(|name| line.get(name).is_some_and(|value| !value.is_null()));
        if !of_order
            .iter()
            .any(|line| field(line, "message").is_some_and(|said| words.contains(&said)) && has_all(line))
        {
            faults.push(format!("{process} has no line {words:?} of order {order} with {fields:?}"));
        }
    }
    if KNOW_ACCOUNTS.contains(&process) {
        let without = of_order.iter().filter(|line| field(line, "account_id").is_none());
        faults.extend(without.map(|line| format!("{process}: a line of an order without its account: {line}")));
    }
    faults
}

fn field<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    line.get(name).and_then(Value::as_str)
}

/// The lines that hold a secret, by the secret's name and without the secret.
#[must_use]
pub fn leaks(process: &str, log: &str, secrets: &[(String, String)]) -> Vec<String> {
    let held = secrets.iter().filter(|(_, secret)| !secret.is_empty());
    held.flat_map(|(name, secret)| {
        let lines = log.lines().enumerate().filter(move |(_, line)| line.contains(secret.as_str()));
        lines.map(move |(at, _)| format!("line {} of {process}'s log holds {name}", at + 1))
    })
    .collect()
}

/// Families of a page of metrics that lack a help text or a type.
#[must_use]
pub fn unexplained(process: &str, page: &str) -> Vec<String> {
    let about = |word: &str| {
        let start = format!("# {word} ");
        let lines = page.lines().filter_map(move |line| line.strip_prefix(&*start).map(str::to_owned));
        lines.filter_map(|rest| rest.split_once(' ').map(|(name, _)| name.to_owned())).collect::<Vec<_>>()
    };
    let (helps, types) = (about("HELP"), about("TYPE"));
    let mut faults = Vec::new();
    let samples = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for name in samples.filter_map(|line| line.split(['{', ' ']).next()) {
        let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let is_known = |list: &[String]| list.iter().any(|known| known == name || Some(known.as_str()) == stem);
        if !is_known(&helps) || !is_known(&types) {
            faults.push(format!("{process} shows {name} without HELP or TYPE"));
        }
    }
    faults.dedup();
    if types.is_empty() {
        faults.push(format!("{process} shows no metrics"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_its_fields_is_told() {
        let line = |fields: &str| format!("{{\"message\":\"order accepted\",\"order_id\":\"o\"{fields}}}\n");
        let event = "{\"message\":\"event applied\",\"order_id\":\"o\",\"client_order_id\":\"c\",\"account_id\":\"a\",\
            \"broker_order_id\":\"b\",\"event_id\":\"e\",\"status\":\"filled\"}\n";
        let good = line(",\"client_order_id\":\"c\",\"account_id\":\"a\"");
        assert_eq!(faults("order-server", &format!("{good}{event}no json\n"), "o"), Vec::<String>::new());
        assert_eq!(faults("order-server", &good, "o").len(), 1);
        assert_eq!(faults("order-server", event, "o").len(), 1);
        assert_eq!(faults("order-server", &format!("{good}{event}"), "other").len(), 2);
        let poor = line(",\"client_order_id\":\"c\"");
        assert_eq!(faults("order-server", &format!("{good}{event}{poor}"), "o").len(), 1);
    }

    #[test]
    fn a_secret_is_told_by_name_and_not_repeated() {
        let secrets = [("the token".to_owned(), "hush".to_owned()), ("nothing".to_owned(), String::new())];
        assert_eq!(leaks("p", "a\nb hush\n", &secrets), ["line 2 of p's log holds the token"]);
        assert!(leaks("p", "a\nb\n", &secrets).is_empty());
    }

    #[test]
    fn a_family_without_help_or_type_is_told() {
        let page = "# HELP a_seconds A.\n# TYPE a_seconds histogram\na_seconds_bucket{le=\"1\"} 1\na_seconds_sum 1\n";
        assert!(unexplained("p", page).is_empty());
        for line in ["# HELP a_seconds A.\n", "# TYPE a_seconds histogram\n"] {
            assert!(!unexplained("p", &page.replace(line, "")).is_empty(), "{line}");
        }
        assert_eq!(unexplained("p", &format!("{page}b_total 1\n")).len(), 1);
        assert_eq!(unexplained("p", "").len(), 1);
    }
}
