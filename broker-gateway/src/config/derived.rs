//! What the parts of the process are given.

use super::{EnforcementWord, Settings, invalid};
use crate::adapters::caller::CallerLimits;
use crate::adapters::intake::IntakeLimits;
use crate::application::lane::LaneLimits;
use crate::application::recorder::RecorderLimits;
use crate::application::reference::ReferenceIntervals;
use crate::application::rules::{Rules, Timings};
use crate::domain::lane::LanePolicy;
use crate::domain::live::LivePolicy;
use crate::domain::profile::{KeyEnforcement, Profile, ValidUntil};
use crate::domain::retry::RetryPolicy;
use contracts::BrokerId;
use platform::config::{ConfigError, DatabaseConfig};
use std::time::Duration;

fn span(milliseconds: i64) -> time::Duration {
    time::Duration::milliseconds(milliseconds)
}

impl Settings {
    /// What the broker promises, checked.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] for a profile that contradicts itself or our timeouts.
    pub fn profile(&self) -> Result<Profile, ConfigError> {
        let settings = &self.profile;
        let key_enforcement = match (settings.key_enforcement, settings.key_window_ms) {
            (EnforcementWord::Window, window) if window > 0 => KeyEnforcement::Window(span(window)),
            (EnforcementWord::Never, 0) => KeyEnforcement::Never,
            (EnforcementWord::Always, 0) => KeyEnforcement::Always,
            _ => {
                return Err(invalid(
                    "profile.key_window_ms must be above zero with profile.key_enforcement = \"window\", and 0 otherwise",
                ));
            }
        };
        let stated = |milliseconds: i64| (milliseconds >= 0).then(|| span(milliseconds));
        let valid_until = if settings.honours_valid_until {
            ValidUntil::Honoured { record_lag_max: stated(settings.record_lag_max_ms) }
        } else {
            ValidUntil::Ignored
        };
        let broker = BrokerId::new(self.broker.id.as_str()).map_err(|error| invalid(format!("broker.id: {error}")))?;
        let profile = Profile {
            broker,
            key_accepted: settings.key_accepted,
            key_looked_up: settings.key_looked_up,
            key_enforcement,
            valid_until,
            longest_flight: stated(settings.longest_flight_ms),
            clock_skew_max: span(settings.clock_skew_max_ms),
            rate_limited_is_unprocessed: settings.rate_limited_is_unprocessed,
        };
        let call_timeout = span(i64::try_from(self.broker.call_timeout_ms).unwrap_or(i64::MAX));
        profile.check(call_timeout).map_err(|error| invalid(format!("profile: {error}")))?;
        Ok(profile)
    }

    /// Promises and patience.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`], as [`Settings::profile`].
    pub fn rules(&self) -> Result<Rules, ConfigError> {
        let (retry, live) = (&self.retry, &self.live);
        let minutes = |count: i64| span(count.saturating_mul(retry.minute_ms));
        let lookup_delay_max = minutes(1).max(span(retry.lookup_delay_first_ms));
        let call_timeout = span(i64::try_from(self.broker.call_timeout_ms).unwrap_or(i64::MAX));
        Ok(Rules {
            profile: self.profile()?,
            retry: RetryPolicy {
                ladder: retry.ladder_minutes.iter().copied().map(minutes).collect(),
                lookup_delay_first: span(retry.lookup_delay_first_ms),
                lookup_delay_max,
                unsent_delay_first: span(retry.unsent_delay_first_ms),
                unsent_delay_max: span(retry.unsent_delay_max_ms),
                doubt_max: minutes(retry.doubt_max_minutes),
                send_grace: span(retry.send_grace_ms),
                reviewed_since: time::OffsetDateTime::UNIX_EPOCH,
                review_hold_max: span(retry.review_hold_max_ms),
            },
            live: LivePolicy {
                tries_max: live.tries_max,
                delay_first: span(live.delay_first_ms),
                delay_max: span(live.delay_max_ms),
            },
            timings: Timings {
                send_grace: span(retry.send_grace_ms),
                call_timeout,
                record_grace: span(retry.record_grace_ms),
                valid_for: minutes(retry.valid_for_minutes),
            },
        })
    }

    /// The one connection that renews leases.
    #[must_use]
    pub fn lease_database(&self) -> DatabaseConfig {
        DatabaseConfig { connections_max: 1, ..self.database.clone() }
    }

    /// Rate and pauses.
    #[must_use]
    pub const fn lane_policy(&self) -> LanePolicy {
        let lane = &self.lane;
        LanePolicy {
            rate_per_s: lane.rate_per_s,
            burst: lane.burst,
            unreachable_pause_first: Duration::from_millis(lane.unreachable_pause_first_ms),
            pause_max: Duration::from_millis(lane.pause_max_ms),
            rate_limited_pause: Duration::from_millis(lane.rate_limited_pause_ms),
        }
    }

    /// Limits of claiming.
    #[must_use]
    pub const fn lane_limits(&self) -> LaneLimits {
        let lane = &self.lane;
        LaneLimits {
            concurrency_max: lane.concurrency_max,
            claim_len_max: lane.claim_len_max,
            poll_interval: Duration::from_millis(lane.poll_interval_ms),
            claim_interval: Duration::from_millis(lane.claim_interval_ms),
            error_delay: Duration::from_millis(lane.error_delay_ms),
        }
    }

    /// Limits of recording.
    #[must_use]
    pub const fn recorder_limits(&self) -> RecorderLimits {
        let lane = &self.lane;
        RecorderLimits {
            batch_len_max: lane.record_len_max,
            interval: Duration::from_millis(lane.record_interval_ms),
            error_delay: Duration::from_millis(lane.error_delay_ms),
            give_up_after: Duration::from_millis(lane.record_give_up_ms),
        }
    }

    /// Limits of taking others' logs in.
    #[must_use]
    pub const fn intake_limits(&self) -> IntakeLimits {
        let intake = &self.intake;
        IntakeLimits {
            slices_max: intake.slices_max,
            orders_interval: Duration::from_millis(intake.orders_interval_ms),
            evidence_interval: Duration::from_millis(intake.evidence_interval_ms),
        }
    }

    /// Limits of calls about orders.
    #[must_use]
    pub fn caller_limits(&self) -> CallerLimits {
        let broker = &self.broker;
        CallerLimits {
            connect_timeout: Duration::from_millis(broker.connect_timeout_ms),
            call_timeout: Duration::from_millis(broker.call_timeout_ms),
            idle_timeout: Duration::from_millis(broker.idle_timeout_ms),
            idle_connections_max: usize::try_from(self.lane.concurrency_max).unwrap_or(usize::MAX),
            body_len_max: broker.body_len_max,
        }
    }

    /// Limits of calls about assets and prices.
    #[must_use]
    pub fn reference_limits(&self) -> CallerLimits {
        CallerLimits { idle_connections_max: 2, body_len_max: self.reference.body_len_max, ..self.caller_limits() }
    }

    /// How often the broker is asked for assets and prices.
    #[must_use]
    pub const fn reference_intervals(&self) -> ReferenceIntervals {
        ReferenceIntervals {
            assets: Duration::from_millis(self.reference.assets_interval_ms),
            prices: Duration::from_millis(self.reference.prices_interval_ms),
        }
    }
}
