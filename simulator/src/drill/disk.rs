//! PostgreSQL's disk is full under load, again and again: writes fail, its log cannot grow, and it may die of that.
//!
//! The disk is a file system in memory, mounted in a mount name space of this process's own: the kernel unmounts it
//! when the last process of the drill is gone, however it ended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::exercise::Exercise;
use super::load::{Load, LoadOptions};
use super::outcome::Outcome;
use crate::stack::{ProcessName, StackError, Variables};

/// Enough for a new server, three schemas and some thousand orders.
pub const SIZE_MIB: u32 = 320;
/// Says which process asked for mounts of its own, and which ones it had before.
const MOUNTS: &str = "DRILL_MOUNTS";
/// What PostgreSQL writes into its log.
const FULL: &str = "No space left on device";
const ROUNDS: usize = 3;
const BETWEEN: Duration = Duration::from_secs(3);
/// How long the disk stays full from its first hit on, and how long that may take.
const FULL_FOR: Duration = Duration::from_secs(6);
const HIT_LIMIT: Duration = Duration::from_secs(45);
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Pieces of ballast: large ones first, then whatever still fits.
const PIECES: [usize; 2] = [1 << 20, 4 << 10];

/// Runs this very program again with mounts of its own, unless it has them. Returns only where it has.
///
/// # Errors
/// When the program that gives them cannot be started; without the right to mount, that one ends with an error.
pub fn private_mounts() -> Result<(), StackError> {
    let failed = |error: io::Error| StackError::Settings(format!("no mounts of the drill's own: {error}"));
    let here = Mounts { pid: std::process::id().to_string(), space: mount_space().map_err(failed)? };
    match here.since(std::env::var(MOUNTS).ok().as_deref()) {
        Since::Own => return Ok(()),
        Since::Shared => return Err(failed(io::Error::other("they are still those of everybody"))),
        Since::NotAsked => {}
    }
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program).args(std::env::args_os().skip(1));
    Err(failed(command.env(MOUNTS, here.to_string()).exec()))
}

/// The mount name space of this process, by its name in the kernel.
fn mount_space() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/mnt")?.to_string_lossy().into_owned())
}

/// Which process saw which mounts. A program that replaces another one keeps its process id, so what somebody else
/// has set, or another run has left, is not taken for a word of this process.
struct Mounts {
    pid: String,
    space: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Since {
    /// This process has asked for mounts of its own, and has them.
    Own,
    /// It has asked, and has those that it had.
    Shared,
    /// It has not asked.
    NotAsked,
}

impl Mounts {
    fn since(&self, before: Option<&str>) -> Since {
        match before.and_then(|before| before.split_once(' ')) {
            Some((pid, space)) if pid == self.pid && space == self.space => Since::Shared,
            Some((pid, space)) if pid == self.pid && space.starts_with("mnt:[") => Since::Own,
            _ => Since::NotAsked,
        }
    }
}

impl std::fmt::Display for Mounts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {}", self.pid, self.space)
    }
}

/// A log that is cut into many small files meets the end of the disk soon.
pub fn settings(variables: &mut Variables) {
    let settings = [("max_wal_size", "16MB"), ("min_wal_size", "2MB")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    variables.entry(ProcessName::Postgres).or_default().extend(settings);
}

/// A file that takes all the room there is.
struct Ballast {
    file: PathBuf,
}

impl Ballast {
    fn on(disk: &Path) -> Self {
        Self { file: disk.join("ballast") }
    }

    /// Takes what is free.
    fn fill(&self) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.file)?;
        PIECES.iter().try_for_each(|bytes| fill(&mut file, *bytes))
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_file(&self.file)
    }
}

/// Ends when no further piece fits.
fn fill(file: &mut File, bytes: usize) -> io::Result<()> {
    let piece = vec![0; bytes];
    loop {
        match file.write_all(&piece) {
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            written => written?,
        }
    }
}

/// What one round did.
struct Round {
    hits: usize,
    server_died: bool,
    accepted: usize,
}

