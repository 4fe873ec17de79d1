//! The point at which this process is to die.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// One point, armed.
#[derive(Debug)]
pub(super) struct Armed {
    name: String,
    nth: u64,
    evidence: PathBuf,
    passes: AtomicU64,
}

impl Armed {
    /// Reads `NAME:N`; none when that names no point, or no pass.
    pub(super) fn read(at: &str, evidence: PathBuf) -> Option<Self> {
        let (name, nth) = at.split_once(':')?;
        let nth = nth.parse().ok().filter(|nth| *nth > 0)?;
        super::is_known(name).then(|| Self { name: name.to_owned(), nth, evidence, passes: AtomicU64::new(0) })
    }

    /// Whether this pass is the one, which it is once.
    pub(super) fn is_due(&self, name: &str) -> bool {
        self.name == name && self.passes.fetch_add(1, Ordering::Relaxed).saturating_add(1) == self.nth
    }

    /// Appends a line that is on disk when this returns: which process dies at which pass of which point.
    pub(super) fn leave_evidence(&self, pid: u32) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(&self.evidence)?;
        file.write_all(format!("{pid} {}:{}\n", self.name, self.nth).as_bytes())?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: &str = "order-server.before-lock";

    fn armed(at: &str) -> Option<Armed> {
        Armed::read(at, std::env::temp_dir().join(format!("kill-points-{}", uuid::Uuid::now_v7())))
    }

    #[test]
    fn a_process_dies_at_the_nth_pass_of_its_own_point_and_at_no_other() {
        let armed = armed(&format!("{POINT}:2")).unwrap();
        assert!(!armed.is_due(POINT));
        assert!(!armed.is_due("order-server.after-lock"));
        assert!(armed.is_due(POINT));
        assert!(!armed.is_due(POINT));
    }

    #[test]
    fn what_names_no_point_or_no_pass_arms_nothing() {
        for at in ["", POINT, "order-server.before-lock:", "order-server.before-lock:0", "order-server.nowhere:1", ":1"]
        {
            assert!(armed(at).is_none(), "{at}");
        }
    }

    #[test]
    fn the_evidence_names_process_point_and_pass_and_stands_beside_what_is_there() {
        let armed = armed(&format!("{POINT}:7")).unwrap();
        armed.leave_evidence(41).unwrap();
        armed.leave_evidence(42).unwrap();
        let found = std::fs::read_to_string(&armed.evidence).unwrap();
        std::fs::remove_file(&armed.evidence).unwrap();
        assert_eq!(found, "41 order-server.before-lock:7\n42 order-server.before-lock:7\n");
    }
}
