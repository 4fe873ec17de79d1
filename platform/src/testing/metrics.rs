//! Holds together what the sources record, what a process says of its metrics, what it shows, and
//! `docs/METRICS.md`.

use crate::telemetry::metric::{Group, Kind, Metric};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// All headings of `docs/METRICS.md` that have a table of metrics; each is of one crate's list.
const TITLES: [&str; 7] = [
    "Every process",
    "Event consumers and leases",
    "Account locks",
    "order-server",
    "broker-gateway",
    "fill-receiver",
    "broker-sim",
];

/// What differs between the metrics that a crate's sources record, its lists, and the document; and what
/// breaks the rules of names. Empty when nothing does.
///
/// # Panics
/// When the sources or the document cannot be read, or record nothing.
#[must_use]
pub fn metric_faults(crate_root: &Path, groups: &[&Group]) -> Vec<String> {
    let mut faults: Vec<String> = groups.iter().flat_map(|group| group.faults()).collect();
    let mut listed = BTreeMap::new();
    for metric in groups.iter().flat_map(|group| group.metrics) {
        if listed.insert(metric.name, metric).is_some() {
            faults.push(format!("{} is listed twice", metric.name));
        }
    }
    let sites = sites(&crate_root.join("src"), &mut faults);
    assert!(!sites.is_empty(), "no metric was found in the sources: this test would see nothing");
    for site in &sites {
        match listed.get(site.name.as_str()) {
            None => faults.push(format!("{}: {} is in no list", site.place.display(), site.name)),
            Some(metric) => {
                let labels: BTreeSet<&str> = metric.labels.iter().copied().collect();
                if metric.kind != site.kind || labels != site.labels.iter().map(String::as_str).collect() {
                    faults.push(format!(
                        "{}: {} is listed with another type or labels",
                        site.place.display(),
                        site.name
                    ));
                }
            }
        }
    }
    let recorded: BTreeSet<&str> = sites.iter().map(|site| site.name.as_str()).collect();
    faults.extend(listed.keys().filter(|name| !recorded.contains(*name)).map(|name| format!("nothing records {name}")));
    let path = crate_root.join("../docs/METRICS.md");
    compare_with_document(&fs::read_to_string(path).expect("read the document"), groups, &mut faults);
    faults
}

/// What a scraped page lacks by what a process says of its metrics: help, types, labels, and the counters that
/// are there from the start. Empty when nothing does.
#[must_use]
pub fn scrape_faults(page: &str, groups: &[&Group]) -> Vec<String> {
    let mut faults = Vec::new();
    let (mut helps, mut types, mut shown) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let metrics: Vec<&Metric> = groups.iter().flat_map(|group| group.metrics).collect();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            helps.insert(name, help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            types.insert(name, kind);
        } else {
            let (name, rest) = line.split_once(['{', ' ']).unwrap_or((line, ""));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                name.strip_suffix(end).filter(|stem| types.get(stem).copied() == Some(Kind::Histogram.as_str()))
            });
            let family = family.unwrap_or(name);
            shown.insert(family);
            let Some(metric) = metrics.iter().find(|metric| metric.name == family) else {
                faults.push(format!("{family} is shown and in no list"));
                continue;
            };
            let mut labels = sample_labels(rest);
            labels.retain(|label| !["service", "le"].contains(label));
            if labels != metric.labels.iter().copied().collect() {
                faults.push(format!("other labels than listed: {line}"));
            }
        }
    }
    for family in &shown {
        let Some(metric) = metrics.iter().find(|metric| metric.name == *family) else { continue };
        if helps.get(family).copied() != Some(metric.help) {
            faults.push(format!("{family} has no help, or another one"));
        }
        if types.get(family).copied() != Some(metric.kind.as_str()) {
            faults.push(format!("{family} has no type, or another one"));
        }
    }
    let starts = metrics.iter().filter(|metric| metric.kind == Kind::Counter && metric.labels.is_empty());
    faults
        .extend(starts.filter(|m| !shown.contains(m.name)).map(|m| format!("{} is not there from the start", m.name)));
    faults
}

