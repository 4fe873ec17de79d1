//! Processor time of the stack's processes.

use std::collections::BTreeMap;
use std::fs;

use crate::stack::{ProcessName, Stack};

/// Ticks of the kernel's accounting a second, the same on every Linux machine.
const TICKS_PER_S: u64 = 100;
/// Fields of `/proc/PID/stat` after the name: parent, own user and system time, those of children that have ended.
const PARENT: usize = 1;
const TIMES: [usize; 4] = [11, 12, 13, 14];

/// Processor time so far, in milliseconds, by process; the generator's own under `load`.
pub(super) type CpuTimes = BTreeMap<&'static str, u64>;

/// Reads it for every process of the stack and this one. A server's children count with it.
pub(super) fn read(stack: &Stack) -> CpuTimes {
    let mut times = CpuTimes::new();
    for (name, state) in stack.snapshot() {
        let Some(pid) = state.pid else { continue };
        let own = stat(pid).map_or(0, |(_, ticks)| ticks);
        let children = if name == ProcessName::Postgres { children(pid) } else { 0 };
        times.insert(name.as_str(), (own + children) * 1_000 / TICKS_PER_S);
    }
    let own = stat(std::process::id()).map_or(0, |(_, ticks)| ticks);
    times.insert("load", own * 1_000 / TICKS_PER_S);
    times
}

/// What was used between two readings, in milliseconds. A process that was started meanwhile counts from its start.
pub(super) fn used(before: &CpuTimes, after: &CpuTimes) -> CpuTimes {
    let since = |name: &str, now: u64| now.saturating_sub(before.get(name).copied().unwrap_or_default());
    after.iter().map(|(name, now)| (*name, since(name, *now))).collect()
}

fn children(parent: u32) -> u64 {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(stat).filter(|(of, _)| *of == parent).map(|(_, ticks)| ticks).sum()
}

/// The parent of a process and the ticks that it and its ended children have used.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = TIMES.iter().filter_map(|place| fields.get(*place)?.parse::<u64>().ok()).sum();
    Some((fields.get(PARENT)?.parse().ok()?, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_this_process_can_be_read() {
        let (parent, _) = stat(std::process::id()).unwrap();
        assert_eq!(parent, nix::unistd::getppid().as_raw().unsigned_abs());
    }

    #[test]
    fn a_process_that_was_started_meanwhile_counts_from_its_start() {
        let before = CpuTimes::from([("postgres", 70), ("load", 10)]);
        let after = CpuTimes::from([("postgres", 100), ("load", 10), ("redis", 5)]);
        assert_eq!(used(&before, &after), CpuTimes::from([("postgres", 30), ("load", 0), ("redis", 5)]));
    }
}
