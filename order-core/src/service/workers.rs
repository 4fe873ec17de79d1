//! The shard workers of a process.

use crate::adapters::db::PgStore;
use crate::adapters::locks::RedisLocks;
use crate::application::batch::BatchRunner;
use crate::application::bounded::Bounded;
use crate::application::facts::FactApplier;
use crate::application::queue::Shards;
use crate::application::reference::ReferenceData;
use crate::application::shard::ShardWorker;
use crate::config::Settings;
use contracts::Partition;
use contracts::calendar::MarketCalendar;
use platform::clock::Clock;
use platform::lease::Leases;
use platform::lock::AccountLocks;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Starts every worker and returns the way to them.
#[expect(clippy::too_many_arguments, reason = "the wiring of a process, called once")]
pub(super) fn start(
    settings: &Settings,
    store: &PgStore,
    locks: &AccountLocks,
    reference: &Arc<ReferenceData>,
    calendar: &MarketCalendar,
    clock: &Arc<dyn Clock>,
    leases: &Leases,
    end: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Shards {
    let store = Arc::new(Bounded::new(store.clone(), settings.database_wait_max()));
    let locks = Arc::new(RedisLocks(locks.clone()));
    let mut handles = Vec::new();
    for shard in 0..settings.worker.shards {
        let runner = BatchRunner {
            store: Arc::clone(&store),
            locks: Arc::clone(&locks),
            reference: Arc::clone(reference),
            calendar: calendar.clone(),
            policy: settings.batch_policy(),
        };
        let facts = FactApplier { store: Arc::clone(&store), charges: settings.charges() };
        let partitions = Partition::all().filter(|p| p.number() % settings.worker.shards == shard).collect();
        let clock = Arc::clone(clock);
        let (worker, handle) =
            ShardWorker::new(runner, facts, partitions, leases.clone(), settings.shard(), move || clock.now());
        tasks.spawn(worker.run(end.clone().cancelled_owned()));
        handles.push(handle);
    }
    Shards::new(handles, Duration::from_millis(settings.worker.command_deadline_ms))
}