/// Names of labels of a sample, whose line goes on after the name and the first brace.
fn sample_labels(rest: &str) -> BTreeSet<&str> {
    let mut labels = BTreeSet::new();
    let mut rest = rest;
    while let Some((label, after)) = rest.split_once("=\"") {
        labels.insert(label.trim_start_matches([',', ' ']));
        // Values of labels here never hold quotes.
        rest = after.split_once('"').map_or("", |(_, rest)| rest);
    }
    labels
}

fn compare_with_document(document: &str, groups: &[&Group], faults: &mut Vec<String>) {
    let mut tables: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    let mut title = "";
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            title = heading;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, kind, labels, unit, help, action, ""] = cells.as_slice()
            && let Some(name) = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        {
            if action.is_empty() {
                faults.push(format!("the document does not say what to do about {name}"));
            }
            tables.entry(title).or_default().insert(name.to_owned(), row(kind, labels, unit, help));
        }
    }
    faults.extend(
        tables
            .keys()
            .filter(|title| !TITLES.contains(title))
            .map(|title| format!("the table {title:?} is of no crate")),
    );
    for group in groups {
        if !TITLES.contains(&group.title) {
            faults.push(format!("{:?} is not a title of the document", group.title));
        }
        let mut table = tables.remove(group.title).unwrap_or_default();
        for metric in group.metrics {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
            let wanted = row(metric.kind.as_str(), &labels, metric.unit, metric.help);
            match table.remove(metric.name) {
                Some(found) if found == wanted => {}
                Some(found) => {
                    faults.push(format!("the document says of {}: {found}; the code: {wanted}", metric.name))
                }
                None => faults.push(format!("{} is not in the document under {:?}", metric.name, group.title)),
            }
        }
        faults.extend(table.keys().map(|name| format!("the document has {name}, the code has not")));
    }
}

fn row(kind: &str, labels: &str, unit: &str, help: &str) -> String {
    [kind, labels, unit, help].join(" | ")
}

/// A place where a metric is recorded.
struct Site {
    place: PathBuf,
    kind: Kind,
    name: String,
    labels: BTreeSet<String>,
}

fn sites(path: &Path, faults: &mut Vec<String>) -> Vec<Site> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).expect("read the sources").map(|entry| entry.expect("read the sources").path()) {
        let is_ours = entry.file_name().is_some_and(|name| name == "telemetry" || name == "testing");
        if entry.is_dir() && !is_ours {
            found.extend(sites(&entry, faults));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&entry).expect("read the sources");
            let production = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let lines = production.lines().filter(|line| !line.trim_start().starts_with("//"));
            let code = lines.collect::<Vec<_>>().join("\n");
            for kind in [Kind::Counter, Kind::Gauge, Kind::Histogram] {
                let start = format!("metrics::{}!(", kind.as_str());
                for call in code.split(&start).skip(1) {
                    match read_call(call) {
                        Some((name, labels)) => found.push(Site { place: entry.clone(), kind, name, labels }),
                        None => faults.push(format!("{}: a metric's name must be written out", entry.display())),
                    }
                }
            }
        }
    }
    found
}

