//! The lane: claims due requests, makes their calls, and hands the ends to the recorder.
//!
//! One task claims; each call runs in a task of its own and is awaited to its end, so that rate and
//! concurrency are what they say. Only the task that claimed a call makes it, once, and an attempt
//! whose grace is over writes nothing.

use super::chain::Chain;
use super::change::CallTrace;
use super::claim::{CallKind, PlannedCall, plan};
use super::ports::{Caller, Dialect, JitterSource, LaneStore, StoreError};
use super::record::{CallOutcome, FinishedCall};
use super::rules::Rules;
use super::wire::{WireRequest, WireResult};
use crate::domain::lane::Lane;
use crate::domain::outcome::{CreateOutcome, LaneSignal};
use crate::domain::retry::{Jitter, Now};
use contracts::{AccountId, BrokerOrderId, OrderId};
use platform::clock::Clock;
use platform::pace::Pace;
use platform::telemetry::ORDERS;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::field::display;

/// Limits of the claiming task.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// Most calls at once.
    pub concurrency_max: u32,
    /// Most requests in one claim.
    pub claim_len_max: u32,
    /// Longest time between two looks at the store.
    pub poll_interval: Duration,
    /// How far apart claims of many requests begin.
    pub claim_interval: Duration,
    /// Wait after a claim that failed.
    pub error_delay: Duration,
}

/// The rate and pause of a lane, shared with the operator port.
#[derive(Debug, Clone)]
pub struct LaneControl {
    lane: Arc<Mutex<Lane>>,
    started: Instant,
}

impl LaneControl {
    /// Control of a new lane.
    #[must_use]
    pub fn new(lane: Lane) -> Self {
        show_rate(lane.rate_per_s());
        Self { lane: Arc::new(Mutex::new(lane)), started: Instant::now() }
    }

    fn lock(&self) -> MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rate of all copies together from now on, in this one.
    pub fn set_rate(&self, rate_per_s: u32) {
        self.lock().set_rate(self.started.elapsed(), rate_per_s);
        show_rate(rate_per_s);
        tracing::info!(rate_per_s, "lane rate changed");
    }

    /// Shares the rate among this many copies of the gateway from now on.
    pub fn share(&self, copies: u32) {
        let mut lane = self.lock();
        lane.share(self.started.elapsed(), copies);
        metrics::gauge!("gateway_lane_copies").set(f64::from(lane.lanes()));
    }

    /// Starts no call for a while.
    pub fn hold(&self, pause: Duration) {
        self.lock().hold(self.started.elapsed(), pause);
    }

    /// How many copies of the gateway share the rate.
    #[must_use]
    pub fn copies(&self) -> u32 {
        self.lock().lanes()
    }

    /// Calls a second, of all copies together.
    #[must_use]
    pub fn rate_per_s(&self) -> u32 {
        self.lock().rate_per_s()
    }

    /// For how long nothing may start.
    #[must_use]
    pub fn paused_for(&self) -> Duration {
        self.lock().paused_for(self.started.elapsed())
    }

    fn observe(&self, signal: LaneSignal) {
        let mut lane = self.lock();
        lane.observe(self.started.elapsed(), signal);
        if !matches!(signal, LaneSignal::Reached | LaneSignal::Silent) {
            let paused = lane.paused_for(self.started.elapsed());
            metrics::gauge!("gateway_lane_pause_seconds").set(paused.as_secs_f64());
        }
    }
}

/// Shown as the time between two calls, so that with the calls made it gives the lane's use. Without a
/// rate it is without an end.
fn show_rate(rate_per_s: u32) {
    let interval = Duration::from_secs(1).checked_div(rate_per_s).map_or(f64::INFINITY, |time| time.as_secs_f64());
    metrics::gauge!("gateway_lane_call_interval_seconds").set(interval);
}

/// Everything that a lane works with.
pub struct LaneWorker<S, C, D, J> {
    /// The requests.
    pub store: Arc<S>,
    /// The broker's socket.
    pub caller: Arc<C>,
    /// The broker's language.
    pub dialect: Arc<D>,
    /// Jitter of waits.
    pub jitter: J,
    /// The local clock, to be compared with the database's.
    pub clock: Arc<dyn Clock>,
    /// Promises and patience.
    pub rules: Arc<Rules>,
    /// Rate and pause.
    pub control: LaneControl,
    /// Limits.
    pub limits: LaneLimits,
    /// Rings after an intake or a record that may have made work.
    pub wake: Arc<Notify>,
    /// Takes ended calls.
    pub finished: mpsc::Sender<FinishedCall>,
}

/// What a round of claiming came to.
enum Round {
    /// As many as asked for: there may be more.
    Full,
    /// Fewer: wait to be woken.
    Idle,
    /// Not now: rate, pause, or trouble.
    Wait(Duration),
}

