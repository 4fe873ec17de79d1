//! Keeps a copy's row and leases in the database.

use super::ability::{Ability, Judge, Troubles};
use super::config::LeaseConfig;
use super::plan::{Living, Plan, Row, plan};
use super::{Leases, View};
use contracts::Partition;
use contracts::partition::PartitionError;
use sqlx::{PgConnection, PgPool};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Why the leases could not be kept.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// No transaction.
    #[error("could not begin to renew leases")]
    Begin(#[source] sqlx::Error),
    /// The copy's own row.
    #[error("could not renew the row of this copy")]
    Announce(#[source] sqlx::Error),
    /// Reading.
    #[error("could not read copies and leases")]
    Read(#[source] sqlx::Error),
    /// A row that cannot be.
    #[error("leases hold a row that is not valid")]
    Corrupt(#[from] PartitionError),
    /// Renewing or giving back.
    #[error("could not renew leases")]
    Renew(#[source] sqlx::Error),
    /// Taking.
    #[error("could not take leases")]
    Take(#[source] sqlx::Error),
    /// Giving back.
    #[error("could not give leases back")]
    Release(#[source] sqlx::Error),
    /// The commit.
    #[error("could not commit leases")]
    Commit(#[source] sqlx::Error),
    /// No end in time.
    #[error("leases were not renewed before they ended")]
    Late,
}

/// Renews the leases of one copy.
#[derive(Debug)]
pub struct Keeper {
    copy: Uuid,
    pool: PgPool,
    config: LeaseConfig,
    view: Arc<watch::Sender<View>>,
    troubles: Troubles,
    judge: Mutex<Judge>,
}

impl Keeper {
    /// A keeper of a new copy, and the view of what it holds. `copy` must be another in every
    /// process, also after a restart.
    #[must_use]
    pub fn new(copy: Uuid, pool: PgPool, config: LeaseConfig) -> (Self, Leases) {
        // Nothing is known before the first look.
        let unknown = View { held: BTreeSet::new(), copies: 1, ability: Ability::Able, until: Some(Instant::now()) };
        let (sender, view) = watch::channel(unknown);
        let troubles = Troubles::default();
        let leases = Leases { copy, view, troubles: troubles.clone(), _sender: None };
        let keeper = Self { copy, pool, config, view: Arc::new(sender), troubles, judge: Mutex::default() };
        (keeper, leases)
    }

    /// Renews until `shutdown`, then gives everything back.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(self.config.renewal());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.cancelled() => break,
            }
            self.begin().await;
        }
        self.view.send_modify(|view| {
            view.held.clear();
            view.until = None;
        });
        if let Err(error) = self.release().await {
            tracing::warn!(error = %crate::telemetry::Chain(&error), "leases end by themselves");
        }
    }

    /// A round whose failure is only told: for the start, so that the rest of the process knows from
    /// the beginning how many copies live.
    pub async fn begin(&self) {
        if let Err(error) = self.renew().await {
            metrics::counter!("lease_errors_total").increment(1);
            tracing::warn!(error = %crate::telemetry::Chain(&error), "leases could not be renewed");
        }
    }

    /// One round: says that this copy lives, renews its share, gives back what is beyond it, takes
    /// what is missing.
    ///
    /// # Errors
    /// [`LeaseError`]; the next round tries again.
    pub async fn renew(&self) -> Result<(), LeaseError> {
        // From before the round: what is measured here ends no later than in the database.
        let now = Instant::now();
        let until = now + self.config.duration();
        let ability = self.judge().ability(self.troubles.since(), now, &self.config);
        let round = self.try_renew(ability, now);
        let (held, copies) =
            tokio::time::timeout(self.config.duration(), round).await.map_err(|_| LeaseError::Late)??;
        metrics::gauge!("lease_partitions").set(f64::from(u32::try_from(held.len()).unwrap_or(u32::MAX)));
        metrics::gauge!("lease_copies").set(f64::from(copies));
        self.view.send_if_modified(|view| {
            let changed = view.held != held || view.copies != copies || view.ability != ability;
            if changed {
                let (copy, ability, partitions) = (self.copy, ability.as_str(), numbers(&held));
                tracing::info!(%copy, copies, ability, ?partitions, "leases changed");
            }
            *view = View { held, copies, ability, until: Some(until) };
            changed
        });
        Ok(())
    }

    async fn try_renew(&self, ability: Ability, now: Instant) -> Result<(BTreeSet<Partition>, u32), LeaseError> {
        let mut tx = self.pool.begin().await.map_err(LeaseError::Begin)?;
        no_wait_for_disk(&mut tx).await.map_err(LeaseError::Begin)?;
        let copies = self.announce(&mut tx, ability).await?;
        let rows = read(&mut tx).await?;
        let gives_up = self.judge().gives_up(self.copy, &copies, now, &self.config);
        let Plan { keep, release, claim } = plan(self.copy, &copies, gives_up, &rows);
        let mut held = self.keep(&mut tx, &keep, &release).await?;
        if !claim.is_empty() {
            held.extend(self.claim(&mut tx, &claim).await?);
        }
        tx.commit().await.map_err(LeaseError::Commit)?;
        if gives_up && !release.is_empty() {
            self.judge().gave_up(now, &self.config);
            metrics::counter!("lease_given_up_total").increment(release.len() as u64);
            tracing::warn!(copy = %self.copy, "this copy cannot work on its partitions; others that can take them");
        }
        Ok((held, u32::try_from(copies.len()).unwrap_or(u32::MAX)))
    }

    /// Says that this copy lives, and whether it can work; answers the same of all that do.
    async fn announce(&self, conn: &mut PgConnection, ability: Ability) -> Result<Vec<Living>, LeaseError> {
        sqlx::query!(
            "insert into copies as c (copy_id, started_at, expires_at, ability)
             values ($1, clock_timestamp(), clock_timestamp() + $2::bigint * interval '1 millisecond', $3)
             on conflict (copy_id) do update set expires_at = excluded.expires_at, ability = excluded.ability",
            self.copy,
            self.duration_ms(),
            ability.as_str(),
        )
        .execute(&mut *conn)
        .await
        .map_err(LeaseError::Announce)?;
        // Long dead ones only: a copy that was merely stopped renews its old row.
        sqlx::query!(
            "delete from copies where copy_id in
                 (select copy_id from copies where expires_at < clock_timestamp() - interval '10 minutes'
                  limit 100 for update skip locked)"
        )
        .execute(&mut *conn)
        .await
        .map_err(LeaseError::Announce)?;
        let living =
            sqlx::query!("select copy_id, ability from copies where expires_at > clock_timestamp() order by copy_id")
                .fetch_all(conn)
                .await
                .map_err(LeaseError::Read)?;
        let living = living.into_iter();
        Ok(living.map(|row| Living { id: row.copy_id, ability: Ability::read(&row.ability) }).collect())
    }

    /// Renews and gives back, as far as the leases are still this copy's.
    async fn keep(
        &self,
        conn: &mut PgConnection,
        keep: &[Partition],
        release: &[Partition],
    ) -> Result<BTreeSet<Partition>, LeaseError> {
        let kept = sqlx::query_scalar!(
            r#"
            update partition_leases l
            set holder = case when l.partition = any($2) then l.holder end,
                expires_at = clock_timestamp() + $4::bigint * interval '1 millisecond'
            where l.holder = $1 and l.partition = any($2::smallint[] || $3::smallint[])
            returning case when l.holder is null then null else l.partition end as partition
            "#,
            self.copy,
            &numbers(keep),
            &numbers(release),
            self.duration_ms(),
        )
        .fetch_all(conn)
        .await
        .map_err(LeaseError::Renew)?;
        partitions(kept.into_iter().flatten())
    }

    async fn claim(&self, conn: &mut PgConnection, wanted: &[Partition]) -> Result<BTreeSet<Partition>, LeaseError> {
        let taken = sqlx::query_scalar!(
            r#"
            with free as (
                select partition from partition_leases
                where partition = any($2) and (holder is null or expires_at <= clock_timestamp())
                order by partition
                for update skip locked
            )
            update partition_leases l
            set holder = $1, expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
            from free where l.partition = free.partition
            returning l.partition
            "#,
            self.copy,
            &numbers(wanted),
            self.duration_ms(),
        )
        .fetch_all(conn)
        .await
        .map_err(LeaseError::Take)?;
        metrics::counter!("lease_taken_total").increment(taken.len() as u64);
        partitions(taken.into_iter())
    }

    /// Gives everything back, so that nobody waits for it.
    ///
    /// # Errors
    /// [`LeaseError::Release`]; then the leases end by themselves.
    pub async fn release(&self) -> Result<(), LeaseError> {
        let mut tx = self.pool.begin().await.map_err(LeaseError::Begin)?;
        sqlx::query!("update partition_leases set holder = null where holder = $1", self.copy)
            .execute(&mut *tx)
            .await
            .map_err(LeaseError::Release)?;
        sqlx::query!("delete from copies where copy_id = $1", self.copy)
            .execute(&mut *tx)
            .await
            .map_err(LeaseError::Release)?;
        tx.commit().await.map_err(LeaseError::Commit)
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn duration_ms(&self) -> i64 {
        i64::try_from(self.config.duration_ms).unwrap_or(i64::MAX)
    }
}

/// A lease that a crash of the database forgets costs a second; waiting for the disk several times
/// a second costs the orders' commits.
async fn no_wait_for_disk(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("set local synchronous_commit = off").execute(conn).await.map(drop)
}

async fn read(conn: &mut PgConnection) -> Result<Vec<Row>, LeaseError> {
    let rows = sqlx::query!(
        r#"select partition, holder, expires_at > clock_timestamp() as "lasts!" from partition_leases order by partition"#
    )
    .fetch_all(conn)
    .await
    .map_err(LeaseError::Read)?;
    rows.into_iter()
        .map(|row| Ok(Row { partition: Partition::new(row.partition)?, holder: row.holder, lasts: row.lasts }))
        .collect()
}

fn numbers<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Vec<i16> {
    partitions.into_iter().map(|partition| partition.number()).collect()
}

fn partitions(numbers: impl Iterator<Item = i16>) -> Result<BTreeSet<Partition>, LeaseError> {
    numbers.map(|number| Partition::new(number).map_err(LeaseError::from)).collect()
}
