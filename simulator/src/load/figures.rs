//! Rates, percentiles and medians: floating point, which nothing but the report of a measurement may use.
#![allow(clippy::float_arithmetic, reason = "these are measurements, neither money nor quantities of shares")]

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::cpu::CpuTimes;

/// Above this part of a machine's processors, the generator takes too much from what it measures.
const GENERATOR_SHARE_MAX: f64 = 0.35;

/// What one round measured.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    /// Transactions of the yardstick a second.
    pub pgbench_per_s: f64,
    /// Accepted orders a second.
    pub accepted_per_s: f64,
    /// Orders a second from accepted to filled.
    pub filled_per_s: f64,
    /// Median latency of an accept at a fixed rate, in milliseconds.
    pub accept_p50_ms: f64,
    /// The latency that one in a hundred accepts exceeds, in milliseconds.
    pub accept_p99_ms: f64,
}

/// The last line of a benchmark. Each figure is the median of the rounds; a ratio's is that of the rounds' ratios, since
/// only what was measured in one round can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    accepted_per_s: f64,
    filled_per_s: f64,
    pgbench_per_s: f64,
    accepted_ratio: f64,
    filled_ratio: f64,
    accept_p50_ms: f64,
    accept_p99_ms: f64,
    rounds: usize,
}

impl Summary {
    pub(super) fn of(rounds: &[Round]) -> Self {
        let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            accepted_per_s: rounded(of(|round| round.accepted_per_s), 1.0),
            filled_per_s: rounded(of(|round| round.filled_per_s), 1.0),
            pgbench_per_s: rounded(of(|round| round.pgbench_per_s), 1.0),
            accepted_ratio: rounded(of(|round| ratio(round.accepted_per_s, round.pgbench_per_s)), 100.0),
            filled_ratio: rounded(of(|round| ratio(round.filled_per_s, round.pgbench_per_s)), 100.0),
            accept_p50_ms: rounded(of(|round| round.accept_p50_ms), 100.0),
            accept_p99_ms: rounded(of(|round| round.accept_p99_ms), 100.0),
            rounds: rounds.len(),
        }
    }
}

impl Round {
    /// The round in words.
    pub(super) fn line(&self) -> String {
        format!(
            "accepted {:.0}/s = {:.2} of pgbench's {:.0}/s; filled {:.0}/s = {:.2}; accept p50 {:.2} ms, p99 {:.2} ms",
            self.accepted_per_s,
            ratio(self.accepted_per_s, self.pgbench_per_s),
            self.pgbench_per_s,
            self.filled_per_s,
            ratio(self.filled_per_s, self.pgbench_per_s),
            self.accept_p50_ms,
            self.accept_p99_ms,
        )
    }
}

/// The smallest and the largest of each figure.
pub(super) fn spread(rounds: &[Round]) -> String {
    let span = |figure: fn(&Round) -> f64| {
        let all = || rounds.iter().map(figure);
        format!("{:.2} to {:.2}", all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max))
    };
    format!(
        "accepted ratio {}, filled ratio {}, p50 {} ms, p99 {} ms",
        span(|round| ratio(round.accepted_per_s, round.pgbench_per_s)),
        span(|round| ratio(round.filled_per_s, round.pgbench_per_s)),
        span(|round| round.accept_p50_ms),
        span(|round| round.accept_p99_ms),
    )
}

/// So many in such a time.
pub(super) fn per_s(count: usize, elapsed: Duration) -> f64 {
    ratio(count as f64, elapsed.as_secs_f64())
}

/// A rate that was counted in thousandths.
pub(super) fn of_thousandths(rate: u64) -> f64 {
    rate as f64 / 1_000.0
}

/// A fifth of a rate, as whole orders a second.
pub(super) fn fifth(per_s: f64) -> u64 {
    (per_s / 5.0).max(1.0) as u64
}

/// A percentile in milliseconds.
pub(super) fn percentile_ms(latency_us: &Histogram<u64>, percent: f64) -> f64 {
    latency_us.value_at_percentile(percent) as f64 / 1_000.0
}

/// Where the processors' time went: microseconds an order, by process.
pub(super) fn cpu_line(used_ms: &CpuTimes, orders: usize) -> String {
    let each = |(name, ms): (&&str, &u64)| format!("{name} {:.0}", ratio(*ms as f64 * 1_000.0, orders as f64));
    format!("processor us an order: {}", used_ms.iter().map(each).collect::<Vec<_>>().join(", "))
}

/// Whether the generator itself was what limited a load.
pub(super) fn generator_warning(used_ms: &CpuTimes, elapsed: Duration, held_up: u64, orders: usize) -> Option<String> {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let own_s = used_ms.get("load").copied().unwrap_or_default() as f64 / 1_000.0;
    let share = ratio(own_s, elapsed.as_secs_f64() * processors as f64);
    if share > GENERATOR_SHARE_MAX {
        return Some(format!("warning: the generator took {:.0} % of the processors itself", share * 100.0));
    }
    let late = ratio(held_up as f64, orders as f64);
    (late > 0.01).then(|| format!("warning: {:.1} % of the arrivals found no free connection", late * 100.0))
}

fn ratio(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or_default();
    let lower = values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    f64::midpoint(lower, upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(pgbench_per_s: f64, accepted_per_s: f64) -> Round {
        Round { pgbench_per_s, accepted_per_s, filled_per_s: 500.0, accept_p50_ms: 1.0, accept_p99_ms: 2.345 }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_ratios() {
        // The machine slowed down in the second round, for both alike.
        let rounds = [round(1_000.0, 3_000.0), round(100.0, 200.0), round(1_000.0, 1_000.0)];
        let summary = Summary::of(&rounds);
        assert_eq!((summary.accepted_per_s, summary.pgbench_per_s), (1_000.0, 1_000.0));
        assert_eq!((summary.accepted_ratio, summary.filled_ratio), (2.0, 0.5));
    }

    #[test]
    fn the_last_line_has_exactly_its_fields() {
        let line = serde_json::to_string(&Summary::of(&[round(1_000.0, 1_500.0)])).unwrap();
        assert_eq!(
            line,
            "{\"accepted_per_s\":1500.0,\"filled_per_s\":500.0,\"pgbench_per_s\":1000.0,\"accepted_ratio\":1.5,\
             \"filled_ratio\":0.5,\"accept_p50_ms\":1.0,\"accept_p99_ms\":2.35,\"rounds\":1}"
        );
    }

    #[test]
    fn a_generator_that_takes_the_machine_is_told_of() {
        let all = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap() * 1_000;
        let second = Duration::from_secs(1);
        let warned = |own: u64, held_up| generator_warning(&CpuTimes::from([("load", own)]), second, held_up, 100);
        assert!(warned(all / 2, 0).is_some_and(|text| text.contains("50 %")));
        assert!(warned(all / 10, 5).is_some_and(|text| text.contains("5.0 %")));
        assert_eq!(warned(all / 10, 1), None);
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        assert_eq!(per_s(5, Duration::ZERO), 0.0);
        assert_eq!(median(Vec::new()), 0.0);
        assert_eq!(median(vec![1.0, 2.0]), 1.5);
    }
}