impl<S: LaneStore, C: Caller, D: Dialect, J: JitterSource> LaneWorker<S, C, D, J> {
    /// Works until `shutdown`, then waits for the calls under way: each has its own time limit.
    pub async fn run(self, shutdown: CancellationToken) {
        let permits = Arc::new(Semaphore::new(usize::try_from(self.limits.concurrency_max).unwrap_or(1)));
        let mut calls = JoinSet::new();
        let full_len = usize::try_from(self.limits.claim_len_max).unwrap_or(usize::MAX);
        let mut pace = Pace::new(self.limits.claim_interval, full_len);
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = pace.wait() => {}
                () = shutdown.cancelled() => break,
            }
            let began = Instant::now();
            // Armed before the claim, so that what is committed during it is not missed.
            let woken = self.wake.notified();
            let under_way = calls.len();
            let round = self.round(&permits, &mut calls, &shutdown).await;
            pace.worked(began, calls.len().saturating_sub(under_way));
            while calls.try_join_next().is_some() {}
            let pause = match round {
                Round::Full => continue,
                Round::Idle => self.limits.poll_interval,
                Round::Wait(pause) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = shutdown.cancelled() => {}
                    }
                    continue;
                }
            };
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => {}
            }
        }
        let under_way = calls.len();
        tracing::info!(under_way, "lane stops: waiting for the calls under way");
        while calls.join_next().await.is_some() {}
    }

    async fn round(&self, permits: &Arc<Semaphore>, calls: &mut JoinSet<()>, shutdown: &CancellationToken) -> Round {
        // At least one permit, then whatever else is free.
        let first = tokio::select! {
            permit = Arc::clone(permits).acquire_owned() => permit,
            () = shutdown.cancelled() => return Round::Idle,
        };
        let Ok(first) = first else { return Round::Wait(self.limits.error_delay) };
        let mut held = vec![first];
        while held.len() < usize::try_from(self.limits.claim_len_max).unwrap_or(1) {
            let Ok(permit) = Arc::clone(permits).try_acquire_owned() else { break };
            held.push(permit);
        }
        let wanted = u32::try_from(held.len()).unwrap_or(u32::MAX);
        let grant = self.control.lock().take(self.control.started.elapsed(), wanted);
        if grant.calls == 0 {
            return Round::Wait(grant.retry_in.clamp(Duration::from_millis(1), self.limits.poll_interval));
        }
        let (seen, planned) = match self.claim(grant.calls).await {
            Ok(claimed) => claimed,
            Err(error) => {
                // Also an unknown commit: what it may have claimed is given up by the deadline, and
                // nothing is written to the socket.
                self.control.lock().give_back(grant.calls);
                metrics::counter!("gateway_store_errors_total", "operation" => "claim").increment(1);
                tracing::error!(error = %Chain(&error), "due requests could not be claimed");
                return Round::Wait(self.limits.error_delay);
            }
        };
        let made = u32::try_from(planned.len()).unwrap_or(u32::MAX);
        self.control.lock().give_back(grant.calls.saturating_sub(made));
        for (call, permit) in planned.into_iter().zip(held) {
            self.start(call, permit, seen.since, calls);
        }
        // A claim that was cut short by permits or rate goes on as soon as there are more.
        if seen.due >= grant.calls { Round::Full } else { Round::Idle }
    }

    async fn claim(&self, limit: u32) -> Result<(Seen, Vec<PlannedCall>), StoreError> {
        let began = Instant::now();
        let mut since = began;
        let mut planned = Vec::new();
        let due = self
            .store
            .claim(limit, self.rules.review_hold(), |moment, due| {
                // The grace runs from before the database's time was read, so that it is never longer
                // than it looks.
                since = moment.asked_at;
                let jitter = || Jitter(self.jitter.permille());
                let (changes, calls) = plan(&self.rules, &*self.dialect, self.now(moment.at), due, jitter);
                planned = calls;
                changes
            })
            .await?;
        if due > 0 {
            metrics::histogram!("gateway_claim_requests").record(f64::from(due));
            metrics::histogram!("gateway_claim_duration_seconds").record(began.elapsed().as_secs_f64());
        }
        Ok((Seen { due, since }, planned))
    }

    /// The database's time, believed as long as it agrees with the local clock.
    fn now(&self, at: OffsetDateTime) -> Now {
        let difference = (at - self.clock.now()).abs();
        // Between the statement and this line lies a round trip.
        let is_trusted = difference <= self.rules.profile.clock_skew_max.saturating_add(time::Duration::SECOND);
        if !is_trusted {
            metrics::counter!("gateway_clock_disagreements_total").increment(1);
            tracing::error!(difference_ms = %difference.whole_milliseconds(), "database and local clock disagree");
        }
        Now { at, is_trusted }
    }

    fn start(&self, call: PlannedCall, permit: OwnedSemaphorePermit, since: Instant, calls: &mut JoinSet<()>) {
        let (caller, dialect) = (Arc::clone(&self.caller), Arc::clone(&self.dialect));
        let (control, finished) = (self.control.clone(), self.finished.clone());
        let grace = self.rules.retry.send_grace;
        calls.spawn(async move {
            let ended = make(&*caller, &*dialect, &control, call, since, grace).await;
            // The permit goes back when the end has a place in the recorder's queue: a recorder that
            // cannot keep up slows the lane down.
            if finished.send(ended).await.is_err() {
                tracing::error!("the recorder is gone: the end of a call will be unknown after its deadline");
            }
            drop(permit);
        });
    }
}

