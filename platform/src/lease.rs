//! Which partitions this copy of a process prefers, and how many copies live.
//!
//! Several copies of a process that all consume every partition only take turns at losing the
//! conditional update of the applied position. So each prefers a fair share of the partitions, which
//! it holds by leases in the process's own database: they survive the loss of Redis, when doing
//! everything twice would hurt most, and go by one clock, the database's. A lease saves work and
//! protects nothing: a copy that does not know how the leases stand (its database does not answer,
//! or it was stopped for longer than they last) acts as if all partitions were its own. One that holds some and cannot work on them hands them to
//! one that can, if there is any.

mod ability;
mod config;
mod keeper;
mod plan;

pub use ability::Ability;
pub use config::LeaseConfig;
pub use keeper::{Keeper, LeaseError};

use ability::Troubles;
use contracts::Partition;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use uuid::Uuid;

/// How the leases stood at the last look.
#[derive(Debug, Clone)]
struct View {
    held: BTreeSet<Partition>,
    copies: u32,
    ability: Ability,
    /// After this nothing is known any more; none: for ever.
    until: Option<Instant>,
}

/// What this copy holds. Cheap to clone; [`Keeper`] keeps it up to date.
#[derive(Debug, Clone)]
pub struct Leases {
    copy: Uuid,
    view: watch::Receiver<View>,
    troubles: Troubles,
    /// Keeps the channel open where no keeper runs.
    _sender: Option<Arc<watch::Sender<View>>>,
}

/// The leases at one moment, for health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseSnapshot {
    /// This copy.
    pub copy: Uuid,
    /// How many copies live, with this one.
    pub copies: u32,
    /// Whether that is known at present; if not, this copy acts as if it were alone.
    pub known: bool,
    /// Whether it can work on what it holds.
    pub ability: Ability,
    /// What this copy holds.
    pub partitions: BTreeSet<Partition>,
}

impl Leases {
    /// A copy that is always alone, and prefers everything.
    #[must_use]
    pub fn alone() -> Self {
        let (sender, view) =
            watch::channel(View { held: Partition::all().collect(), copies: 1, ability: Ability::Able, until: None });
        Self { copy: Uuid::nil(), view, troubles: Troubles::default(), _sender: Some(Arc::new(sender)) }
    }

    /// Whether this copy is the one to do what a partition needs.
    #[must_use]
    pub fn prefers(&self, partition: Partition) -> bool {
        let view = self.view.borrow();
        view.held.contains(&partition) || !is_known(&view)
    }

    /// What of some partitions this copy prefers.
    #[must_use]
    pub fn preferred(&self, partitions: &[Partition]) -> Vec<Partition> {
        partitions.iter().copied().filter(|partition| self.prefers(*partition)).collect()
    }

    /// How many copies live, with this one; the last known number.
    #[must_use]
    pub fn copies(&self) -> u32 {
        self.view.borrow().copies.max(1)
    }

    /// Says since when a log makes no progress here because something fails; nothing when all is well.
    /// A copy that fails for long leaves its partitions to one that can.
    pub fn report_trouble(&self, log: &'static str, since: Option<Instant>) {
        self.troubles.report(log, since);
    }

    /// Returns after the next change; never, once nothing can change any more.
    pub async fn changed(&mut self) {
        if self.view.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The leases now.
    #[must_use]
    pub fn snapshot(&self) -> LeaseSnapshot {
        let view = self.view.borrow();
        LeaseSnapshot {
            copy: self.copy,
            copies: view.copies.max(1),
            known: is_known(&view),
            ability: view.ability,
            partitions: view.held.clone(),
        }
    }
}

fn is_known(view: &View) -> bool {
    view.until.is_none_or(|until| Instant::now() < until)
}
