//! The lane's rate as operators set it: kept with a record of who did it, and followed by every copy.

use super::chain::Chain;
use super::lane_control::LaneControl;
use super::ports::StoreError;
use contracts::BrokerId;
use serde::Serialize;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

/// The rate that was set last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateSetting {
    /// Calls a second, of all copies together; none: as configured.
    pub rate_per_s: Option<u32>,
    /// One more with every change; 0 before the first.
    pub revision: i64,
}

/// What an operator does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateChange {
    /// Calls a second, of all copies together; none: as configured.
    pub rate_per_s: Option<u32>,
    /// Who the credential belongs to.
    pub operator: String,
    /// Why, for those who look later.
    pub reason: Option<String>,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorAction {
    /// Its number; not every number is used.
    pub id: i64,
    /// When, by the database's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Who the credential belongs to.
    pub operator: String,
    /// Which kind of action.
    pub action: String,
    /// What it was done to.
    pub subject: String,
    /// Why.
    pub reason: Option<String>,
    /// What exactly, as JSON.
    pub terms: String,
}

/// Where the rate and what operators did are kept.
pub trait LaneRateStore: Send + Sync + 'static {
    /// The rate that was set last.
    fn rate(&self, broker: &BrokerId) -> impl Future<Output = Result<RateSetting, StoreError>> + Send;
    /// Sets it and writes down who did, in one transaction.
    fn set_rate(
        &self,
        broker: &BrokerId,
        change: &RateChange,
    ) -> impl Future<Output = Result<RateSetting, StoreError>> + Send;
}

/// The rate of this copy's lane, which follows what is set.
#[derive(Debug, Clone)]
pub struct LaneRate {
    control: LaneControl,
    configured_per_s: u32,
    per_s_max: u32,
    revision: Arc<Mutex<i64>>,
}

impl LaneRate {
    /// The rate of a lane that runs as configured so far, and the highest that may be in effect.
    #[must_use]
    pub fn new(control: LaneControl, configured_per_s: u32, per_s_max: u32) -> Self {
        Self { control, configured_per_s, per_s_max, revision: Arc::default() }
    }

    /// The lane.
    #[must_use]
    pub const fn control(&self) -> &LaneControl {
        &self.control
    }

    /// The rate where none is set.
    #[must_use]
    pub const fn configured_per_s(&self) -> u32 {
        self.configured_per_s
    }

    /// The highest rate that may be set.
    #[must_use]
    pub const fn per_s_max(&self) -> u32 {
        self.per_s_max
    }

    /// Puts a setting into effect, unless a later one is.
    pub fn apply(&self, setting: RateSetting) {
        let mut revision = self.revision.lock().unwrap_or_else(PoisonError::into_inner);
        if setting.revision > *revision {
            *revision = setting.revision;
            self.control.set_rate(setting.rate_per_s.unwrap_or(self.configured_per_s).min(self.per_s_max));
        }
    }
}

/// Follows what operators set at any copy. While the store does not answer, the last rate stays.
pub async fn follow<S: LaneRateStore>(
    store: Arc<S>,
    broker: BrokerId,
    rate: LaneRate,
    interval: Duration,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        let setting = tokio::select! {
            () = shutdown.cancelled() => return,
            setting = store.rate(&broker) => setting,
        };
        match setting {
            Ok(setting) => rate.apply(setting),
            Err(error) => tracing::warn!(error = %Chain(&error), "the rate of the lane could not be read"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::lane::{Lane, LanePolicy};
    use std::collections::VecDeque;

    const POLICY: LanePolicy = LanePolicy {
        rate_per_s: 100,
        burst: 10,
        unreachable_pause_first: Duration::from_millis(100),
        pause_max: Duration::from_secs(5),
        rate_limited_pause: Duration::from_secs(1),
    };

    fn rate() -> LaneRate {
        LaneRate::new(LaneControl::new(Lane::new(POLICY)), 100, 500)
    }

    const fn setting(rate_per_s: Option<u32>, revision: i64) -> RateSetting {
        RateSetting { rate_per_s, revision }
    }

    #[tokio::test]
    async fn what_was_read_earlier_never_undoes_what_was_set_later() {
        let rate = rate();
        for (read, in_effect) in [
            (setting(None, 0), 100),
            (setting(Some(7), 2), 7),
            (setting(Some(50), 1), 7),
            (setting(Some(501), 3), 500),
            (setting(None, 4), 100),
        ] {
            rate.apply(read);
            assert_eq!(rate.control().rate_per_s(), in_effect, "{read:?}");
        }
    }

    /// Answers in turn; then nothing any more.
    struct Answers(Mutex<VecDeque<Result<RateSetting, StoreError>>>, CancellationToken);

    impl LaneRateStore for Answers {
        async fn rate(&self, _broker: &BrokerId) -> Result<RateSetting, StoreError> {
            let next = self.0.lock().unwrap().pop_front();
            next.unwrap_or_else(|| {
                self.1.cancel();
                Ok(setting(None, 0))
            })
        }

        async fn set_rate(&self, _broker: &BrokerId, _change: &RateChange) -> Result<RateSetting, StoreError> {
            panic!("nobody sets it here")
        }
    }

    #[tokio::test]
    async fn a_copy_follows_what_is_set_and_keeps_it_while_the_store_does_not_answer() {
        let (rate, shutdown) = (rate(), CancellationToken::new());
        let failed = Err(StoreError::failed("read", std::io::Error::other("down")));
        let answers = Answers(Mutex::new(VecDeque::from([Ok(setting(Some(7), 1)), failed])), shutdown.clone());
        let broker = BrokerId::new("sim").unwrap();
        follow(Arc::new(answers), broker, rate.clone(), Duration::from_millis(1), shutdown).await;
        assert_eq!(rate.control().rate_per_s(), 7);
    }
}
