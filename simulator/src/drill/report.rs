//! What a run of many drills ends with: a table, as Markdown and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use serde_json::Value;

/// What came of one drill with one seed.
#[derive(Clone, Debug)]
pub struct Run {
    /// The drill.
    pub drill: String,
    /// The seed.
    pub seed: u64,
    /// Whether it ended with success.
    pub passed: bool,
    /// Its line; null when it ended without one.
    pub line: Value,
}

/// One drill over all its seeds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The drill.
    pub drill: String,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// How many of them passed.
    pub passed: usize,
    /// Posted orders of all.
    pub orders: u64,
    /// Executions of all.
    pub fills: u64,
    /// Faults that really hit.
    pub faults: u64,
    /// Differences that were found.
    pub violations: u64,
    /// Orders that wait for persons.
    pub manual: u64,
    /// From the end of load and faults until all was at rest; none when no seed came to rest.
    pub recovery_ms_median: Option<u64>,
    /// The worst.
    pub recovery_ms_worst: Option<u64>,
    /// The longest time without an answer to any customer.
    pub unavailable_ms_median: Option<u64>,
    /// The worst.
    pub unavailable_ms_worst: Option<u64>,
}

/// One row a drill, in the order in which they were first run.
#[must_use]
pub fn rows(runs: &[Run]) -> Vec<Row> {
    let mut order: Vec<&str> = Vec::new();
    let mut grouped: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        if !order.contains(&run.drill.as_str()) {
            order.push(&run.drill);
        }
        grouped.entry(&run.drill).or_default().push(run);
    }
    order.into_iter().filter_map(|drill| Some(row(drill, grouped.get(drill)?))).collect()
}

fn row(drill: &str, runs: &[&Run]) -> Row {
    let sum = |name: &str| runs.iter().filter_map(|run| run.line.get(name)?.as_u64()).sum();
    let sorted = |name: &str| {
        let mut all: Vec<u64> = runs.iter().filter_map(|run| run.line.get(name)?.as_u64()).collect();
        all.sort_unstable();
        all
    };
    let (recovery, unavailable) = (sorted("recovery_ms"), sorted("unavailable_ms"));
    Row {
        drill: drill.to_owned(),
        seeds: runs.iter().map(|run| run.seed).collect(),
        passed: runs.iter().filter(|run| run.passed).count(),
        orders: sum("orders"),
        fills: sum("fills"),
        faults: sum("faults"),
        violations: sum("violations"),
        manual: sum("manual"),
        recovery_ms_median: recovery.get(recovery.len() / 2).copied(),
        recovery_ms_worst: recovery.last().copied(),
        unavailable_ms_median: unavailable.get(unavailable.len() / 2).copied(),
        unavailable_ms_worst: unavailable.last().copied(),
    }
}

/// The rows as a table of Markdown.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut text =
        "| drill | seeds | passed | orders | fills | faults hit | violations | manual | recovery ms, median | \
                    worst | unavailable ms, median | worst |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows {
        let ms = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let seeds: Vec<String> = row.seeds.iter().map(u64::to_string).collect();
        // Writing to a string does not fail.
        let _never = writeln!(
            text,
            "| {} | {} | {} of {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.drill,
            seeds.join(" "),
            row.passed,
            row.seeds.len(),
            row.orders,
            row.fills,
            row.faults,
            row.violations,
            row.manual,
            ms(row.recovery_ms_median),
            ms(row.recovery_ms_worst),
            ms(row.unavailable_ms_median),
            ms(row.unavailable_ms_worst)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(drill: &str, seed: u64, passed: bool, line: Value) -> Run {
        Run { drill: drill.to_owned(), seed, passed, line }
    }

    #[test]
    fn a_row_adds_up_its_seeds_and_shows_the_worst_of_them() {
        let line = |recovery: Value| {
            json!({"orders": 10, "fills": 4, "faults": 3, "violations": 1, "manual": 0, "recovery_ms": recovery,
                   "unavailable_ms": 7})
        };
        let runs = [
            run("b", 1, true, line(json!(500))),
            run("a", 1, true, line(json!(1))),
            run("b", 2, false, line(Value::Null)),
            run("b", 3, false, Value::Null),
            run("b", 4, true, line(json!(100))),
        ];
        let rows = rows(&runs);
        let first = rows.first().unwrap();
        assert_eq!((first.drill.as_str(), first.seeds.len(), first.passed), ("b", 4, 2));
        assert_eq!((first.orders, first.violations, first.recovery_ms_worst), (30, 3, Some(500)));
        let table = markdown(&rows);
        assert!(table.contains("| b | 1 2 3 4 | 2 of 4 | 30 | 12 | 9 | 3 | 0 | 500 | 500 | 7 | 7 |"), "{table}");
        assert_eq!(table.lines().count(), 4);
    }

    #[test]
    fn a_drill_that_never_came_to_rest_has_no_recovery_time() {
        let rows = rows(&[run("a", 1, false, Value::Null)]);
        assert!(markdown(&rows).contains("| - | - | - | - |"));
    }
}