struct Seen {
    due: u32,
    since: Instant,
}

async fn make<C: Caller, D: Dialect>(
    caller: &C,
    dialect: &D,
    control: &LaneControl,
    call: PlannedCall,
    since: Instant,
    grace: time::Duration,
) -> FinishedCall {
    let PlannedCall { order_id, account_id, broker_order_id, key, kind, request, attempt } = call;
    let grace = Duration::try_from(grace).unwrap_or_default();
    if matches!(kind, CallKind::Create { .. }) && since.elapsed() > grace {
        let reason = "the grace between claim and socket was over".to_owned();
        metrics::counter!("gateway_send_grace_exceeded_total").increment(1);
        let trace = CallTrace { detail: Some(reason.clone()), ..CallTrace::default() };
        let outcome = CallOutcome::Create(CreateOutcome::NotSent { reason });
        return FinishedCall { order_id, kind, outcome, trace, attempt };
    }
    let in_flight = metrics::gauge!("gateway_calls_in_flight");
    in_flight.increment(1.0);
    let began = Instant::now();
    let mut step = platform::trace::call("broker.call", order_id);
    if let Some(step) = &mut step {
        step.note("call", kind.as_str());
    }
    let traceparent = step.as_ref().map(platform::trace::Step::traceparent);
    platform::kill_point!("broker-gateway.before-socket", if matches!(kind, CallKind::Create { .. }));
    let result = caller.call(WireRequest { traceparent, ..request }).await;
    platform::kill_point!("broker-gateway.after-socket", if matches!(kind, CallKind::Create { .. }) && result.is_ok());
    let took = began.elapsed();
    in_flight.decrement(1.0);
    let outcome = match kind {
        CallKind::Create { .. } => CallOutcome::Create(dialect.read_create(key, &result)),
        CallKind::Ask { .. } | CallKind::Observe { .. } => CallOutcome::Lookup(dialect.read_lookup(key, &result)),
        CallKind::Cancel { .. } => CallOutcome::Cancel(dialect.read_cancel(&result)),
    };
    if let Some(step) = &mut step {
        step.note("outcome", outcome.as_str());
    }
    drop(step);
    metrics::histogram!("gateway_call_duration_seconds", "call" => kind.as_str(), "outcome" => outcome.as_str())
        .record(took.as_secs_f64());
    let signal = if dialect.is_unauthorized(&result) { LaneSignal::Unauthorized } else { outcome.signal() };
    if signal == LaneSignal::Unauthorized {
        tracing::error!(order_id = %order_id, account_id = %account_id, attempt = kind.attempt(),
            "the broker does not take our credentials: the lane pauses");
    }
    control.observe(signal);
    let trace = trace(dialect, &result, &outcome, took);
    let broker_order_id = broker_order_id.as_ref().or_else(|| outcome.broker_order_id());
    tell(order_id, account_id, broker_order_id, kind, &outcome, &trace);
    FinishedCall { order_id, kind, outcome, trace, attempt }
}

/// Writes the end of a call into the log: a warning where it leaves a doubt, else for who asks for all steps.
fn tell(
    order_id: OrderId,
    account_id: AccountId,
    broker_order_id: Option<&BrokerOrderId>,
    kind: CallKind,
    outcome: &CallOutcome,
    trace: &CallTrace,
) {
    let (call, attempt, ended) = (kind.as_str(), kind.attempt(), outcome.as_str());
    let (broker_order_id, http_status) = (broker_order_id.map(display), trace.http_status);
    if outcome.signal() == LaneSignal::Silent {
        tracing::warn!(%order_id, %account_id, broker_order_id, call, attempt, outcome = ended, http_status,
            took_us = trace.duration_us, detail = trace.detail, "outcome of a call to the broker is not known");
    } else {
        tracing::debug!(target: ORDERS, %order_id, %account_id, broker_order_id, call, attempt, outcome = ended,
            http_status, broker_code = trace.broker_code, took_us = trace.duration_us, "call to the broker ended");
    }
}

fn trace<D: Dialect>(dialect: &D, result: &WireResult, outcome: &CallOutcome, took: Duration) -> CallTrace {
    CallTrace {
        http_status: result.as_ref().ok().map(|reply| reply.status),
        broker_code: dialect.broker_code(result),
        detail: outcome.detail(),
        duration_us: i64::try_from(took.as_micros()).ok(),
    }
}

#[cfg(test)]
mod tests;
