//! What is said of a metric: its name, type, labels, unit and meaning. Each process keeps one list of
//! its own; `docs/METRICS.md` shows them all, and tests hold the three together.

/// Unit of durations.
pub const SECONDS: &str = "seconds";
/// Unit of sizes.
pub const BYTES: &str = "bytes";
/// Unit of shares of a whole, from 0 to 1.
pub const RATIO: &str = "ratio";
/// Unit of a gauge that is 0 or 1.
pub const FLAG: &str = "flag";

/// Words of units that are not base units, and of rates, which are for the reader of counters to work out.
const OTHER_UNITS: [&str; 20] = [
    "ns",
    "us",
    "ms",
    "nanos",
    "micros",
    "millis",
    "nanoseconds",
    "microseconds",
    "milliseconds",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "kilobytes",
    "megabytes",
    "bits",
    "percent",
    "permille",
    "per",
];
/// Ends of names that the exposition format makes itself.
const RESERVED_ENDS: [&str; 5] = ["_count", "_sum", "_bucket", "_created", "_info"];
/// Labels that the exposition format or every process makes itself.
const RESERVED_LABELS: [&str; 3] = ["le", "quantile", "service"];

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// As it is now.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with the unit at the end.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// [`SECONDS`], [`BYTES`], [`RATIO`], [`FLAG`], or what is counted.
    pub unit: &'static str,
    /// Its labels, without those that every metric has.
    pub labels: &'static [&'static str],
    /// Its meaning: one sentence.
    pub help: &'static str,
}

const fn metric(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind, unit, labels, help }
}

/// A counter.
#[must_use]
pub const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    metric(Kind::Counter, name, unit, labels, help)
}

/// A gauge.
#[must_use]
pub const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    metric(Kind::Gauge, name, unit, labels, help)
}

/// A histogram.
#[must_use]
pub const fn histogram(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    metric(Kind::Histogram, name, unit, labels, help)
}

/// The metrics of one process, or of one part that several processes have.
#[derive(Debug)]
pub struct Group {
    /// Its heading in `docs/METRICS.md`.
    pub title: &'static str,
    /// The metrics.
    pub metrics: &'static [Metric],
}

impl Group {
    /// What breaks the rules of names; empty when nothing does.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.metrics.iter().flat_map(Metric::faults).collect()
    }
}

impl Metric {
    /// Registers what it means, and shows a counter without labels from the start: one that appears with its
    /// first increment has no increase that an alert could see.
    pub(super) fn announce(&self) {
        match self.kind {
            Kind::Counter => {
                metrics::describe_counter!(self.name, self.help);
                if self.labels.is_empty() {
                    metrics::counter!(self.name).increment(0);
                }
            }
            Kind::Gauge => metrics::describe_gauge!(self.name, self.help),
            Kind::Histogram => metrics::describe_histogram!(self.name, self.help),
        }
    }

    /// What breaks the rules of names.
    fn faults(&self) -> Vec<String> {
        let stem = self.name.strip_suffix("_total");
        let base = stem.unwrap_or(self.name);
        let mut faults = Vec::new();
        let mut require = |holds: bool, rule: &str| {
            if !holds {
                faults.push(format!("{}: {rule}", self.name));
            }
        };
        require(is_snake(self.name), "a name is lower case words with _ between them");
        require(stem.is_some() == (self.kind == Kind::Counter), "counters end in _total, and nothing else does");
        for unit in [SECONDS, BYTES, RATIO] {
            let ends = base.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'));
            require(ends == (self.unit == unit), "seconds, bytes and ratios stand at the end of the name");
        }
        require(!base.split('_').any(|word| OTHER_UNITS.contains(&word)), "only base units, and no rates");
        require(!RESERVED_ENDS.iter().any(|end| self.name.ends_with(end)), "that end is the format's own");
        require(is_snake(self.unit), "a unit is one word");
        require(self.unit != FLAG || self.kind == Kind::Gauge, "only a gauge is 0 or 1");
        let labels_ok = self.labels.iter().all(|label| is_snake(label) && !RESERVED_LABELS.contains(label));
        require(labels_ok, "labels are lower case words, and not the format's own");
        require(self.help.ends_with('.') && !self.help.contains(['\n', '|']), "help is a sentence in one line");
        faults
    }
}

fn is_snake(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split('_').all(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_of_names_finds_its_offender() {
        let good = [
            counter("calls_total", "calls", &["outcome"], "Calls."),
            counter("waited_seconds_total", SECONDS, &[], "Time."),
            gauge("lag_events", "events", &[], "Lag."),
            gauge("up", FLAG, &[], "1 while up."),
            histogram("call_duration_seconds", SECONDS, &[], "Time."),
        ];
        for metric in good {
            assert_eq!(metric.faults(), Vec::<String>::new());
        }
        let bad = [
            counter("calls", "calls", &[], "No total."),
            gauge("calls_total", "calls", &[], "A total."),
            gauge("age_milliseconds", SECONDS, &[], "Another unit."),
            gauge("age_ms", "ms", &[], "Another unit."),
            gauge("age", SECONDS, &[], "No unit."),
            gauge("age_seconds", "events", &[], "A wrong unit."),
            gauge("rate_calls_per_second", "calls", &[], "A rate."),
            gauge("used_percent", RATIO, &[], "Another unit."),
            counter("up_total", FLAG, &[], "Not 0 or 1."),
            histogram("calls_count", "calls", &[], "The format's own."),
            gauge("Lag_events", "events", &[], "Upper case."),
            gauge("lag__events", "events", &[], "An empty word."),
            gauge("lag_events", "events", &["le"], "The format's own label."),
            gauge("lag_events", "events", &[], "no sentence"),
            gauge("lag_events", "events", &[], ""),
        ];
        for metric in bad {
            assert!(!metric.faults().is_empty(), "{}: {}", metric.name, metric.help);
        }
    }
}
