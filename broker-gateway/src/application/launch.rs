//! Who may write to the socket: every call of a lane starts here, after the commit that claimed it.
//!
//! A claim needs room first: free permits and the rate's leave. The lane waits for it; the intake, which claims new
//! orders in the transaction that brings them, takes what is there or leaves them to the lane.

use super::change::{CallTrace, Change};
use super::claim::{CallKind, PlannedCall, plan};
use super::lane_control::LaneControl;
use super::ports::{Caller, DatabaseMoment, Dialect, JitterSource};
use super::record::{CallOutcome, FinishedCall};
use super::request::Loaded;
use super::rules::Rules;
use super::wire::{WireRequest, WireResult};
use crate::domain::outcome::{CreateOutcome, LaneSignal};
use crate::domain::retry::{Jitter, Now};
use contracts::{AccountId, BrokerOrderId, OrderId};
use platform::clock::Clock;
use platform::telemetry::ORDERS;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tracing::field::display;

/// How many calls may be under way, and whether new ones may start.
#[derive(Debug)]
pub struct Room {
    permits: Arc<Semaphore>,
    concurrency_max: u32,
    claim_len_max: u32,
    is_open: AtomicBool,
}

impl Room {
    /// Room for so many calls at once, of which one claim takes so many at most. Closed until a lane runs.
    #[must_use]
    pub fn new(concurrency_max: u32, claim_len_max: u32) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(concurrency_max).unwrap_or(1)));
        Self { permits, concurrency_max, claim_len_max, is_open: AtomicBool::new(false) }
    }
}

/// The right to start some calls, with what they are made with.
#[derive(Debug)]
pub struct Admission {
    permits: Vec<OwnedSemaphorePermit>,
    /// Leave of the rate that is not used yet.
    granted: u32,
    control: LaneControl,
}

impl Admission {
    /// How many calls it is for.
    #[must_use]
    pub const fn calls(&self) -> u32 {
        self.granted
    }

    fn use_one(&mut self) -> Option<OwnedSemaphorePermit> {
        let left = self.granted.checked_sub(1)?;
        let permit = self.permits.pop()?;
        self.granted = left;
        Some(permit)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.control.give_back(self.granted);
    }
}

/// Why nothing may start now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// When to ask again.
    pub retry_in: Duration,
}

/// Starts the calls of a lane.
pub struct Launcher<C, D, J> {
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
    /// How many at once.
    pub room: Room,
    /// Takes ended calls.
    pub finished: mpsc::Sender<FinishedCall>,
}

/// What the intake needs of a lane to send new orders straight away.
pub trait Straight: Send + Sync {
    /// Room for up to `wanted` calls, if there is any now.
    fn admit_now(&self, wanted: u32) -> Option<Admission>;

    /// Works out what is written for requests and the calls that follow the commit.
    fn plan(&self, moment: DatabaseMoment, due: Vec<Loaded>) -> (Vec<Change>, Vec<PlannedCall>);

    /// Makes calls whose claim is committed. `since`: just before the database's time of the claim was asked for.
    fn start(&self, calls: Vec<PlannedCall>, admission: Admission, since: Instant);
}

impl<C: Caller, D: Dialect, J: JitterSource> Launcher<C, D, J> {
    /// Lets calls start.
    pub(super) fn open(&self) {
        self.room.is_open.store(true, Ordering::SeqCst);
    }

    /// Lets no call start any more and waits for those under way: each has its own time limit.
    pub(super) async fn drain(&self) {
        self.room.is_open.store(false, Ordering::SeqCst);
        let permits = &self.room.permits;
        let under_way =
            usize::try_from(self.room.concurrency_max).unwrap_or(1).saturating_sub(permits.available_permits());
        tracing::info!(under_way, "lane stops: waiting for the calls under way");
        // An admission that was given before holds permits too.
        if let Ok(all) = permits.acquire_many(self.room.concurrency_max).await {
            drop(all);
        }
    }

    /// Waits for a permit, and takes whatever else is free and the rate allows.
    pub(super) async fn admit(&self) -> Result<Admission, NoRoom> {
        let first = Arc::clone(&self.room.permits).acquire_owned().await;
        let first = first.map_err(|_| NoRoom { retry_in: Duration::from_secs(1) })?;
        self.admit_with(vec![first], self.room.claim_len_max)
    }

    fn admit_with(&self, mut permits: Vec<OwnedSemaphorePermit>, wanted: u32) -> Result<Admission, NoRoom> {
        let wanted = usize::try_from(wanted.min(self.room.claim_len_max)).unwrap_or(1);
        while permits.len() < wanted {
            let Ok(permit) = Arc::clone(&self.room.permits).try_acquire_owned() else { break };
            permits.push(permit);
        }
        let grant = self.control.take(u32::try_from(permits.len()).unwrap_or(u32::MAX));
        if grant.calls == 0 {
            return Err(NoRoom { retry_in: grant.retry_in });
        }
        // What the rate does not allow is left to others.
        permits.truncate(usize::try_from(grant.calls).unwrap_or(usize::MAX));
        Ok(Admission { permits, granted: grant.calls, control: self.control.clone() })
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

    fn start_one(&self, call: PlannedCall, permit: OwnedSemaphorePermit, since: Instant) {
        let (caller, dialect) = (Arc::clone(&self.caller), Arc::clone(&self.dialect));
        let (control, finished) = (self.control.clone(), self.finished.clone());
        let grace = self.rules.retry.send_grace;
        tokio::spawn(async move {
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

impl<C: Caller, D: Dialect, J: JitterSource> Straight for Launcher<C, D, J> {
    fn admit_now(&self, wanted: u32) -> Option<Admission> {
        if wanted == 0 || !self.room.is_open.load(Ordering::SeqCst) {
            return None;
        }
        let first = Arc::clone(&self.room.permits).try_acquire_owned().ok()?;
        self.admit_with(vec![first], wanted).ok()
    }

    fn plan(&self, moment: DatabaseMoment, due: Vec<Loaded>) -> (Vec<Change>, Vec<PlannedCall>) {
        plan(&self.rules, &*self.dialect, self.now(moment.at), due, || Jitter(self.jitter.permille()))
    }

    fn start(&self, calls: Vec<PlannedCall>, mut admission: Admission, since: Instant) {
        for call in calls {
            let Some(permit) = admission.use_one() else {
                // Its attempt expires and the broker is asked.
                tracing::error!(order_id = %call.order_id, "a call was claimed without room for it");
                continue;
            };
            self.start_one(call, permit, since);
        }
    }
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