/// Fills the disk again and again under load, gives the room back each time, and compares.
///
/// # Errors
/// When the disk cannot be written, or a process not be started.
pub async fn run(exercise: &Exercise, load: LoadOptions, settle_limit: Duration) -> Result<Outcome, StackError> {
    let disk = exercise.stack.database_disk().ok_or(StackError::NotOurs(ProcessName::Postgres))?;
    let ballast = Ballast::on(disk);
    let load = Load::start(&exercise.traders, load);
    let mut rounds = Vec::new();
    for number in 1..=ROUNDS {
        sleep(BETWEEN).await;
        let round = fill_once(exercise, &ballast, &load).await?;
        let died = if round.server_died { ", the server died" } else { "" };
        exercise.say(&format!("the disk was full {number} of {ROUNDS} times: {} errors{died}", round.hits));
        rounds.push(round);
    }
    load.stop().await;
    let posted = load.finish().await;
    let mut outcome = Outcome::settled(exercise.settle(&posted, settle_limit).await);
    outcome.require(outcome.tally().filled > 0, "no order was filled");
    outcome.require(exercise.gave_up() == 0, "a process of the engine ended by itself");
    for round in &rounds {
        outcome.strike(round.hits as u64);
        outcome.require(round.hits > 0, "PostgreSQL did not notice that its disk was full");
    }
    outcome.note("disk_full_errors", rounds.iter().map(|round| round.hits).sum::<usize>());
    outcome.note("server_died", rounds.iter().filter(|round| round.server_died).count());
    outcome.note("accepted_while_full", rounds.iter().map(|round| round.accepted).sum::<usize>());
    Ok(outcome)
}

async fn fill_once(exercise: &Exercise, ballast: &Ballast, load: &Load) -> Result<Round, StackError> {
    let failed = |error: io::Error| StackError::Settings(format!("{}: {error}", ballast.file.display()));
    let log = Window::from_now(exercise.stack.layout().log(ProcessName::Postgres.as_str()));
    let mut accepted = load.progress().accepted();
    let mut hit_at: Option<Instant> = None;
    let began = Instant::now();
    while hit_at.map_or(began.elapsed() < HIT_LIMIT, |at| at.elapsed() < FULL_FOR) {
        // What the server removes (old pieces of its log) is taken at once.
        ballast.fill().map_err(failed)?;
        if hit_at.is_none() && log.complaints() > 0 {
            hit_at = Some(Instant::now());
            accepted = load.progress().accepted();
        }
        sleep(LOOK_PAUSE).await;
    }
    let accepted = load.progress().accepted() - accepted;
    // What is written from here on, as when the server recovers, is not the fault's any more.
    let hits = log.complaints();
    ballast.remove().map_err(failed)?;
    let server_died = exercise.stack.snapshot().get(&ProcessName::Postgres).is_some_and(|state| state.pid.is_none());
    if server_died {
        exercise.stack.restart(ProcessName::Postgres).await?;
    }
    exercise.stack.wait_ready(ProcessName::Postgres).await?;
    for name in ProcessName::ENGINE {
        exercise.ready(name).await?;
    }
    Ok(Round { hits, server_died, accepted })
}

/// A log from the beginning of a fault on.
struct Window {
    log: PathBuf,
    start: u64,
}

impl Window {
    fn from_now(log: PathBuf) -> Self {
        let start = fs::metadata(&log).map_or(0, |about| about.len());
        Self { log, start }
    }

    /// How often the server wrote since then that its disk is full.
    fn complaints(&self) -> usize {
        let read = || {
            let mut file = File::open(&self.log)?;
            file.seek(SeekFrom::Start(self.start))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map(|_| bytes)
        };
        let bytes = read().unwrap_or_default();
        String::from_utf8_lossy(&bytes).matches(FULL).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_that_asked_has_mounts_of_its_own() {
        let before = Mounts { pid: "7".to_owned(), space: "mnt:[1]".to_owned() };
        let word = before.to_string();
        let now = |pid: &str, space: &str| Mounts { pid: pid.to_owned(), space: space.to_owned() };
        assert_eq!(now("7", "mnt:[2]").since(Some(&word)), Since::Own);
        assert_eq!(before.since(Some(&word)), Since::Shared);
        assert_eq!(now("8", "mnt:[2]").since(Some(&word)), Since::NotAsked, "another process's word");
        for set_by_hand in [None, Some(""), Some("1"), Some("private"), Some("7 private")] {
            assert_eq!(before.since(set_by_hand), Since::NotAsked, "{set_by_hand:?}");
        }
    }

    #[test]
    fn only_what_the_server_wrote_during_the_fault_is_a_hit() {
        let log = std::env::temp_dir().join(format!("disk-window-{}", uuid::Uuid::new_v4()));
        let line = format!("ERROR: could not extend file: {FULL}\n");
        fs::write(&log, &line).unwrap();
        let window = Window::from_now(log.clone());
        assert_eq!(window.complaints(), 0, "an earlier one is not counted");
        OpenOptions::new().append(true).open(&log).unwrap().write_all(line.as_bytes()).unwrap();
        assert_eq!(window.complaints(), 1);
        fs::remove_file(&log).unwrap();
        assert_eq!(window.complaints(), 0);
    }
}
