//! Pushes: believed, stored, and only then acknowledged.
//!
//! A push is named by its key id and nonce, and the name is stored in the transaction that stores its
//! events. So a push whose acknowledgement was lost can be sent again under its name, and is then
//! acknowledged without being stored twice; a name under another body is refused; and after a crash
//! either both are there or neither. Pushes never move the cursor of the stream.

use super::ports::{EventStore, PushStore, Pushed, StoreError, Stored};
use super::receiver::count;
use super::session::SessionContext;
use crate::domain::push::{NotTaken, frames};
use crate::domain::reading::{Poison, PoisonReason, Reading, read_frame};
use crate::domain::signature::{Claim, KeyRing, NotBelieved};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Most names that one statement prunes.
const PRUNE_ROWS: i64 = 10_000;
/// Most such statements in a row.
const PRUNE_STEPS_MAX: u32 = 100;

/// Limits of pushes.
#[derive(Debug, Clone, Copy)]
pub struct PushLimits {
    /// Most events of one push.
    pub events_max: usize,
    /// Most pushes that are being stored.
    pub in_flight_max: usize,
    /// Longest wait for the transaction before the sender is told to send again.
    pub deadline_ms: u64,
    /// How long names are kept.
    pub nonce_retention_ms: u64,
    /// Time between two looks for names that may go.
    pub prune_interval_ms: u64,
}

/// What identifies a push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushName {
    /// The key that it was signed with.
    pub key_id: String,
    /// The sender's nonce.
    pub nonce: String,
    /// What its body was.
    pub body_sha256: [u8; 32],
}

/// A push that is safe with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Stored now.
    Stored {
        /// Its events.
        events: usize,
        /// Those that were new.
        new: u64,
        /// Those that could not be read and wait for a person.
        parked: u64,
    },
    /// It was stored before, with the same body.
    Repeated,
}

