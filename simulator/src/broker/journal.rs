//! The state file: an append-only log of JSON lines from which a broker starts again.
//!
//! Written before anything is answered or streamed. It survives the death of the process, not of
//! the machine: it is handed to the operating system, not forced to the disk.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::serde::rfc3339;
use ulid::Ulid;

use super::config::SimConfig;
use super::fact::Fact;
use super::fault::{Call, FaultKind, FaultRule, Strike};
use super::order::{Execution, Snapshot, Terms};

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Record {
    /// The configuration was changed.
    Config(Box<SimConfig>),
    /// An order was taken.
    Order(Box<Terms>),
    /// An event entered the stream.
    Event(Box<EventRecord>),
    /// A fact is held back.
    Held(Box<Fact>),
    /// A trade happened, and is told later: until then no event speaks of it.
    Untold { order: usize, execution: Box<Execution> },
    /// An order changed without an event.
    Change { order: usize, snapshot: Box<Snapshot> },
    /// A call with a client order id came, while something could strike it: later ones go on counting.
    Called {
        /// The account's place.
        account: usize,
        /// The client order id.
        key: String,
        /// Which call.
        call: Call,
    },
    /// A fault was asked for.
    Rule(Box<FaultRule>),
    /// All faults that still waited were forgotten.
    RulesCleared,
    /// A fault is going to strike.
    Drawn {
        /// What.
        fault: FaultKind,
        /// The rule that asked for it.
        rule: Option<u64>,
    },
    /// A fault struck.
    Strike(Strike),
    /// Shares were split: so many for so many.
    Split {
        /// The instrument's place in the universe.
        instrument: usize,
        /// New shares,
        to: u32,
        /// for so many old ones.
        from: u32,
    },
    /// How far the price path is.
    Step(u64),
}

/// An event with its cursor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventRecord {
    pub(super) event_id: String,
    #[serde(with = "rfc3339")]
    pub(super) at: OffsetDateTime,
    pub(super) fact: Fact,
}

impl EventRecord {
    pub(super) fn ulid(&self) -> Option<Ulid> {
        Ulid::from_string(&self.event_id).ok()
    }
}

/// Why the state file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be opened.
    #[error("cannot open the state file {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be read.
    #[error("cannot read the state file at line {line}")]
    Read {
        /// The line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A line that is not the last one makes no sense.
    #[error("the state file is damaged at line {line}")]
    Damaged {
        /// The line, from 1.
        line: usize,
    },
    /// It cannot be written.
    #[error("cannot write the state file")]
    Write(#[source] std::io::Error),
    /// A record has no JSON.
    #[error("cannot encode a record of the state file")]
    Encode(#[source] serde_json::Error),
}

/// The file, or nothing.
#[derive(Debug, Default)]
pub(super) struct Journal {
    file: Option<File>,
    buffer: Vec<u8>,
    /// The first failure; nothing may be answered after it.
    failure: Option<JournalError>,
}

impl Journal {
    /// Opens a state file, hands every record in it to `replay`, and cuts off a last line that was
    /// not finished.
    pub(super) fn open(path: &Path, mut replay: impl FnMut(Record) -> bool) -> Result<Self, JournalError> {
        let open = |source| JournalError::Open { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(open)?;
        let mut reader = BufReader::new(file.try_clone().map_err(open)?);
        let (mut good_len, mut line_number, mut line) = (0_u64, 0_usize, Vec::new());
        loop {
            line.clear();
            line_number += 1;
            let read = |source| JournalError::Read { line: line_number, source };
            let len = reader.read_until(b'\n', &mut line).map_err(read)?;
            if !line.ends_with(b"\n") {
                break;
            }
            let record = serde_json::from_slice(&line).map_err(|_| JournalError::Damaged { line: line_number })?;
            if !replay(record) {
                return Err(JournalError::Damaged { line: line_number });
            }
            good_len += len as u64;
        }
        file.set_len(good_len).map_err(open)?;
        Ok(Self { file: Some(file), buffer: Vec::new(), failure: None })
    }

    /// Adds a record to what [`Self::commit`] writes.
    pub(super) fn record(&mut self, record: &Record) {
        if self.file.is_none() || self.failure.is_some() {
            return;
        }
        match serde_json::to_writer(&mut self.buffer, record) {
            Ok(()) => self.buffer.push(b'\n'),
            Err(source) => self.failure = Some(JournalError::Encode(source)),
        }
    }

    /// Whether records are kept at all; building them is not free.
    pub(super) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Hands all records to the operating system.
    pub(super) fn commit(&mut self) -> Result<(), JournalError> {
        if let Some(failure) = self.failure.take() {
            self.file = None;
            return Err(failure);
        }
        if let Some(file) = &mut self.file
            && !self.buffer.is_empty()
        {
            file.write_all(&self.buffer).map_err(JournalError::Write)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_last_line_is_cut_off_and_a_damaged_one_refused() {
        let path = std::env::temp_dir().join(format!("broker-sim-journal-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, "{\"step\":1}\n{\"step\":2}\n{\"st").unwrap();
        let mut steps = Vec::new();
        let mut journal = Journal::open(&path, |record| {
            if let Record::Step(step) = record {
                steps.push(step);
            }
            true
        })
        .unwrap();
        assert_eq!(steps, [1, 2]);
        journal.record(&Record::Step(3));
        journal.commit().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n");
        std::fs::write(&path, "{\"st\n{\"step\":2}\n").unwrap();
        assert!(matches!(Journal::open(&path, |_| true), Err(JournalError::Damaged { line: 1 })));
        std::fs::remove_file(&path).unwrap();
    }
}