/// Reads the name and the labels of a macro's call, which starts behind its bracket.
fn read_call(call: &str) -> Option<(String, BTreeSet<String>)> {
    let (name, rest) = call.trim_start().strip_prefix('"')?.split_once('"')?;
    let mut depth = 1_u32;
    let arguments: String = rest
        .chars()
        .take_while(|c| {
            depth = match c {
                '(' => depth + 1,
                ')' => depth - 1,
                _ => depth,
            };
            depth > 0
        })
        .collect();
    let parts: Vec<&str> = arguments.split("=>").collect();
    let before_arrows = parts.split_last().map(|(_, before)| before).unwrap_or_default();
    let label = |part: &&str| part.trim_end().strip_suffix('"')?.rsplit('"').next().map(str::to_owned);
    let labels: Option<BTreeSet<String>> = before_arrows.iter().map(label).collect();
    // Labels that are not written out are only known at run time.
    let is_plain = !arguments.trim_start().starts_with(", &") && !arguments.trim_start().starts_with(", labels");
    labels.filter(|_| is_plain).map(|labels| (name.to_owned(), labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metric::{SECONDS, counter, histogram};

    static GROUP: Group = Group {
        title: "order-server",
        metrics: &[
            counter("calls_total", "calls", &[], "Calls."),
            histogram("call_duration_seconds", SECONDS, &["call"], "Time of a call."),
        ],
    };
    const PAGE: &str = "\
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{service=\"s\"} 0

# HELP call_duration_seconds Time of a call.
# TYPE call_duration_seconds histogram
call_duration_seconds_bucket{service=\"s\",call=\"a\",le=\"+Inf\"} 1
call_duration_seconds_sum{service=\"s\",call=\"a\"} 0.1
call_duration_seconds_count{service=\"s\",call=\"a\"} 1
";
    const DOCUMENT: &str = "\
## order-server
| `calls_total` | counter | - | calls | Calls. | Nothing. |
| `call_duration_seconds` | histogram | `call` | seconds | Time of a call. | Look. |
";

    fn differences(document: &str) -> usize {
        let mut faults = Vec::new();
        compare_with_document(document, &[&GROUP], &mut faults);
        faults.len()
    }

    #[test]
    fn a_page_that_lacks_anything_is_found() {
        assert_eq!(scrape_faults(PAGE, &[&GROUP]), Vec::<String>::new());
        for (good, bad) in [
            ("# HELP calls_total Calls.\n", ""),
            ("# TYPE calls_total counter\n", ""),
            ("Time of a call.", "Something else."),
            ("calls_total{service=\"s\"} 0", ""),
            ("calls_total{service=\"s\"} 0", "calls_total{service=\"s\",other=\"o\"} 0"),
            ("calls_total{service=\"s\"} 0", "calls_total{service=\"s\"} 0\nunknown_total 0"),
            ("_sum{service=\"s\",call=\"a\"}", "_sum{service=\"s\"}"),
        ] {
            assert!(!scrape_faults(&PAGE.replace(good, bad), &[&GROUP]).is_empty(), "{good} -> {bad}");
        }
    }

    #[test]
    fn a_document_that_differs_in_either_direction_is_found() {
        assert_eq!(differences(DOCUMENT), 0);
        for (good, bad) in [
            ("| `calls_total` | counter | - | calls | Calls. | Nothing. |\n", ""),
            ("counter", "gauge"),
            ("`call` |", "- |"),
            ("| seconds |", "| bytes |"),
            ("Time of a call.", "Something else."),
            ("| Nothing. |", "| |"),
            ("## order-server", "## elsewhere"),
            ("Look. |", "Look. |\n| `other_total` | counter | - | calls | Calls. | Nothing. |"),
        ] {
            assert!(differences(&DOCUMENT.replace(good, bad)) > 0, "{good} -> {bad}");
        }
    }

    #[test]
    fn a_call_s_name_and_labels_are_read_as_they_are_written() {
        let read = |call| read_call(call).map(|(name, labels)| (name, labels.into_iter().collect::<Vec<_>>()));
        assert_eq!(read("\"a_total\").increment(1)"), Some(("a_total".to_owned(), vec![])));
        let call = "\n  \"a_total\", \"b\" => b(c), \"d\" => if e { \"f\" } else { \"g\" }\n).increment(h(\"i\" => 1))";
        assert_eq!(read(call), Some(("a_total".to_owned(), vec!["b".to_owned(), "d".to_owned()])));
        assert_eq!(read("name, \"b\" => 1)"), None);
        assert_eq!(read("\"a_total\", &labels)"), None);
    }
}