/// Why a push was not taken.
#[derive(Debug, Error)]
pub enum PushError {
    /// It is not believed.
    #[error(transparent)]
    NotBelieved(#[from] NotBelieved),
    /// Its body.
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    /// Its nonce named another body before.
    #[error("nonce was used for another body")]
    NonceReused,
    /// Too many are being stored.
    #[error("too many pushes are being stored")]
    Busy,
    /// It is not known whether it was stored.
    #[error("push was not stored in time")]
    Deadline,
    /// It could not be stored.
    #[error("push could not be stored")]
    Store(#[from] StoreError),
}

impl PushError {
    const fn word(&self) -> &'static str {
        match self {
            Self::NotBelieved(NotBelieved::Signature) => "not_genuine",
            Self::NotBelieved(NotBelieved::Window { .. }) => "outside_window",
            Self::NotTaken(_) => "not_taken",
            Self::NonceReused => "nonce_reused",
            Self::Busy => "busy",
            Self::Deadline => "deadline",
            Self::Store(_) => "store_failed",
        }
    }
}

/// Takes pushes.
pub struct PushIntake<S> {
    context: Arc<SessionContext<S>>,
    keys: KeyRing,
    limits: PushLimits,
    permits: Arc<Semaphore>,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl<S: EventStore + PushStore> PushIntake<S> {
    /// Puts the parts together.
    #[must_use]
    pub fn new(context: Arc<SessionContext<S>>, keys: KeyRing, limits: PushLimits) -> Self {
        let permits = Arc::new(Semaphore::new(limits.in_flight_max));
        Self { context, keys, limits, permits, taken: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    /// Takes a push. An answer of success means that it is committed.
    ///
    /// # Errors
    /// [`PushError`]; after [`PushError::Deadline`] and [`PushError::Store`] it may be stored all the
    /// same, and sending it again is safe.
    pub async fn take(self: &Arc<Self>, claim: Claim, body: Bytes) -> Result<Taken, PushError> {
        let started = Instant::now();
        let result = self.try_take(claim, body).await;
        let word = match &result {
            Ok(Taken::Stored { .. }) => "stored",
            Ok(Taken::Repeated) => "repeated",
            Err(error) => error.word(),
        };
        let counter = if result.is_ok() { &self.taken } else { &self.refused };
        counter.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("fill_receiver_pushes_total", "result" => word).increment(1);
        metrics::histogram!("fill_receiver_push_duration_seconds").record(started.elapsed());
        result
    }

    async fn try_take(self: &Arc<Self>, claim: Claim, body: Bytes) -> Result<Taken, PushError> {
        if let Err(refusal) = self.keys.check(&claim, &body, self.context.clock.now()) {
            tracing::warn!(key_id = claim.key_id(), reason = %refusal, "push is not believed");
            return Err(refusal.into());
        }
        let frames = frames(&body, self.limits.events_max)?;
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_full| PushError::Busy)?;
        let name = PushName {
            key_id: claim.key_id().to_owned(),
            nonce: claim.nonce().to_owned(),
            body_sha256: Sha256::digest(&body).into(),
        };
        let readings = frames.into_iter().map(|raw| read_frame(&self.context.profile, raw)).collect();
        // In a task of its own: a sender that hangs up must not break a transaction off half-way.
        let intake = Arc::clone(self);
        let storing = tokio::spawn(async move {
            let stored = intake.store(&name, readings).await;
            drop(permit);
            stored
        });
        match tokio::time::timeout(Duration::from_millis(self.limits.deadline_ms), storing).await {
            Ok(Ok(stored)) => stored,
            // A task that panicked has rolled back; the sender's next attempt tells more.
            Ok(Err(_)) | Err(_) => Err(PushError::Deadline),
        }
    }

    async fn store(&self, name: &PushName, readings: Vec<Reading>) -> Result<Taken, PushError> {
        let pushed = match self.commit(name, &readings).await {
            Err(StoreError::Refused(error)) => {
                tracing::warn!(error = %platform::telemetry::Chain(&*error), "push is stored one event at a time");
                let alone = self.store_each(&readings).await?;
                // The name comes last: a crash before it costs a repeat, and no event.
                match self.commit(name, &[]).await? {
                    Pushed::Stored(_) => Pushed::Stored(Box::new(alone)),
                    other => other,
                }
            }
            other => other?,
        };
        match pushed {
            Pushed::Repeated => Ok(Taken::Repeated),
            Pushed::NonceReused => {
                tracing::error!(key_id = name.key_id, nonce = name.nonce, "a push's nonce named another body before");
                Err(PushError::NonceReused)
            }
            Pushed::Stored(stored) => {
                Ok(Taken::Stored { events: readings.len(), new: stored.inserted, parked: stored.parked })
            }
        }
    }

    async fn commit(&self, name: &PushName, readings: &[Reading]) -> Result<Pushed, StoreError> {
        let epoch = self.context.seen().epoch();
        let pushed = self.told(self.context.store.store_push(name, readings, self.context.clock.now()).await)?;
        Ok(match pushed {
            Pushed::Stored(stored) => Pushed::Stored(Box::new(self.committed(epoch, readings, *stored))),
            other => other,
        })
    }

    /// What the database refuses alone is parked; its neighbours are stored.
    async fn store_each(&self, readings: &[Reading]) -> Result<Stored, StoreError> {
        let mut all = Stored::default();
        for reading in readings {
            let stored = match self.store_one(reading).await {
                Err(StoreError::Refused(error)) => {
                    let poison = Poison::new(PoisonReason::Unstorable, &error.to_string());
                    self.store_one(&Reading { outcome: Err(poison), ..reading.clone() }).await?
                }
                other => other?,
            };
            all.inserted += stored.inserted;
            all.parked += stored.parked;
        }
        Ok(all)
    }

    async fn store_one(&self, reading: &Reading) -> Result<Stored, StoreError> {
        let readings = std::slice::from_ref(reading);
        let epoch = self.context.seen().epoch();
        let stored = self.told(self.context.store.store(readings, None, self.context.clock.now()).await)?;
        Ok(self.committed(epoch, readings, stored))
    }

    fn told<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &result
            && !matches!(error, StoreError::Refused(_))
        {
            self.context.forget();
            metrics::counter!("fill_receiver_store_errors_total").increment(1);
            tracing::warn!(error = %platform::telemetry::Chain(error), "push could not be stored");
        }
        result
    }

    /// Passes on what was committed, and lets the stream pass over it.
    fn committed(&self, epoch: u64, readings: &[Reading], mut stored: Stored) -> Stored {
        self.context.remember(epoch, readings);
        count(&stored);
        platform::kill_point!("fill-receiver.before-publish", if !stored.envelopes.is_empty());
        self.context.publisher.committed(std::mem::take(&mut stored.envelopes));
        stored
    }

    /// Removes names that no valid signature can carry any more, until `shutdown`.
    pub async fn prune(&self, shutdown: CancellationToken) {
        let retention = time::Duration::milliseconds(i64::try_from(self.limits.nonce_retention_ms).unwrap_or(i64::MAX));
        let mut ticks = tokio::time::interval(Duration::from_millis(self.limits.prune_interval_ms.max(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let before = self.context.clock.now() - retention;
            for _ in 0..PRUNE_STEPS_MAX {
                match self.context.store.prune_pushes(before, PRUNE_ROWS).await {
                    Ok(rows) if rows >= PRUNE_ROWS.unsigned_abs() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(error = %platform::telemetry::Chain(&error), "names of pushes could not be pruned");
                        break;
                    }
                }
            }
        }
    }

    /// For health.
    #[must_use]
    pub fn report(&self) -> serde_json::Value {
        serde_json::json!({
            "pushes_taken": self.taken.load(Ordering::Relaxed),
            "pushes_refused": self.refused.load(Ordering::Relaxed),
            "being_stored": self.limits.in_flight_max.saturating_sub(self.permits.available_permits()),
        })
    }
}
